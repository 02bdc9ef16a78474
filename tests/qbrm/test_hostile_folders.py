"""Folders that are not what a command left there, and numbers that nothing can hold, end in one line."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from fixtures.checksums import forget_checksums
from fixtures.feature_folders import write_table
from fixtures.preference_files import write_preferences
from fixtures.refined_models import model
from qbrm import EnergyRewardModel
from qbrm.errors import InputError
from qbrm.features import FeatureTable
from qbrm.fitting.checkpoint import read_progress
from qbrm.model.fit import fit_features
from qbrm.model.score_choice import ScoreChoice

pytestmark = pytest.mark.usefixtures("one_thread")
DEEP = "[" * 100_000


def one_line(error):
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000
    return str(error.value)


# ----------------------------------------------------------------------------------------------------- feature folders


@pytest.mark.parametrize(
    "change",
    [
        {"rows": -1},
        {"rows": 10**30},
        {"rows": 4.5},
        {"rows": True},
        {"rows": None},
        {"size": -5},
        {"sha256": None},
        {"file": ["x"]},
    ],
    ids=str,
)
def test_a_shard_that_cannot_be_is_refused(tmp_path, change):
    write_table(tmp_path)
    refused_manifest(tmp_path, lambda content: content["shards"][0].update(change))


@pytest.mark.parametrize(
    "change",
    [
        {"dim": -3},
        {"dim": 10**30},
        {"dim": "many"},
        {"wanted": [1]},
        {"shards": 7},
        {"columns": None},
        {"settings": 3},
        {"identity": {"name": 3, "revision": "a", "template": "b", "max_length": 4}},
        {"identity": {"name": "a"}},
        {"schema": [[]]},
    ],
    ids=str,
)
def test_a_manifest_that_describes_no_table_is_refused(tmp_path, change):
    write_table(tmp_path)
    refused_manifest(tmp_path, lambda content: content.update(change))


@pytest.mark.parametrize("text", [DEEP, '{"shards": ' + DEEP, "", "null", "[]", "1" * 5000, '{"schema": 1}'], ids=len)
def test_a_manifest_that_is_none_is_refused(tmp_path, text):
    write_table(tmp_path)
    forget_checksums(tmp_path)
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=r"manifest\.json") as error:
        FeatureTable.open(tmp_path)
    one_line(error)


def test_rows_that_a_shard_does_not_have_are_found_without_checksums_too(tmp_path):
    write_table(tmp_path)

    def add_a_row(content):
        content["shards"][0]["rows"] += 1

    assert "its manifest says" in refused_manifest(tmp_path, add_a_row)


def refused_manifest(folder, change):
    forget_checksums(folder)
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError) as error:
        FeatureTable.open(folder)
    return one_line(error)


# --------------------------------------------------------------------------------------------------------- models


@pytest.mark.parametrize("text", [DEEP, '{"schema": 2, "score": ' + DEEP, "1" * 5000], ids=len)
def test_a_configuration_that_is_too_deep_is_refused(tmp_path, text):
    model("rbm").save_pretrained(tmp_path)
    forget_checksums(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=r"config\.json") as error:
        EnergyRewardModel.from_pretrained(tmp_path)
    one_line(error)


@pytest.mark.parametrize("hidden", [10**13, -1, 0, 10**30, "many", [3], None, 1.5])
def test_a_score_of_impossible_size_is_refused(tmp_path, hidden):
    model("rbm").save_pretrained(tmp_path)
    forget_checksums(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["score"]["hidden"] = hidden
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError) as error:
        EnergyRewardModel.from_pretrained(tmp_path)
    one_line(error)


def test_whole_numbers_are_no_weights(tmp_path):
    model("rbm").save_pretrained(tmp_path)
    forget_checksums(tmp_path)
    path = tmp_path / "model.safetensors"
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file({**tensors, "score.c": tensors["score.c"].to(torch.int32)}, path)
    with pytest.raises(InputError, match=r"tensor 'score\.c' is of torch\.int32; expected torch\.float32"):
        EnergyRewardModel.from_pretrained(tmp_path)


# ---------------------------------------------------------------------------------------------------- checkpoints


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    write_table(folder / "features")
    path = folder / "checkpoint.safetensors"
    train(folder / "features", path)
    return folder / "features", path


def train(features, path):
    return fit_features([features], ScoreChoice("rbm", hidden=4, epochs=2), checkpoint=path)


PROGRESS = {
    "no epochs": lambda progress: progress.pop("epochs"),
    "epochs are none": lambda progress: progress.update(epochs=[]),
    "epochs are numbers": lambda progress: progress.update(epochs=[3]),
    "epoch without loss": lambda progress: progress["epochs"][0].pop("validation_loss"),
    "no seconds": lambda progress: progress.pop("seconds"),
    "seconds are text": lambda progress: progress.update(seconds="long"),
    "within is a number": lambda progress: progress.update(within=3),
    "within lacks noise": lambda progress: progress.update(within={"batches": 1}),
    "noise is none": lambda progress: progress.update(
        within={"batches": 1, "pairs": 1, "loss": 1.0, "seconds": 1.0, "noise": ["00", "zz"]}
    ),
}


@pytest.mark.parametrize("fault", PROGRESS)
def test_a_checkpoint_with_missing_progress_is_refused(checkpoint, tmp_path, fault):
    progress = read_progress(checkpoint[1])
    PROGRESS[fault](progress)
    refused_checkpoint(checkpoint, tmp_path, lambda tensors: tensors, json.dumps(progress))


@pytest.mark.parametrize("prefix", ["best.", "model.", "optimiser.x.", "optimiser.0.exp_avg.more."])
def test_a_checkpoint_with_missing_or_strange_tensors_is_refused(checkpoint, tmp_path, prefix):
    def changed(tensors):
        if prefix.startswith("optimiser"):
            return {**tensors, f"{prefix}step": torch.zeros(1)}
        return {name: value for name, value in tensors.items() if not name.startswith(prefix)}

    refused_checkpoint(checkpoint, tmp_path, changed, json.dumps(read_progress(checkpoint[1])))


def refused_checkpoint(checkpoint, tmp_path, changed, progress):
    features, path = checkpoint
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    other = tmp_path / "checkpoint.safetensors"
    save_file(changed(tensors), other, {"progress": progress})
    with pytest.raises(InputError, match=r"not a checkpoint of this model .*; delete it to train anew") as error:
        train(features, other)
    one_line(error)


@pytest.mark.parametrize("progress", [DEEP, '{"a":' * 50_000, "3", "null", "{"])
def test_a_checkpoint_whose_progress_is_none_is_named_and_trained_anew(checkpoint, tmp_path, progress, caplog):
    features, path = checkpoint
    other = tmp_path / "checkpoint.safetensors"
    save_file({"model.W": torch.zeros(1)}, other, {"progress": progress})
    again = train(features, other).fitted.score.state_dict()
    assert "Training starts anew" in caplog.text
    assert str(other) in caplog.text
    whole = train(features, path).fitted.score.state_dict()
    assert all(torch.equal(again[name], value) for name, value in whole.items())


# ------------------------------------------------------------------------------------------------- the command line


@pytest.mark.parametrize(
    "options",
    [
        ("--seed", 2**63),
        ("--seed", 10**30),
        ("--hidden", 10**13),
        ("--epochs", 10**30),
        ("--seeds", 10**30),
    ],
    ids=str,
)
def test_a_number_that_nothing_can_hold_is_one_line(command, tmp_path, options):
    prefs = write_preferences(tmp_path / "prefs.jsonl", 0, 12)
    code, _, err = command("compare", "--train", prefs, "--out", tmp_path / "out", *options)
    assert (code, options[0] in err) == (2, True)
    assert not (tmp_path / "out").exists()


def test_the_largest_seed_works(tmp_path):
    from qbrm.cli.options import MOST_SEED

    write_table(tmp_path / "features")
    fit_features([tmp_path / "features"], ScoreChoice("rbm", hidden=4, members=3, epochs=1), seed=MOST_SEED)
