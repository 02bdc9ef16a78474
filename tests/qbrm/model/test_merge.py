"""`merge` and `qbrm merge`: models that were fitted apart become one, saved and served like any other."""

import json

import numpy as np
import pytest
import torch

from fixtures.preference_files import write_preferences
from fixtures.refined_models import model, reward_model, score
from fixtures.serving_client import serving
from fixtures.tiny_models import save
from qbrm import EnergyRewardModel, InputError, load_reward_model, merge
from qbrm.data.pairs import PairData
from qbrm.energies import RBM, Product
from qbrm.energies.candidates import CandidateMachine
from qbrm.fitting.calibration import mean_loss
from qbrm.fitting.objectives import PreferenceLikelihood
from qbrm.model.merge import weights_by_validation
from qbrm.preferences import preferences_of
from qbrm.preferences.digest import prompt_digests

pytestmark = pytest.mark.usefixtures("one_thread")
PROMPTS, RESPONSES = ["What is tea?", "What is tea?", "Who?"], ["A drink.", "Nothing at all.", "You."]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save(tmp_path_factory.mktemp("rm") / "rm")


def refined(base, seed, prompts=(0, 24)):
    machine = score("rbm" if seed % 2 else "sqrbm", seed=seed)
    resized = type(machine)(16, hidden=4)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in resized.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        resized.reward_scale.fill_(0.5 + seed)
    resized.close_gate(torch.randn(40, 16), torch.randn(20, 16))
    digests = np.arange(*prompts, dtype=np.uint64)
    return EnergyRewardModel(load_reward_model(str(base), embedding="last"), resized, training_prompts=digests)


@pytest.fixture(scope="module")
def saved(base, tmp_path_factory):
    folders = [tmp_path_factory.mktemp("models") / name for name in ("help", "harm")]
    for seed, folder in enumerate(folders):
        refined(base, seed, prompts=(10 * seed, 10 * seed + 15)).save_pretrained(folder)
    return folders


def test_a_merged_model_is_saved_and_loaded_as_any_other(base, tmp_path):
    both = merge([refined(base, 0), refined(base, 1)], "familiarity")
    both.save_pretrained(tmp_path)
    again = EnergyRewardModel.from_pretrained(tmp_path)
    first, second = (each.score(PROMPTS, RESPONSES) for each in (both, again))
    torch.testing.assert_close(first.refined, second.refined, rtol=0, atol=0)
    assert again.prefer("What is tea?", *RESPONSES[:2]) == both.prefer("What is tea?", *RESPONSES[:2])


def test_merging_leaves_the_models_as_they_are_and_shares_nothing_with_them(base):
    models = [refined(base, seed) for seed in (0, 1)]
    before = [each.score(PROMPTS, RESPONSES).refined for each in models]
    both = merge(models)
    with torch.no_grad():
        for parameter in both.energy_score.parameters():
            parameter.zero_()
    for each, expected in zip(models, before, strict=True):
        assert torch.equal(each.score(PROMPTS, RESPONSES).refined, expected)


def test_the_command_merges_without_the_weights_of_the_reward_model(saved, base, qbrm_command, tmp_path, monkeypatch):
    monkeypatch.setattr("qbrm.model.persistence.load_reward_model", lambda *given, **options: pytest.fail("loaded"))
    ended = qbrm_command("merge", *saved, "--out", tmp_path / "both", "--weights", "1,3")
    assert ended.code == 0, ended.err
    assert "0.25, 0.75" in ended.out
    assert "none: what was merged was not measured" in ended.out
    monkeypatch.undo()
    both = EnergyRewardModel.from_pretrained(tmp_path / "both")
    expected = merge([EnergyRewardModel.from_pretrained(folder) for folder in saved], [0.25, 0.75])
    refined = [each.score(PROMPTS, RESPONSES).refined for each in (both, expected)]
    torch.testing.assert_close(*refined, rtol=0, atol=1e-6)


