"""From a user's own model folder and a JSONL of preferences to a served, refined reward, as a user runs it."""

import json
import os
import re
import subprocess
import sys
import urllib.request
from contextlib import contextmanager

import pytest

from fixtures.preference_files import read_lines, write_preferences
from fixtures.tiny_models import save
from qbrm import EnergyRewardModel

pytestmark = pytest.mark.usefixtures("one_thread")


@contextmanager
def served(model):
    """Runs `qbrm serve` in a process of its own; gives its address."""
    arguments = [sys.executable, "-u", "-m", "qbrm", "serve", str(model), "--port", "0"]
    environment = {**os.environ, "COLUMNS": "400", "OMP_NUM_THREADS": "1"}
    environment.pop("QBRM_TOKEN", None)
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    try:
        printed = []
        for line in process.stdout:
            printed.append(line)
            if found := re.search(r"http://[\d.:]+", line):
                yield found[0]
                break
        else:
            pytest.fail("".join(printed))
    finally:
        process.terminate()
        rest, _ = process.communicate(timeout=10)
    assert process.returncode == 0, rest


def get_reward(address, body):
    request = urllib.request.Request(
        f"{address}/get_reward", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def test_a_folder_and_preferences_are_a_served_reward_in_three_commands(command, tmp_path):
    prefs = write_preferences(tmp_path / "prefs.jsonl", 0, 24)
    heldout = write_preferences(tmp_path / "heldout.jsonl", 24, 8)
    rm, features, model = save(tmp_path / "rm"), tmp_path / "features", tmp_path / "model"
    assert command("embed", prefs, "--reward-model", rm, "--out", features)[0] == 0
    assert command("train", features, "--score", "sqrbm", "--epochs", 1, "--out", model)[0] == 0

    asked = read_lines(heldout)
    prompts, responses = ([line[key] for line in asked] for key in ("prompt", "chosen"))
    expected = EnergyRewardModel.from_pretrained(model).score(prompts, responses).refined.tolist()
    queries = [prompt + response for prompt, response in zip(prompts, responses, strict=True)]
    with served(model) as address:
        answer = get_reward(address, {"query": queries, "prompts": prompts, "labels": [""] * len(prompts)})
    assert answer["rewards"] == pytest.approx(expected, abs=1e-5)
    assert max(expected) > min(expected)

    assert command("evaluate", model, "--on", heldout, "--out", tmp_path / "out")[0] == 0
    (found,) = json.loads((tmp_path / "out" / "evaluation.json").read_text())["benchmarks"]
    assert (found["prompts"], found["prompts_trained_on"]) == (8, 0)
