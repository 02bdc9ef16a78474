"""Model cards and the Hub: a card says what was measured and no more, and what was pushed is what comes back."""

import json
from dataclasses import asdict, replace

import pytest
import torch
import yaml
from huggingface_hub import ModelCard

from fixtures.comparisons import run
from fixtures.fake_hub import running
from fixtures.preference_files import write_preferences
from fixtures.tiny_models import classifier, save
from qbrm import EnergyRewardModel
from qbrm.energies import SemiQuantumRBM
from qbrm.errors import InputError
from qbrm.features import FeatureTable
from qbrm.features.pair_list import read_pairs
from qbrm.model.export.ebrm import export_ebrm
from qbrm.model.model_card import DataPart, MeasuredResult, Provenance, model_card
from qbrm.reward_models import Identity, load_reward_model

PROVENANCE = Provenance(
    command="qbrm compare --train prefs.jsonl --out runs/first",
    data=[DataPart("trains the score", "prefs.jsonl", 1200, 3310)],
    settings={"objective": "preference", "epochs": 5, "sampler": None},
    results=[
        MeasuredResult("prefs.jsonl", "pairwise", method, 400, accuracy, 0.5, 0.75, nll=None, ece=0.05)
        for method, accuracy in (("base", 0.625), ("sqrbm", 0.6875))
    ],
)


def card(name="me/refined", of="org/rm", provenance=PROVENANCE):
    identity = Identity(of, "0123456789abcdef", "chat", 4096, "bfloat16")
    return model_card(name, identity, {"name": "sqrbm", "dim": 16}, "mode", provenance)


def front_matter(text):
    _, front, _ = text.split("---\n", 2)
    return yaml.safe_load(front)


def table(text, heading):
    lines = text.partition(f"## {heading}\n")[2].partition("\n## ")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def test_front_matter_is_what_the_hub_reads():
    front = front_matter(card())
    assert front["library_name"] == "qbrm"
    assert front["base_model"] == "org/rm"
    assert "reward-model" in front["tags"]
    (model,) = front["model-index"]
    (result,) = model["results"]
    assert result["metrics"] == [{"type": "accuracy", "value": 0.6875}]
    assert ModelCard(card()).data.eval_results[0].metric_value == 0.6875


def test_data_settings_and_results_are_those_given():
    text = card()
    assert table(text, "Data")[2] == ["trains the score", "prefs.jsonl", "1,200", "3,310"]
    assert ["objective", "preference"] in table(text, "Settings")
    assert all("sampler" not in row for row in table(text, "Settings"))
    results = table(text, "Measured results")
    assert results[2] == ["prefs.jsonl", "pairwise", "400", "base", "62.5", "[50.0, 75.0]", "-", "0.050"]
    assert results[3][3:5] == ["sqrbm", "68.8"]
    assert "qbrm compare --train prefs.jsonl" in text


def test_what_was_not_measured_is_said_and_not_made_up():
    text = card(provenance=None)
    assert "Not recorded" in text
    assert "model-index" not in front_matter(text)
    assert "accuracy" not in text.lower()
    nothing = card(provenance=replace(PROVENANCE, results=[]))
    assert "## Measured results\n\nNone; run `qbrm evaluate`." in nothing
    assert "model-index" not in front_matter(nothing)


def test_a_reward_model_from_a_folder_is_no_base_model_on_the_hub():
    assert "base_model" not in front_matter(card(of="/models/rm"))
    assert "base_model" not in front_matter(card(of="all-MiniLM-L6-v2"))


def test_a_bar_in_a_name_breaks_no_table():
    data = [DataPart("trains the score", "a|b", 1, 1)]
    assert "a\\|b" in card(provenance=replace(PROVENANCE, data=data))


def test_a_score_that_keeps_the_base_rewards_order_says_so():
    assert "the score keeps their order" not in card()
    assert "the score keeps their order" in card(provenance=replace(PROVENANCE, kept_base=True))


def test_a_provenance_comes_back_from_json_and_from_that_of_version_0_1():
    stored = json.loads(json.dumps(asdict(PROVENANCE)))
    assert Provenance.from_dict(stored) == PROVENANCE
    of_0_1 = {key: value for key, value in stored.items() if key != "kept_base"}
    of_0_1["results"] = [{"scenario": "fresh", "seed": 0, "category": "all", **row} for row in stored["results"]]
    assert Provenance.from_dict(of_0_1) == PROVENANCE


