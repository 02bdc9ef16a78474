"""Where commands hand over to one another: what one writes, the next has to take, refuse in one line, or mention."""

import json
import re

import pytest
import torch

from fixtures.checksums import forget_checksums
from fixtures.feature_folders import IDENTITY, write_table
from fixtures.own_code import remote
from fixtures.preference_files import write_preferences
from fixtures.tiny_models import save
from qbrm import EnergyRewardModel
from qbrm.energies import ENERGY_SCORES, RBM
from qbrm.errors import InputError
from qbrm.features import FeatureTable, build_features
from qbrm.features.pair_list import PairList, read_pairs, write_pair_list
from qbrm.preferences import read_preferences
from qbrm.reward_models import load_reward_model
from qbrm.samplers import SAMPLERS
from qbrm_lab.methods import METHODS
from qbrm_lab.scenarios import SCENARIOS

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def rm(tmp_path):
    return save(tmp_path / "rm")


@pytest.fixture
def rm_with_code(rm, tmp_path, monkeypatch):
    """A reward model with code of its own, whose tensors the class of transformers takes as well."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    remote(rm)
    return rm


def refine(reward_model):
    torch.manual_seed(0)
    return EnergyRewardModel(reward_model, RBM(reward_model.dim, hidden=4))


def test_a_score_trained_with_a_models_own_code_is_not_loaded_without_it(rm_with_code, tmp_path):
    trained = load_reward_model(str(rm_with_code), trust_remote_code=True)
    refine(trained).save_pretrained(tmp_path / "refined")
    with pytest.raises(InputError, match=r"was trained on .*rm@\w+ with the model's own code; .*--trust-remote-code"):
        EnergyRewardModel.from_pretrained(tmp_path / "refined")
    held = EnergyRewardModel.from_pretrained(tmp_path / "refined", trust_remote_code=True)
    assert held.reward_model.identity == trained.identity


def test_features_of_the_models_own_code_are_not_added_to_without_it(rm_with_code, tmp_path):
    """The class of transformers takes the same tensors, so that nothing else would tell."""
    own, library = (load_reward_model(str(rm_with_code), trust_remote_code=trust) for trust in (True, False))
    assert (own.identity.own_code, library.identity.own_code) == (True, False)
    prefs = read_preferences(write_preferences(tmp_path / "prefs.jsonl", 0, 2))
    build_features(own, prefs, tmp_path / "features")
    assert FeatureTable.open(tmp_path / "features").identity.own_code
    with pytest.raises(InputError, match=r"own_code"):
        build_features(library, prefs, tmp_path / "features")


def test_manifests_from_before_own_code_was_recorded_still_read(tmp_path):
    folder = write_table(tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["identity"]["own_code"]
    forget_checksums(folder)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert FeatureTable.open(folder).identity == IDENTITY


@pytest.fixture
def refined(rm, tmp_path):
    """A refined reward model whose reward model has moved since."""
    refine(load_reward_model(str(rm))).save_pretrained(tmp_path / "refined")
    rm.rename(tmp_path / "moved")
    return tmp_path / "refined"


def test_evaluate_and_serve_are_told_where_and_how_the_reward_model_runs(command, started, refined, tmp_path):
    prefs = write_preferences(tmp_path / "prefs.jsonl", 0, 6)
    loaded = ["--reward-model", tmp_path / "moved", "--dtype", "bfloat16"]
    evaluate = ["evaluate", refined, "--on", prefs, "--out", tmp_path / "out"]
    serve = ["serve", refined, "--port", 0]
    for arguments in (evaluate, serve):
        code, _, err = command(*arguments)
        assert (code, "--reward-model" in err) == (2, True)
        assert command(*arguments, *loaded)[0] == 0
    assert FeatureTable.open(tmp_path / "out" / "features").identity.dtype == "bfloat16"
    assert len(started) == 1


def test_code_of_the_reward_model_is_allowed_to_evaluate_and_serve(command, started, rm_with_code, tmp_path):
    refine(load_reward_model(str(rm_with_code), trust_remote_code=True)).save_pretrained(tmp_path / "refined")
    prefs = write_preferences(tmp_path / "prefs.jsonl", 0, 6)
    for arguments in (
        ["evaluate", tmp_path / "refined", "--on", prefs, "--out", tmp_path / "out"],
        ["serve", tmp_path / "refined", "--port", 0],
    ):
        code, _, err = command(*arguments)
        assert (code, "--trust-remote-code" in err) == (2, True)
        assert command(*arguments, "--trust-remote-code")[0] == 0


def test_a_refined_model_is_loaded_from_any_working_directory(rm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refine(load_reward_model("rm")).save_pretrained("refined")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    held = EnergyRewardModel.from_pretrained(tmp_path / "refined")
    assert held.reward_model.identity.name == str(rm)
    assert "Refines the rewards of `rm`" in (tmp_path / "refined" / "README.md").read_text()


def test_a_reward_model_that_is_gone_is_one_line_that_says_how_to_name_it(refined, rm):
    with pytest.raises(InputError, match=rf"was trained on {rm}@\w{{7}}, which is not a folder here; .*--reward-model"):
        EnergyRewardModel.from_pretrained(refined)


def test_what_is_pushed_does_not_tell_where_folders_are_on_this_machine(rm, tmp_path, monkeypatch):
    pushed = {}

    def upload(folder, name, **options):
        pushed.update({path.name: path.read_bytes() for path in folder.iterdir()})

    monkeypatch.setattr("qbrm.model.energy_reward_model.upload", upload)
    refine(load_reward_model(str(rm))).push_to_hub("me/refined")
    assert json.loads(pushed["config.json"])["reward_model"]["name"] == "rm"
    assert not any(str(tmp_path).encode() in content for content in pushed.values())


def test_evaluate_says_how_many_of_its_prompts_trained_the_score(command, rm, tmp_path):
    prefs = write_preferences(tmp_path / "prefs.jsonl", 0, 24)
    mixed = write_preferences(tmp_path / "mixed.jsonl", 20, 10)
    heldout = write_preferences(tmp_path / "heldout.jsonl", 24, 6)
    embed = ["embed", prefs, "--reward-model", rm, "--embedding", "last", "--out", tmp_path / "features"]
    assert command(*embed)[0] == 0
    train = ["train", tmp_path / "features", "--score", "rbm", "--epochs", 1, "--out", tmp_path / "model"]
    assert command(*train)[0] == 0
    evaluate = ["evaluate", tmp_path / "model", "--on", f"{mixed},{heldout}", "--out", tmp_path / "out"]
    code, printed, _ = command(*evaluate)
    assert (code, printed.count("prompts trained this score")) == (0, 1)
    assert "4 of 10 prompts trained this score" in printed
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())["benchmarks"]
    assert [benchmark["prompts_trained_on"] for benchmark in found] == [4, 0]
    (tmp_path / "model" / "training-prompts.npy").unlink()
    assert "which prompts trained this score is not recorded" in command(*evaluate)[1]


def test_a_comparison_remembers_the_prompts_of_its_training_too(command, rm, tmp_path, monkeypatch):
    monkeypatch.setattr("qbrm_lab.report.write.pictures", lambda part, number: [])
    prefs, test = (write_preferences(tmp_path / f"{first}.jsonl", first, 24) for first in (0, 30))
    compare = ["compare", "--train", prefs, "--test", test, "--out", tmp_path / "out", "--methods", "rbm"]
    assert command(*compare, "--seeds", 1, "--epochs", 1, "--reward-model", rm)[0] == 0
    evaluate = ["evaluate", tmp_path / "out" / "models" / "rbm-fresh-seed-0", "--on", f"{prefs},{test}"]
    code, printed, _ = command(*evaluate, "--out", tmp_path / "evaluation")
    assert (code, printed.count("prompts trained this score")) == (0, 1)
    assert "24 of 24 prompts trained this score" in printed


def test_the_card_of_a_trained_score_states_source_split_and_settings(command, rm, tmp_path):
    prefs = write_preferences(tmp_path / "tea.jsonl", 0, 24)
    assert command("embed", prefs, "--reward-model", rm, "--out", tmp_path / "features")[0] == 0
    assert (
        command("train", tmp_path / "features", "--score", "ebrm", "--epochs", 2, "--out", tmp_path / "model")[0] == 0
    )
    card = (tmp_path / "model" / "README.md").read_text()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in card.splitlines() if line[:1] == "|"]
    trained, held_out = (next(row for row in cells if row[0].startswith(role)) for role in ("trains", "held out"))
    assert "tea.jsonl" in trained[1]
    assert "tea.jsonl" in held_out[1]
    prompts, pairs = ((int(trained[column]), int(held_out[column])) for column in (2, 3))
    assert prompts == (21, 3)  # an eighth of 24
    assert sum(pairs) == len(read_pairs(FeatureTable.open(tmp_path / "features")).chosen)
    settings = {row[0]: row[1] for row in cells if len(row) == 2}
    expected = {"epochs": "2", "batch_pairs": "128", "learning_rate": "9e-05", "weight_decay": "0.01"}
    expected |= {"filter_conflicts": "True", "refinement": "ascent", "objective": "nce", "seed": "0"}
    assert expected.items() <= settings.items()
    assert "None; run `qbrm evaluate`." in card


@pytest.mark.parametrize(
    ("name", "registries"),
    [("demo", [METHODS]), ("compare", [METHODS, SCENARIOS, SAMPLERS]), ("train", [ENERGY_SCORES])],
)
def test_help_names_all_that_can_be_asked_for(command, monkeypatch, name, registries):
    monkeypatch.setenv("COLUMNS", "400")  # no name is folded
    code, printed, _ = command(name, "--help")
    words = set(re.findall(r"[\w-]+", printed))
    assert code == 0
    for registry in registries:
        assert set(registry) <= words


def test_models_of_one_name_are_evaluated_into_folders_of_their_own(command, rm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prefs = write_preferences(tmp_path / "prefs.jsonl", 0, 6)
    for parent in ("a", "b"):
        refine(load_reward_model(str(rm))).save_pretrained(tmp_path / parent / "model")
        assert command("evaluate", f"{parent}/model", "--on", prefs)[0] == 0
    assert command("evaluate", tmp_path / "a" / "model", "--on", prefs)[0] == 0  # another way to write the first
    assert len(list((tmp_path / "runs" / "evaluation").glob("model-*/evaluation.json"))) == 2


def test_filtering_that_leaves_nothing_says_what_was_expected(command, tmp_path):
    folder = write_table(tmp_path / "features")
    table = FeatureTable.open(folder)
    pairs = read_pairs(table)
    rewards = table.rows(table.keys()).reward
    contradicted = rewards[pairs.chosen] < rewards[pairs.rejected]
    columns = (column[contradicted] for column in pairs[:3])
    write_pair_list(table, PairList(*columns, prompts=int(contradicted.sum())))
    code, _, err = command("train", folder, "--score", "ebrm", "--out", tmp_path / "model")
    assert (code, "left 0 of" in err) == (2, True)
