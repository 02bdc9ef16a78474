"""`qbrm compare` with a user's own reward model: from folder and JSONL to a saved, refined reward in one command."""

import sys

import pytest
import torch
from transformers import LlamaForCausalLM

from fixtures.preference_files import write_preferences
from fixtures.tiny_models import classifier, own_logit, save, tokenizer
from qbrm import EnergyRewardModel, cli
from qbrm.preferences import Message

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def prefs(tmp_path_factory):
    return write_preferences(tmp_path_factory.mktemp("prefs") / "prefs.jsonl", 0, 24)


@pytest.fixture
def compare(prefs, tmp_path, monkeypatch, capsys):
    """Runs the command; gives its exit code and what it printed."""
    monkeypatch.setattr("qbrm_lab.report.write.pictures", lambda part, number: [])

    def run(*options):
        command = ["qbrm", "compare", "--train", prefs, "--out", tmp_path / "out", "--methods", "base,rbm"]
        command += ["--seeds", 1, "--epochs", 1, *options]
        monkeypatch.setattr(sys, "argv", [str(part) for part in command])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, *capsys.readouterr()

    return run


def test_a_folder_is_compared_and_its_refined_model_saved(compare, tmp_path):
    code, out, err = compare("--reward-model", save(tmp_path / "rm"))
    assert (code, err) == (0, "")
    assert "rm@" in out
    held = EnergyRewardModel.from_pretrained(tmp_path / "out" / "models" / "rbm-fresh-seed-0")
    found = held.score(["What is tea?"], ["A drink."])
    expected, _ = own_logit(classifier(), tokenizer(), (Message("user", "What is tea?"),), "A drink.")
    assert float(found.base) == pytest.approx(float(expected), abs=2e-6)


def test_options_of_the_reward_model_reach_it(compare, tmp_path):
    folder = save(tmp_path / "rm", classifier("deberta-v2"), tokenizer(chat_template=None, sep=True))
    options = ["--template", "plain", "--max-length", 64, "--dtype", "float32", "--head", "linear"]
    code, _, _ = compare("--reward-model", folder, *options)
    assert code == 0
    held = EnergyRewardModel.from_pretrained(tmp_path / "out" / "models" / "rbm-fresh-seed-0")
    assert held.reward_model.identity.max_length == 64
    assert "a pair of texts" in held.reward_model.identity.template
    assert torch.isfinite(held.score(["a " * 300], ["b"]).refined).all()


def test_features_are_kept_and_those_of_other_weights_refused(compare, tmp_path):
    folder = save(tmp_path / "rm")
    assert compare("--reward-model", folder)[0] == 0
    assert "0 embedded now" in compare("--reward-model", folder)[1]
    save(folder, classifier(seed=1))
    code, _, err = compare("--reward-model", folder)
    assert code == 2
    assert err.count("rm@") == 2


@pytest.mark.parametrize(
    ("make", "options", "named"),
    [
        (lambda folder: save(folder, LlamaForCausalLM(classifier().config)), [], "lacks score.weight"),
        (lambda folder: save(folder, tok=tokenizer(chat_template=None)), [], "no chat template"),
        (lambda folder: save(folder, classifier(num_labels=3)), [], "no score head"),
        (save, ["--revision", "abc"], "abc"),
        (save, ["--max-length", 3], "template alone takes 5"),
        (save, ["--dtype", "int3"], "int3"),
        (save, ["--head", "liner"], "linear"),
        (lambda folder: folder, [], "does not exist"),
    ],
    ids=["language model", "no template", "classes", "revision", "length", "dtype", "head", "nowhere"],
)
def test_a_model_that_cannot_be_used_is_one_line_and_exit_code_2(compare, tmp_path, make, options, named):
    code, _, err = compare("--reward-model", make(tmp_path / "rm"), *options)
    assert code == 2
    (line,) = err.splitlines()
    assert line.startswith("qbrm: ")
    assert named in line
    assert not (tmp_path / "out" / "results.json").exists()


def test_options_for_the_embedded_default_are_refused(compare):
    code, _, err = compare("--dtype", "bfloat16")
    assert code == 2
    assert "takes no dtype" in err
