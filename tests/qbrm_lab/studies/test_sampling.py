"""The sampling study: its measures on a problem small enough to know, and the whole of it on two small variants."""

import json
import math

import pytest
import torch

from fixtures.preference_files import write_preferences
from qbrm.cli.console import Reporter
from qbrm.interop.ising import Ising
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.studies import sampler_error, sampling
from qbrm_lab.studies.sampler_error import sampler_errors
from qbrm_lab.studies.sampling import Variant, study_sampling

pytestmark = pytest.mark.usefixtures("one_thread")


def three_spins():
    generator = torch.Generator().manual_seed(4)
    couplings = torch.randn(3, 3, generator=generator).triu(1)
    return Ising(torch.randn(5, 3, generator=generator), couplings + couplings.T)


@pytest.fixture
def errors(monkeypatch):
    monkeypatch.setattr(sampler_error, "EFFORTS", (1, 32))
    return {(row.sampler, row.effort): row for row in sampler_errors(three_spins(), seed=0)}


def test_exact_states_are_as_far_off_as_independent_ones_must_be(errors):
    """Total variation of n independent states: sqrt(2 p (1 - p) / (pi n)) on average, summed over states and halved."""
    problem = three_spins()
    bits = torch.arange(8)[:, None] >> torch.arange(3)
    states = (bits % 2 * 2 - 1).float()
    p = (problem.fields @ states.T + ((states @ problem.couplings) * states).sum(1) / 2).softmax(1)
    expected = float((p * (1 - p)).sqrt().sum(1).mean()) * math.sqrt(2 / (math.pi * sampler_error.STATES)) / 2
    assert errors["exact", None].total_variation == pytest.approx(expected, rel=0.5)


def test_sweeps_and_bits_bring_samplers_to_the_exact_one(errors):
    floor = errors["exact", None].total_variation
    assert errors["gibbs", 32].total_variation < 2 * floor
    assert errors["annealing", 32].total_variation < errors["annealing", 1].total_variation
    assert errors["kaiwu-gibbs, bits", 8].mean_error < errors["kaiwu-gibbs, bits", 4].mean_error
    assert errors["descent", None].total_variation > 10 * floor


def test_the_study_sets_every_variant_and_sampler_side_by_side(monkeypatch, tmp_path):
    variants = (Variant("rbm", 4), Variant("qbm", 4), Variant("qbm", 4, "gibbs"))
    monkeypatch.setattr(sampling, "VARIANTS", variants)
    monkeypatch.setattr(sampling, "MEASURED_ON", variants[1])
    monkeypatch.setattr(sampler_error, "EFFORTS", (2,))
    few = write_preferences(tmp_path / "few.jsonl", 0, 60)
    settings = ComparisonSettings(few, tmp_path, seeds=1, epochs=1)
    text = study_sampling(settings, Reporter()).read_text()
    content = json.loads((tmp_path / "sampling.json").read_text())
    assert [(row["score"], row["hidden"], row["sampler"]) for row in content["scores"]] == [
        ("rbm", 4, "closed form"),
        ("qbm", 4, "sum over all states"),
        ("qbm", 4, "gibbs"),
    ]
    assert [row["sampling"] is None for row in content["scores"]] == [True, True, False]
    assert all(line in text for line in ("| qbm | 4 | gibbs |", "| exact | - |"))
    for plot in ("accuracy-by-size.png", "error-by-time.png"):
        assert (tmp_path / plot).read_bytes().startswith(b"\x89PNG")