def test_the_card_and_the_provenance_say_what_was_not_measured(saved, qbrm_command, tmp_path):
    assert qbrm_command("merge", *saved, "--out", tmp_path / "both").code == 0
    both = EnergyRewardModel.from_pretrained(tmp_path / "both")
    assert both.verdict is None
    assert both.provenance.merged == tuple(map(str, saved))
    card = (tmp_path / "both" / "README.md").read_text()
    assert "None. This model was merged from" in card
    assert "no prompts have judged" in card
    assert "machine 2" in card
    assert not (tmp_path / "both" / "verdict.json").exists()


def test_prompts_that_trained_any_of_them_are_known(saved, qbrm_command, tmp_path):
    assert qbrm_command("merge", *saved, "--out", tmp_path / "both").code == 0
    assert EnergyRewardModel.from_pretrained(tmp_path / "both").training_prompts.tolist() == list(range(25))


def test_where_one_does_not_know_its_prompts_neither_does_what_was_merged(base):
    models = [refined(base, 0), refined(base, 1)]
    models[1].training_prompts = None
    assert merge(models).training_prompts is None


def test_preferences_set_weights_and_temperature(saved, qbrm_command, tmp_path):
    prefs = write_preferences(tmp_path / "prefs.jsonl", 0, 24)
    ended = qbrm_command("merge", *saved, "--out", tmp_path / "both", "--on", prefs)
    assert ended.code == 0, ended.err
    both = EnergyRewardModel.from_pretrained(tmp_path / "both")
    assert both.provenance.settings["temperature"] == "set on prefs.jsonl"
    assert both.provenance.data[-1].role == "sets weights and temperature"
    assert len(both.training_prompts) == 25 + 24


def test_preferences_on_prompts_that_trained_a_model_set_no_weights(base, saved, qbrm_command, tmp_path):
    prefs = write_preferences(tmp_path / "prefs.jsonl", 0, 24)
    prompts = prompt_digests(preferences_of(prefs).prompt_ids)
    seen = EnergyRewardModel.from_pretrained(saved[1])
    seen.training_prompts = prompts[:10]
    seen.save_pretrained(tmp_path / "seen")
    ended = qbrm_command("merge", saved[0], tmp_path / "seen", "--out", tmp_path / "both", "--on", prefs)
    assert ended.code == 0, ended.err
    assert "10 prompts of prefs.jsonl that a model was trained on" in ended.out
    both = EnergyRewardModel.from_pretrained(tmp_path / "both")
    assert both.provenance.data[-1].prompts == 14
    seen.training_prompts = prompts
    with pytest.raises(InputError, match=r"trained on all 24 prompts of prefs\.jsonl; expected preferences on other"):
        merge([refined(base, 0), seen], on=prefs)


def test_a_machine_across_candidates_is_not_merged_and_that_is_said(saved, qbrm_command, tmp_path):
    chooses = EnergyRewardModel.from_pretrained(saved[1])
    chooses.candidates = CandidateMachine(16)
    chooses.save_pretrained(tmp_path / "chooses")
    ended = qbrm_command("merge", saved[0], tmp_path / "chooses", "--out", tmp_path / "both")
    assert f"the machine across candidates of {tmp_path / 'chooses'}" in ended.out
    both = EnergyRewardModel.from_pretrained(tmp_path / "both")
    assert both.candidates is None
    assert both.provenance.settings["not merged"].endswith("chooses")


def test_validation_finds_the_weights_of_least_loss():
    """The chosen responses are those that the second machine prefers: it should have nearly all of the weight."""
    torch.manual_seed(0)
    machines = [RBM(4, hidden=2) for _ in range(2)]
    with torch.no_grad():
        for column, machine in enumerate(machines):
            machine.a[column] = 2.0
    embedding = torch.randn(400, 4)
    rows = torch.arange(400).view(200, 2)
    second = embedding[rows][..., 1]
    chosen, rejected = (rows.gather(1, order[:, None])[:, 0] for order in (second.argmax(1), second.argmin(1)))
    pairs = PairData(embedding, torch.zeros(400), chosen, rejected)
    product = Product(machines, [1, 1])
    found = weights_by_validation(product, pairs)

    def loss(weight):
        product.weights = [weight, 1 - weight]
        return mean_loss([product], PreferenceLikelihood(), [pairs])

    assert found[1] > 0.9
    assert loss(found[0]) <= min(loss(step / 20) for step in range(21)) + 1e-3