# From the comparison to the Hub and back


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A comparison with a reward model from the Hub, and the Hub."""
    folder = tmp_path_factory.mktemp("comparison")
    with running(folder) as hub:
        hub.commit_folder("org/rm", save(folder / "rm"))
        train = write_preferences(folder / "prefs.jsonl", 0, 40)
        options = {"max_length": 100}
        results, _ = run(train=train, out=folder / "out", reward_model="org/rm", reward_model_options=options)
        yield hub, folder, results


def refined(finished):
    return EnergyRewardModel.from_pretrained(finished[1] / "out" / "models" / "sqrbm-fresh-seed-0")


def test_the_card_of_a_compared_model_has_the_numbers_of_results_json(finished):
    _, folder, results = finished
    text = (folder / "out" / "models" / "sqrbm-fresh-seed-0" / "README.md").read_text()
    rows = {(row[1], row[3]): row for row in table(text, "Measured results")[2:]}
    expected = [row for row in results["rows"] if row["category"] == "all"]
    assert len(rows) == len(expected) == 4
    for row in expected:
        shown = rows[row["set"], row["method"]]
        assert shown[4] == f"{100 * row['accuracy']:.1f}"
        assert shown[2] == f"{row['n']:,}"
    kept = json.loads((folder / "out" / "models" / "sqrbm-fresh-seed-0" / "config.json").read_text())
    assert [row["accuracy"] for row in kept["provenance"]["results"]] == [row["accuracy"] for row in expected]


def test_a_trained_reward_model_leaves_all_training_prompts_to_the_scores(finished):
    _, folder, results = finished
    text = (folder / "out" / "models" / "sqrbm-fresh-seed-0" / "README.md").read_text()
    roles = {row[0]: int(row[2]) for row in table(text, "Data")[2:]}
    train = next(part for part in results["data"] if part["role"] == "train")
    assert set(roles) == {"trains the score", "chooses and calibrates"}
    assert sum(roles.values()) == train["prompts"]


def test_what_was_pushed_comes_back_with_its_pinned_reward_model(finished, capfd):
    hub, folder, _ = finished
    held = refined(finished)
    address = held.push_to_hub("me/refined")
    (commit, files) = next(iter(hub.models["me/refined"].items()))
    assert address.endswith(commit)
    assert sorted(files) == ["README.md", "SHA256SUMS", "config.json", "model.safetensors"]
    assert "from_pretrained('me/refined')" in files["README.md"].decode()
    hub.commit_folder("org/rm", save(folder / "other", seed_model(1)))  # the reward model moves on
    again = EnergyRewardModel.from_pretrained("me/refined", revision=commit)
    assert again.reward_model.identity == held.reward_model.identity
    assert again.reward_model.identity.max_length == 100
    assert again.provenance == held.provenance
    prompts, responses = ["question 1"] * 2, ["answer 1", "answer 2"]
    assert torch.equal(again.score(prompts, responses).refined, held.score(prompts, responses).refined)


def seed_model(seed):
    return classifier(seed=seed)


@pytest.mark.parametrize("name", ["refined", "a/b/c", "", "me/refined?"])
def test_what_is_no_id_is_not_pushed(finished, name):
    with pytest.raises(InputError, match="no id on the Hugging Face Hub"):
        refined(finished).push_to_hub(name)


def test_a_hub_that_cannot_be_reached_is_one_line(tmp_path, monkeypatch):
    held = EnergyRewardModel(load_reward_model(str(save(tmp_path / "rm"))), SemiQuantumRBM(32, hidden=4))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match="me/refined cannot be uploaded") as error:
        held.push_to_hub("me/refined")
    assert "\n" not in str(error.value)


def test_features_are_exported_as_the_published_code_reads_them_the_score_layers_input_alone(finished, tmp_path):
    export_ebrm(finished[1] / "out" / "features", tmp_path / "x.pt", 0)
    content = torch.load(tmp_path / "x.pt", weights_only=True)
    pairs = read_pairs(FeatureTable.open(finished[1] / "out" / "features")).chosen
    assert len(content) == 2 * len(pairs) > 0
    assert all(entry["embedding"].shape == (16,) for entry in content)
