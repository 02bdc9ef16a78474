"""`qbrm train`: from feature folders to a saved score, through kills and full disks, in constant memory."""

import errno
from functools import partial

import pytest
import torch

from fixtures.feature_folders import DIM, windows_of, write_table
from fixtures.preference_files import write_preferences
from fixtures.tiny_models import classifier, own_logit, save, tokenizer
from qbrm import EnergyRewardModel, durable
from qbrm.energies import ENERGY_SCORES
from qbrm.errors import InputError
from qbrm.features import FeatureTable
from qbrm.features.stream import Share, StreamedPairs, cut_off, open_sources
from qbrm.fitting import Fold, fit_score
from qbrm.fitting.committee import committee
from qbrm.model.fit import fit_features
from qbrm.model.score_choice import ScoreChoice
from qbrm.preferences import Message
from qbrm.reward_models import Identity

pytestmark = pytest.mark.usefixtures("one_thread", "small_blocks")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("features"))


def fit_in_windows(folder, score="rbm", epochs=3, window=4, **settings):
    return fit_features([folder], ScoreChoice(score, epochs=epochs), window_bytes=windows_of(window), **settings).fitted


def weights(fitted):
    return fitted.score.state_dict()


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_preferences_become_a_refined_reward_model_in_two_commands(command, tmp_path):
    prefs = write_preferences(tmp_path / "prefs.jsonl", 0, 24)
    rm, features, model = save(tmp_path / "rm"), tmp_path / "features", tmp_path / "model"
    options = ["--max-length", 64, "--embedding", "last"]
    assert command("embed", prefs, "--reward-model", rm, "--out", features, *options)[0] == 0
    assert command("train", features, "--score", "rbm", "--epochs", 1, "--out", model)[0] == 0
    held = EnergyRewardModel.from_pretrained(model)
    expected, _ = own_logit(classifier(), tokenizer(), (Message("user", "What is tea?"),), "A drink.")
    assert float(held.score(["What is tea?"], ["A drink."]).base) == pytest.approx(float(expected), abs=2e-6)
    assert held.reward_model.identity == FeatureTable.open(features).identity
    assert held.reward_model.identity.max_length == 64
    assert "trains the score" in (model / "README.md").read_text()


def test_ebrm_trained_from_disk_reads_what_the_score_layer_reads(command, tmp_path):
    prefs, features, model = (
        write_preferences(tmp_path / "prefs.jsonl", 0, 24),
        tmp_path / "features",
        tmp_path / "model",
    )
    options = ["--reward-model", save(tmp_path / "rm"), "--embedding", "mean"]
    assert command("embed", prefs, *options, "--out", features)[0] == 0
    assert command("train", features, "--score", "ebrm", "--epochs", 1, "--out", model)[0] == 0
    held = EnergyRewardModel.from_pretrained(model)
    assert (held.reward_model.dim, held.reward_model.head_dim, held.energy_score.reads) == (32, 16, 16)


def test_a_score_trained_from_disk_is_the_one_fitted_in_memory(tmp_path):
    """With one window, streaming is out of the way."""
    folder = write_table(tmp_path, range(80))
    sources = open_sources([folder])
    cut = cut_off(sources, 0.125, seed=1)
    pairs, validation = (StreamedPairs(sources, Share(*ends, 1)).load() for ends in ((cut, 1.0), (0.0, cut)))
    for score in ("rbm", "ebrm"):
        choice = ScoreChoice(score, epochs=1)
        in_memory = fit_score(partial(choice.build, DIM, None), Fold(pairs, validation, 1), choice.settings)
        streamed = fit_in_windows(folder, score, seed=1, window=1000, epochs=1)
        assert_same(weights(streamed), weights(in_memory))


