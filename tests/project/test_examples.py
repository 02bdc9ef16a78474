"""Every program in examples/ runs, with settings small enough for a test."""

import importlib.util
import itertools
import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from fixtures.fake_encoder import FakeEncoder
from fixtures.preference_files import write_preferences
from fixtures.tiny_models import BOS, DECODER, EOS, PAD, save
from qbrm import CoupledBoltzmannMachine, EnergyRewardModel, SemiQuantumRBM, load_reward_model
from qbrm.energies import ENERGY_SCORES
from qbrm.reward_models import REWARD_MODELS
from qbrm_lab.methods.catalogue import METHODS
from qbrm_lab.report.plots import gallery

EXAMPLES = Path(__file__).parents[2] / "examples"
# Runs a program with shorter trainings, as what they learn is not asked.
SHORT = (
    "import runpy, sys; from qbrm.selection import candidates; candidates.LEAST_STEPS = 1; "
    "del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
)
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
    first_steps = {"refine_arrays", "refine_and_serve", "trl_reward", "verl_reward"}
    assert names == first_steps | {"dimod_sampler", "kaiwu_sampler", "kaiwu_energy_score", "dwave_sampler"}
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


class Enumerating:
    """Kaiwu's interface over every state of a few spins."""

    def solve(self, ising_matrix):
        spins = len(ising_matrix)
        states = np.array(list(itertools.product([-1, 1], repeat=spins)))
        weight = np.exp(0.05 * np.einsum("si,ij,sj->s", states, ising_matrix, states))
        return states[np.random.default_rng(0).choice(len(states), 256, p=weight / weight.sum())].astype(np.int8)


@pytest.fixture
def few_preferences(tmp_path, monkeypatch):
    """Preferences of 16 prompts, and the settings of a short comparison; what an example registers is taken back."""
    pytest.importorskip("wandb", reason="wandb is an optional dependency (qbrm[wandb])")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setitem(REWARD_MODELS, "fake", FakeEncoder)
    monkeypatch.setattr(gallery, "PLOTS", gallery.PLOTS[:2])  # the two that are looked at
    path = write_preferences(tmp_path / "prefs.jsonl", 0, 24)
    before = [(registry, dict(registry)) for registry in (ENERGY_SCORES, METHODS)]
    yield str(path), str(tmp_path / "out"), {"reward_model": "fake", "epochs": 1, "hidden": 3}
    for registry, kept in before:
        registry.clear()
        registry.update(kept)


def assert_compared(rows, out, machine):
    assert {row.method for row in rows} == {"base", "ebrm", machine}
    assert {row.set for row in rows} == {"pairwise", "bon"}
    for plot in ("accuracy.png", "training.png"):
        assert (Path(out) / plot).read_bytes().startswith(b"\x89PNG")
    assert list(Path(out).rglob("offline-run-*/*.wandb"))


def test_kaiwus_plugin_takes_the_place_of_ebrms_energy_score(few_preferences):
    pytest.importorskip("kaiwu.torch_plugin", reason="kaiwu-torch-plugin is not installed; see docs/kaiwu.md")
    source, out, settings = few_preferences
    rows = example("kaiwu_energy_score").main(source, out, Enumerating(), **settings)
    assert_compared(rows, out, "kaiwu")


def test_d_waves_plugin_takes_the_place_of_ebrms_energy_score(few_preferences):
    pytest.importorskip("dwave.plugins.torch.models", reason="needs the extra qbrm[dwave-plugin]")
    source, out, settings = few_preferences
    assert_compared(example("dwave_sampler").main(source, out, **settings), out, "dwave")


@pytest.mark.parametrize(("name", "settings"), [("kaiwu_energy_score", "KaiwuScore"), ("dwave_sampler", "DWaveScore")])
def test_a_plugins_machine_has_the_energy_of_ours_and_learns(few_preferences, name, settings):
    pytest.importorskip("kaiwu.torch_plugin" if "kaiwu" in name else "dwave.plugins.torch.models")
    score = getattr(example(name), settings)(4, hidden=3).eval()
    with torch.no_grad():
        for parameter in score.machine.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    embedding, reward = torch.randn(5, 4), torch.randn(5)
    ours = CoupledBoltzmannMachine(4, hidden=3).eval()
    ours.load_state_dict({key: value for key, value in score.state_dict().items() if not key.startswith("machine.")})
    own = score.clamp(embedding, reward).field - ours.clamp(embedding, reward).field
    with torch.no_grad():
        ours.c.add_(own[0])
        rows, columns = torch.triu_indices(3, 3, 1)
        ours.upper_couplings.copy_(score.couplings[rows, columns])
    torch.testing.assert_close(score(embedding, reward, reward + 0.3), ours(embedding, reward, reward + 0.3))
    score(embedding, reward, reward).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in score.machine.parameters())


def test_a_reward_model_is_refined_served_asked_and_stopped(tmp_path):
    pytest.importorskip("fastapi")
    reward_model = save(tmp_path / "reward-model")
    preferences = json_lines(tmp_path / "prefs.jsonl", PREFERENCES)
    program = [sys.executable, "-u", "-c", SHORT, EXAMPLES / "refine_and_serve.py", reward_model, preferences]
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
    reward_model = load_reward_model(str(save(tmp_path / "reward-model")))
    refined = EnergyRewardModel(reward_model, SemiQuantumRBM(reward_model.dim, hidden=4))
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
