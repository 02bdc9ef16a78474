"""Every program in examples/ runs, with settings small enough for a test."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from fixtures.tiny_models import BOS, DECODER, EOS, PAD, save
from qbrm import EnergyRewardModel, SemiQuantumRBM, load_reward_model

EXAMPLES = Path(__file__).parents[2] / "examples"
PREFERENCES = [
    {"prompt": f"question {number}", "chosen": f"answer {number}", "rejected": f"nothing {number}"}
    for number in range(24)
]
pytestmark = pytest.mark.usefixtures("one_thread")


def example(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def json_lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def ask(address, body):
    request = urllib.request.Request(address, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def test_every_example_is_tested_and_short():
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {"refine_arrays", "refine_and_serve", "trl_reward", "verl_reward", "dimod_sampler", "kaiwu_sampler"}
    assert all(len(path.read_text().splitlines()) < 60 for path in EXAMPLES.glob("*.py"))


def test_arrays_are_refined_to_order_more_held_out_pairs():
    assert example("refine_arrays").main() > 0.02  # points of accuracy


def test_a_dimod_sampler_of_ones_own_trains_a_coupled_machine(capsys):
    pytest.importorskip("dimod")
    assert 0 < example("dimod_sampler").main(pairs=16, epochs=1) <= 1
    assert "effective beta 1.0" in capsys.readouterr().out


def test_the_temperature_of_a_machine_with_kaiwus_interface_is_estimated(capsys):
    assert 0 < example("kaiwu_sampler").main(pairs=16, epochs=1) <= 1
    beta = re.search(r"effective beta (\d\.\d\d)", capsys.readouterr().out)[1]
    assert float(beta) == pytest.approx(1, abs=0.3)


def test_a_reward_model_is_refined_served_asked_and_stopped(tmp_path):
    pytest.importorskip("fastapi")
    reward_model = save(tmp_path / "reward-model")
    preferences = json_lines(tmp_path / "prefs.jsonl", PREFERENCES)
    program = [sys.executable, "-u", EXAMPLES / "refine_and_serve.py", reward_model, preferences]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("QBRM_TOKEN", None)
    process = subprocess.Popen(
        [*program, "--out", tmp_path / "model", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    try:
        address = next((match[0] for line in process.stdout if (match := re.search(r"http://[\d.:]+", line))), None)
        answer = ask(f"{address}/v1/prefer", {"prompt": "question 1", "a": "answer 1", "b": "nothing 1"})
    finally:
        process.terminate()
        process.communicate(timeout=30)
    model = EnergyRewardModel.from_pretrained(tmp_path / "model")
    expected = model.prefer("question 1", "answer 1", "nothing 1")
    assert answer["probability"] == pytest.approx(expected, abs=1e-5)


def test_a_policy_is_trained_on_refined_rewards(tmp_path):
    pytest.importorskip("trl")
    torch.manual_seed(0)
    config = LlamaConfig(**DECODER, pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS)
    policy = save(tmp_path / "policy", LlamaForCausalLM(config))
    refined = EnergyRewardModel(load_reward_model(str(save(tmp_path / "reward-model"))), SemiQuantumRBM(16, hidden=4))
    refined.save_pretrained(tmp_path / "model")
    prompts = json_lines(tmp_path / "prompts.jsonl", [{"prompt": f"question {number}"} for number in range(4)])
    settings = {"max_steps": 1, "per_device_train_batch_size": 2, "num_generations": 2, "max_completion_length": 6}
    trainer = example("trl_reward").main(
        str(policy),
        str(tmp_path / "model"),
        str(prompts),
        str(tmp_path / "out"),
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
        logging_steps=1,
        save_strategy="no",
        **settings,
    )
    assert any("rewards/qbrm/mean" in row for row in trainer.state.log_history)
