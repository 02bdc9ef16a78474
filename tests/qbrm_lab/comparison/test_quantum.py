"""A comparison with the quantum Boltzmann machine, diagonalised and sampled, with a fake encoder."""

import numpy as np
import pytest

from fixtures.comparisons import run
from fixtures.fake_encoder import FakeEncoder
from fixtures.preference_files import read_lines, write_preferences
from qbrm import EnergyRewardModel
from qbrm.reward_models import REWARD_MODELS
from qbrm_lab.methods import folder_name

METHODS = ("tqbm:hidden=3", "tqbm:gate,hidden=3", "tqbm:hidden=12,sampler=gibbs")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantum")
    train, test = (write_preferences(folder / f"{first}.jsonl", first, count) for first, count in ((0, 48), (1000, 24)))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(REWARD_MODELS, "fake", FakeEncoder)
        results, _ = run(train=train, tests=(test,), methods=("base", *METHODS), epochs=2, out=folder / "out")
        models = folder / "out" / "models"
        trained = {
            method: EnergyRewardModel.from_pretrained(models / f"{folder_name(method)}-fresh-seed-0")
            for method in METHODS
        }
    return results, trained, read_lines(test)


@pytest.mark.parametrize("method", METHODS)
def test_what_a_comparison_saved_has_the_accuracy_that_it_stated(compared, method):
    results, trained, lines = compared
    right = []
    for line in lines:
        answers = [line["chosen"], *line["rejected"]]
        chosen, *rejected = trained[method].score([line["prompt"]] * len(answers), answers).refined.tolist()
        if len(rejected) == 1:
            right.append(chosen > rejected[0])
    (row,) = [
        row for row in results["rows"] if (row["method"], row["set"], row["category"]) == (method, "pairwise", "all")
    ]
    # Draws differ with the batch that a response is in, and may turn a pair that is nearly even.
    tolerance = 0.2 if "sampler" in method else 1e-6
    assert row["accuracy"] == pytest.approx(np.mean(right), abs=tolerance)


def test_only_the_sampled_machine_states_a_sampling_error(compared):
    results, _, _ = compared
    assert all(("sampling" in row) == ("sampler" in row["method"]) for row in results["rows"])
    errors = [epoch["monte_carlo_error"] for epoch in results["epochs"] if "sampler" in epoch["method"]]
    assert errors
    assert min(errors) > 0
