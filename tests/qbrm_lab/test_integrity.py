"""What is read is what was written: no changed byte, and no fault of the disk, passes unnoticed into a result."""

import json
import os
import random
import shutil

import numpy as np
import pytest

from fixtures.comparisons import run
from fixtures.fake_encoder import FakeEncoder
from fixtures.faults import FAULTS, Killed, fault_at
from fixtures.preference_files import write_preferences
from qbrm import EnergyRewardModel
from qbrm.cli.fit import VERDICT, fit_model
from qbrm.durable import LOCK, SUMS, check_file, one_writer
from qbrm.errors import InputError
from qbrm.features import FeatureTable
from qbrm.features.embed import embed
from qbrm.features.pair_list import read_pairs
from qbrm.features.stream import open_sources
from qbrm.fitting.checkpoint import read_progress
from qbrm.model.fit import fit_features
from qbrm.model.judged_fit import CHOICE_FILE, JudgedFit
from qbrm.model.score_choice import ScoreChoice
from qbrm.preferences import read_preferences
from qbrm.reward_models import REWARD_MODELS
from qbrm.selection.candidates import Candidate, Family
from qbrm_lab.results import read_results

pytestmark = pytest.mark.usefixtures("one_thread")
EXAMPLES = int(os.environ.get("QBRM_EXAMPLES", "200"))
CHANGES = EXAMPLES // 2
QUICK = ScoreChoice("rbm", hidden=4, epochs=1)


@pytest.fixture(scope="module", autouse=True)
def fake():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(REWARD_MODELS, "fake", lambda: FakeEncoder(reward=1))
        patch.setattr("qbrm.features.build.SHARD_ROWS", 32)
        yield


@pytest.fixture(scope="module")
def prefs(tmp_path_factory):
    return write_preferences(tmp_path_factory.mktemp("source") / "prefs.jsonl", 0, 24)


@pytest.fixture(scope="module")
def features(prefs, tmp_path_factory):
    out = tmp_path_factory.mktemp("features")
    embed_command(prefs, out)
    return out


def embed_command(prefs, out, features=None):
    embed(read_preferences(prefs), out, lambda: FakeEncoder(reward=1))


def train_command(prefs, out, features):
    with one_writer(out):
        fitted = fit_features([features], QUICK, checkpoint=out / "training" / "checkpoint.safetensors")
        EnergyRewardModel(*fitted.parts).save_pretrained(out)


def fit_command(prefs, out, features=None):
    # A score without a strength: no cross-validation has to show how far it may go.
    fit_model(str(prefs), "fake", ScoreChoice("ebrm", epochs=1), out, 0, skip_bad=False)