def test_a_merged_model_is_served(base):
    both = merge([refined(base, 0), refined(base, 1)])
    expected = both.score(PROMPTS, RESPONSES).refined
    with serving(both) as served:
        answer = served.post("/v1/score", {"prompts": PROMPTS, "responses": RESPONSES}).json["rewards"]
    assert [reward["reward"] for reward in answer] == pytest.approx(expected.tolist(), abs=1e-5)


def test_models_of_different_reward_models_are_refused(base, tmp_path, qbrm_command, saved):
    model("sqrbm").save_pretrained(tmp_path / "other")
    line = qbrm_command("merge", saved[0], tmp_path / "other", "--out", tmp_path / "both").refused()
    assert f"{saved[0]} refines" in line
    assert "expected models of one reward model" in line
    assert not (tmp_path / "both").exists()


def test_a_fit_of_the_embedded_default_is_told_apart_from_another():
    other = EnergyRewardModel(reward_model(seed=3), score("sqrbm"))
    with pytest.raises(InputError, match="revision differs; expected models of one reward model; each fit of a model"):
        merge([model("sqrbm"), other])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--weights", "1,2,3"], "weights 1, 2, 3 for 2 machines; expected as many"),
        (["--weights", "much"], "--weights 'much'; expected equal, familiarity, or numbers"),
        (["--weights", "1,nan"], "expected numbers of zero or more"),
        (["--weights", "1,1", "--on", "prefs.jsonl"], "with --on, which sets them"),
        (["--dtype", "float32"], "without --on; expected --on SOURCE with them"),
    ],
)
def test_weights_and_options_that_do_not_fit_are_refused_in_one_line(saved, tmp_path, qbrm_command, options, expected):
    line = qbrm_command("merge", *saved, "--out", tmp_path / "both", *options).refused()
    assert expected in line
    assert not (tmp_path / "both").exists()


def test_one_model_and_a_model_that_is_no_machine_are_refused(saved, tmp_path, qbrm_command):
    assert "1 machine to merge" in qbrm_command("merge", saved[0], "--out", tmp_path / "both").refused()
    model("ebrm").save_pretrained(tmp_path / "ebrm")
    line = qbrm_command("merge", tmp_path / "ebrm", tmp_path / "ebrm", "--out", tmp_path / "both").refused()
    assert "machine 1 is of class EBRM, which cannot be merged" in line
    line = qbrm_command("merge", *saved, "--out", saved[0]).refused()
    assert "is one of the models; expected another folder" in line


def test_a_description_with_machines_missing_is_refused_in_one_line(saved, base, tmp_path, qbrm_command):
    merge([refined(base, 0), refined(base, 1)]).save_pretrained(tmp_path / "both")
    path = tmp_path / "both" / "config.json"
    config = json.loads(path.read_text())
    config["score"]["machines"] = config["score"]["machines"][:1]
    path.write_text(json.dumps(config))
    (tmp_path / "both" / "SHA256SUMS").unlink()
    with pytest.raises(InputError, match=r"config.json describes no model that can be built \(1 machine"):
        EnergyRewardModel.from_pretrained(tmp_path / "both")


def test_without_weights_familiarity_decides_where_all_have_a_gate_else_all_count_the_same(base):
    models = [refined(base, 0), refined(base, 1)]
    assert merge(models).energy_score.by_familiarity
    models[1].energy_score.set_gate(None)
    assert merge(models).energy_score.settings()["weights"] == [0.5, 0.5]
    with pytest.raises(InputError, match="machine 2 has no gate, so nothing says what is familiar to it"):
        merge(models, "familiarity")
