"""`qbrm compare` with a user's own reward model: from folder and JSONL to a saved, refined reward in one command."""

import json
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


def test_what_an_embedding_reads_is_remembered_by_features_and_model(compare, tmp_path):
    folder = save(tmp_path / "rm")
    options = ["--reward-model", folder, "--methods", "base,ebrm,rbm"]
    assert compare(*options, "--embedding", "layers:0.5")[0] == 0
    models = tmp_path / "out" / "models"
    held = EnergyRewardModel.from_pretrained(models / "rbm-fresh-seed-0")
    assert held.reward_model.identity.embedding == "layers:0.5"
    assert held.energy_score.dim == held.reward_model.dim == 48
    assert (
        held.reward_model.head_dim == EnergyRewardModel.from_pretrained(models / "ebrm-fresh-seed-0").energy_score.reads
    )
    code, _, err = compare(*options)
    assert code == 2
    assert "embedding layers:0.5" in err
    assert "embedding mean" in err


def test_a_chosen_output_is_part_of_what_a_refined_model_is_saved_with(compare, tmp_path):
    compare("--reward-model", save(tmp_path / "rm", classifier(num_labels=3)), "--output", 2, "--fold-system")
    held = EnergyRewardModel.from_pretrained(tmp_path / "out" / "models" / "rbm-fresh-seed-0")
    prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is tea?"}]
    asked = (Message("user", "Be brief.\n\nWhat is tea?"),)
    expected, _ = own_logit(classifier(num_labels=3), tokenizer(), asked, "A drink.")
    assert float(held.score([prompt], ["A drink."]).base) == pytest.approx(float(expected[2]), abs=2e-6)
    assert held.reward_model.identity.output == 2


def test_a_prompt_that_the_template_refuses_is_named_by_its_line_and_what_is_left_says_so(qbrm_command, tmp_path):
    no_system = "{% for m in messages %}{{ raise_exception('no system') if m['role'] == 'system' else m['content'] }}"
    folder = save(tmp_path / "rm", tok=tokenizer(no_system + "<eos>{% endfor %}"))
    rows = [{"prompt": f"question {n}", "chosen": f"yes {n}", "rejected": f"no {n}"} for n in range(8)]
    rows[5]["prompt"] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "why?"}]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    embed = ["embed", tmp_path / "p.jsonl", "--reward-model", folder, "--out", tmp_path / "f"]
    message = qbrm_command(*embed).refused()
    assert "p.jsonl, line 6: " in message
    assert "--fold-system" in message
    message = qbrm_command("train", tmp_path / "f", "--out", tmp_path / "m").refused()
    assert message == f"features in {tmp_path / 'f'} are not complete: 0 of 16 responses; run qbrm embed again."
    assert qbrm_command(*embed, "--fold-system").code == 0


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
        (lambda folder: save(folder, classifier(num_labels=3)), ["--output", 3], "output 3"),
        (save, ["--revision", "abc"], "abc"),
        (save, ["--max-length", 3], "template alone takes 5"),
        (save, ["--dtype", "int3"], "int3"),
        (save, ["--head", "liner"], "linear"),
        (lambda folder: folder, [], "does not exist"),
    ],
    ids=["language model", "no template", "classes", "output", "revision", "length", "dtype", "head", "nowhere"],
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