@pytest.mark.parametrize("window", [4, 1000])
def test_members_take_turns_to_validate_what_fits_into_a_window(folder, tmp_path, monkeypatch, window):
    shared = []
    monkeypatch.setattr("qbrm.fitting.fit.committee", lambda *given: shared.append(committee(*given)) or shared[-1])
    choice = ScoreChoice("sqrbm", members=5, epochs=1)
    fitted = fit_features([folder], choice, window_bytes=windows_of(window))
    first, *others = shared[0]
    assert len(others) == 4
    by_turns = window == 1000
    assert all((other.validation is not first.validation) == by_turns for other in others)
    if by_turns:
        prompts = [set(member.prompt[member.validation.chosen].tolist()) for member in shared[0]]
        assert sum(map(len, prompts)) == len(set().union(*prompts))
    EnergyRewardModel(*fitted.parts).save_pretrained(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    assert "latest best epoch of the 5 members" in card
    assert ("by turns" in card) == by_turns
    assert ("trains the score" in card) != by_turns


def test_training_from_disk_learns(folder):
    fitted = fit_in_windows(folder, "sqrbm", epochs=5)
    accuracy = [epoch["validation_accuracy"] for epoch in fitted.training.epochs]
    assert accuracy[0] == pytest.approx(0.6, abs=0.1)  # the base reward sees a third of what tells answers apart
    assert accuracy[-1] > accuracy[0] + 0.05


@pytest.mark.parametrize("killed", [0, 2])
def test_a_killed_training_continues_to_the_same_weights(folder, tmp_path, killed):
    whole, checkpoint, heard = fit_in_windows(folder), tmp_path / "checkpoint.safetensors", []

    def tell(epoch):
        heard.append(epoch["epoch"])
        if heard == list(range(killed + 1)):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_in_windows(folder, checkpoint=checkpoint, on_epoch=tell)
    assert_same(weights(fit_in_windows(folder, checkpoint=checkpoint, on_epoch=tell)), weights(whole))
    assert heard == [0, 1, 2, 3]


@pytest.mark.parametrize("share", [0.125, 0.5])
def test_the_cut_holds_out_the_share_of_prompts_exactly(folder, share):
    sources = open_sources([folder])
    held = Share(0.0, cut_off(sources, share, seed=3), 3).holds(sources[0].pairs.prompt)
    assert len(set(sources[0].pairs.prompt[held])) == round(share * 300)


def test_one_prompt_is_too_few(tmp_path):
    write_table(tmp_path, range(1))
    with pytest.raises(InputError, match="all 2 pairs are on one prompt; expected two or more"):
        fit_in_windows(tmp_path)


def test_an_unknown_score_is_named(command, folder, tmp_path):
    code, _, err = command("train", folder, "--score", "sqrmb", "--out", tmp_path / "model")
    assert code == 2
    assert all(name in err for name in ("--score", "'sqrmb'", *ENERGY_SCORES))
    assert not (tmp_path / "model").exists()


def test_features_without_rewards_are_refused_in_one_line(command, tmp_path):
    write_table(tmp_path / "features", reward=False)
    code, _, err = command("train", tmp_path / "features", "--out", tmp_path / "model")
    assert (code, "have no rewards" in err) == (2, True)


def test_features_that_only_a_comparison_has_are_refused_before_training(command, tmp_path):
    write_table(tmp_path / "features", identity=Identity("all-MiniLM-L6-v2+trunk", "0123456789abcdef", "plain", 16))
    code, _, err = command("train", tmp_path / "features", "--out", tmp_path / "model")
    assert (code, "that 'qbrm compare' trained for its own run" in err) == (2, True)
    assert not list((tmp_path / "model").glob("[!.]*"))


@pytest.fixture
def full_disk(monkeypatch):
    """A disk that is full after so many more files; gives a function that makes room again."""

    def fill(after):
        left = iter(range(after))

        def fsync(descriptor):
            if next(left, None) is None:
                raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(durable.os, "fsync", fsync)
        return monkeypatch.undo

    return fill


def test_a_full_disk_is_one_line_and_the_rerun_continues(command, full_disk, tmp_path, monkeypatch):
    prefs, rm = write_preferences(tmp_path / "prefs.jsonl", 0, 24), save(tmp_path / "rm")
    features, model, whole = tmp_path / "features", tmp_path / "model", tmp_path / "whole"
    embed = ["embed", prefs, "--reward-model", rm, "--embedding", "last", "--out"]
    train = ["train", features, "--score", "rbm", "--epochs", 2, "--out", model]
    assert command(*embed, whole)[0] == 0
    for after in (0, 2, 4, 6, 8):
        make_room = full_disk(after)
        code, _, err = command(*embed, features)
        make_room()
        if not code:
            break
        assert (code, "cannot be written: No space left on device" in err) == (2, True)
        assert not list(features.glob("*.tmp"))
    assert after > 2
    assert command(*embed, features)[0] == 0
    assert contents(features) == contents(whole)

    make_room = full_disk(4)
    code, _, err = command(*train)
    make_room()
    assert (code, "No space left on device" in err) == (2, True)
    assert not (model / "config.json").exists()
    assert not list(model.rglob("*.tmp"))
    assert command(*train)[0] == 0
    EnergyRewardModel.from_pretrained(model)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}