def choose_command(prefs, out, features=None):
    """Fit with a choice, between two families that train for one epoch, over three groups of prompts."""
    families = (Family(name, hidden=2, epochs=1) for name in ("rbm", "sqrbm"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qbrm.selection.cross_validation.CANDIDATES", [Candidate(family) for family in families])
        patch.setattr("qbrm.selection.cross_validation.GROUPS", 3)
        patch.setattr("qbrm.model.judged_fit.epochs_for", lambda settings, pairs: 1)
        fit_model(str(prefs), "fake", None, out, 0, skip_bad=False)


def compare_command(prefs, out, features=None):
    with one_writer(out):
        run(train=prefs, out=out, methods=("base", "rbm"), epochs=1, hidden=4)


COMMANDS = {
    "embed": embed_command,
    "train": train_command,
    "fit": fit_command,
    "fit, choosing": choose_command,
    "compare": compare_command,
}
# Of every command's writes, flushes and renamings, so many fail in the suite; all of them with QBRM_EXAMPLES=5000.
FAULTS_IN_THE_SUITE = {"embed": 50, "train": 20, "fit": 6, "fit, choosing": 2, "compare": 5}


@pytest.fixture(scope="module")
def finished(prefs, features, tmp_path_factory):
    """What every command leaves when nothing goes wrong, and how many writes, flushes and renamings that took."""
    folder, steps = tmp_path_factory.mktemp("finished"), {}
    for name, command in COMMANDS.items():
        with fault_at(None) as done:
            command(prefs, folder / name, features)
        steps[name] = len(done)
    return folder, steps


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def ours(folder):
    """The files that are checked: no locks, and no event files, which TensorBoard writes and nobody here reads."""
    return [path for path in files(folder) if path.name != LOCK and "tfevents" not in path.name]


# --------------------------------------------------------------------------------------------------- changed bytes


def read_all(folder):
    """Read a folder's files as the commands do that read them; the others as `sha256sum --check` does."""
    names = {path.name for path in folder.iterdir()}
    if "manifest.json" in names:
        table = FeatureTable.open(folder)
        if "pairs.arrow" in names:
            read_pairs(table)
    for path in folder.glob("*checkpoint.safetensors"):
        read_progress(path)
    if "config.json" in names:
        EnergyRewardModel.from_pretrained(folder)
    if "results.json" in names:
        read_results(folder)
    for name in {"README.md", VERDICT, CHOICE_FILE, "report.html"} & names:
        check_file(folder / name)


def test_every_file_of_a_run_has_a_checksum(finished):
    for path in ours(finished[0]):
        listed = path.parent / ("manifest.json" if path.name.startswith("features-") else SUMS)
        assert path.name == SUMS or path.name in listed.read_text(), path


def test_a_changed_byte_in_any_file_is_found_and_its_file_named(finished, caplog):
    generator = random.Random(14)
    every = ours(finished[0])
    assert len(every) > 20
    for number in range(CHANGES):
        path = every[number % len(every)]
        content = path.read_bytes()
        at, other = generator.randrange(len(content)), generator.randrange(1, 256)
        caplog.clear()
        path.write_bytes(content[:at] + bytes([content[at] ^ other]) + content[at + 1 :])
        try:
            read_all(path.parent)
        except InputError as error:
            caplog.records.append(error)
        finally:
            path.write_bytes(content)
        said = " ".join(error.getMessage() if hasattr(error, "getMessage") else str(error) for error in caplog.records)
        assert path.name in said, f"byte {at} of {path}: {said or 'nothing said'}"


def test_nothing_is_said_of_files_that_are_as_they_were_written(finished, caplog):
    for folder in {path.parent for path in ours(finished[0])}:
        read_all(folder)
    assert not caplog.records


def flip_last_byte(path):
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_what_can_be_computed_again_is(prefs, finished, tmp_path, caplog):
    whole, out = finished[0] / "fit", tmp_path / "out"
    shutil.copytree(whole, out)
    for name in ("features/features-00000.arrow", "features/pairs.arrow", "training/checkpoint.safetensors"):
        flip_last_byte(out / name)
    manifest = out / "features" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"cut": 0', '"cut": 5', 1))
    fit_command(prefs, out)
    assert "manifest.json is not as it was written" in caplog.text
    assert "features-00000.arrow" in caplog.text
    assert "checkpoint.safetensors" in caplog.text
    assert result(out) == result(whole)


def test_losses_of_candidates_that_are_not_as_they_were_written_are_computed_again(features, tmp_path, caplog):
    fit = JudgedFit(open_sources([features]), folder=tmp_path)
    fit._keep_losses({"rbm": np.zeros(3)})
    assert fit._known_losses().keys() == {"rbm"}
    flip_last_byte(tmp_path / CHOICE_FILE)
    assert fit._known_losses() == {}
    assert CHOICE_FILE in caplog.text


# ------------------------------------------------------------------------------------------------ faults of the disk


def result(folder):
    """The final bytes; of files that hold times, what else they hold."""
    kept = {}
    for path in ours(folder):
        name = str(path.relative_to(folder))
        if path.name == "results.json":
            content = json.loads(path.read_text())
            kept[name] = {table: content[table] for table in ("rows", "summary", "differences", "epochs")}
        elif path.name == "checkpoint.safetensors":
            kept[name] = [epoch["validation_loss"] for epoch in read_progress(path)["epochs"]]
        elif path.name == SUMS:
            check_sums(path)
            kept[name] = [line.split()[-1] for line in path.read_text().splitlines()]
        elif path.suffix not in (".html", ".md"):
            kept[name] = path.read_bytes()
    return kept


def check_sums(path):
    for line in path.read_text().splitlines():
        check_file(path.parent / line.split(maxsplit=1)[1])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_fault_at_any_write_flush_or_renaming_ends_in_the_same_files_after_a_rerun(
    name, finished, prefs, features, tmp_path
):
    """Every place with every fault by QBRM_EXAMPLES=5000; fewer, evenly spaced, in the suite."""
    folder, steps = finished
    expected = result(folder / name)
    places = [(step, fault) for step in range(steps[name]) for fault in FAULTS]
    few = FAULTS_IN_THE_SUITE[name] if EXAMPLES < 5000 else len(places)
    tried = [places[number * len(places) // few] for number in range(few)]
    for step, fault in tried:
        out = tmp_path / "out"
        with fault_at(step, fault), pytest.raises((Killed, InputError)) as ended:
            COMMANDS[name](prefs, out, features)
        assert fault == "kill" or "cannot be written" in str(ended.value)
        COMMANDS[name](prefs, out, features)
        assert result(out) == expected, f"{fault} at step {step}"
        assert not [path for path in files(out) if path.suffix == ".tmp"], f"{fault} at step {step}"
        shutil.rmtree(out)
    print(f"{name}: {len(tried)} faults at {len({step for step, _ in tried})} of {steps[name]} places")
