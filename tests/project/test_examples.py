"""Every program in examples/ runs, with small settings, and does what it says."""

import json
import os
import re
import runpy
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from fixtures.tiny_models import BOS, DECODER, EOS, PAD, save
from qbrm import EnergyRewardModel, SemiQuantumRBM, load_reward_model

pytestmark = pytest.mark.usefixtures("one_thread")

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a program of the folder in this process; gives what it prints."""

    def run(program, *arguments):
        monkeypatch.setattr(sys, "argv", [program, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / program), run_name="__main__")
        return capsys.readouterr().out

    return run


def accuracies(printed):
    return [float(accuracy) for accuracy in re.findall(r"accuracy (0\.\d+)", printed)]


@pytest.fixture
def refined(tmp_path):
    """A folder of a refined reward model over a small Llama of random weights."""
    torch.manual_seed(0)
    reward_model = load_reward_model(str(save(tmp_path / "rm")))
    EnergyRewardModel(reward_model, SemiQuantumRBM(reward_model.dim, hidden=4)).save_pretrained(tmp_path / "refined")
    return tmp_path / "refined"


def test_every_example_is_short_and_tested():
    programs = sorted(path.name for path in EXAMPLES.glob("*.py"))
    assert all(len((EXAMPLES / program).read_text().splitlines()) < 60 for program in programs)
    tested = Path(__file__).read_text()
    assert [program for program in programs if f'"{program}"' not in tested] == []


def test_refining_arrays_gains_accuracy(run):
    base, refined = accuracies(run("refine_arrays.py", "--pairs", 300, "--epochs", 3))
    assert refined > base + 0.05


def test_own_dimod_sampler_draws_at_unit_temperature(run):
    printed = run("dimod_sampler.py", "--pairs", 20, "--epochs", 1, "--reads", 8)
    assert len(accuracies(printed)) == 2
    assert float(re.search(r"temperature ([\d.]+)", printed)[1]) == pytest.approx(1, abs=0.2)


def test_the_unknown_temperature_of_a_kaiwu_device_is_corrected(run):
    printed = run("kaiwu_sampler.py", "--pairs", 20, "--epochs", 1, "--samples", 32)
    assert len(accuracies(printed)) == 2
    assert float(re.search(r"temperature ([\d.]+)", printed)[1]) == pytest.approx(1, abs=0.3)


def test_trl_gets_a_reward_for_every_prompt(run, refined):
    printed = run("trl_reward.py", refined)
    assert len(re.findall(r"^[+-]\d\.\d{3}  ", printed, re.MULTILINE)) == 4


def test_trl_trains_a_policy_on_refined_rewards(run, refined, tmp_path):
    pytest.importorskip("trl", reason="TRL is an extra: pip install 'qbrm[trl]'")
    config = LlamaConfig(**DECODER, pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS)
    policy = save(tmp_path / "policy", LlamaForCausalLM(config))
    printed = run("trl_reward.py", refined, "--policy", policy, "--steps", 1, "--out", tmp_path / "out")
    assert "rewards/qbrm/mean" in printed


def test_a_model_is_refined_served_and_asked(tmp_path):
    prefs = tmp_path / "prefs.jsonl"
    records = [{"prompt": f"question {n}", "chosen": f"yes {n}", "rejected": f"no {n}"} for n in range(24)]
    prefs.write_text("".join(json.dumps(record) + "\n" for record in records))
    command = [sys.executable, str(EXAMPLES / "refine_and_serve.py"), "--port", "0", "--preferences", str(prefs)]
    command += ["--reward-model", str(save(tmp_path / "rm")), "--out", str(tmp_path / "served")]
    environment = {name: value for name, value in os.environ.items() if name != "QBRM_TOKEN"} | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as server:
        try:
            printed = []
            for line in server.stdout:
                printed.append(line)
                if address := re.search(r"http://[\d.:]+", line):
                    break
            else:
                pytest.fail("".join(printed))
            body = json.dumps({"prompt": "question 1", "a": "yes 1", "b": "no 1"}).encode()
            request = urllib.request.Request(f"{address[0]}/v1/prefer", body, {"content-type": "application/json"})
            with urllib.request.urlopen(request, timeout=20) as answer:
                probability = json.load(answer)["probability"]
        finally:
            server.terminate()
    model = EnergyRewardModel.from_pretrained(tmp_path / "served")
    assert probability == pytest.approx(model.prefer("question 1", "yes 1", "no 1"), abs=1e-5)
