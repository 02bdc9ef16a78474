"""The sampling benchmark on small problems: what its rows hold, with and without the references."""

import importlib.util
import math

import pytest
import torch

from qbrm.samplers.exact import ExactSampler
from qbrm_lab.bench import sample

KEYS = {"sampler", "spins", "batch", "spin_updates_per_s", "ratio_to_kpp", "ratio_to_dwave", "max_moment_error"}


@pytest.fixture
def quick(monkeypatch):
    """A benchmark of milliseconds."""
    monkeypatch.setattr(sample, "CASES", ((8, 4), (24, 4)))
    monkeypatch.setattr(sample, "CHAINS_AT", (24, 4))
    monkeypatch.setattr(sample, "CHAINS", (2, 16))
    monkeypatch.setattr(sample, "CHECKED_STATES", 4096)
    monkeypatch.setattr(sample, "_rates", lambda ways, problem, seed: dict(zip(ways, range(1, 9), strict=False)))


def without(monkeypatch, *modules):
    original = sample.import_module

    def import_module(name):
        if name in modules:
            raise ModuleNotFoundError(f"No module named {name!r}")
        return original(name)

    monkeypatch.setattr(sample, "import_module", import_module)


def test_without_references_ratios_are_null_and_standard_error_tells(quick, monkeypatch, capsys):
    without(monkeypatch, "kaiwu.torch_plugin", "dimod")
    rows = sample.bench_sample(0)
    assert [(row["sampler"], row["spins"]) for row in rows] == [
        ("exact", 8),
        ("gibbs", 8),
        ("gibbs", 24),
        ("gibbs, 2 chains", 24),
        ("gibbs, 16 chains", 24),
    ]
    assert all(set(row) == KEYS for row in rows)
    assert {row["ratio_to_kpp"] for row in rows} == {row["ratio_to_dwave"] for row in rows} == {None}
    assert all(row["max_moment_error"] < 5 / 4096**0.5 for row in rows)
    error = capsys.readouterr().err
    assert "no ratios to kaiwu-torch-plugin: No module named" in error
    assert "no ratios to dwave-samplers: No module named" in error


def test_rates_count_every_attempted_flip():
    seen = []

    def draw(problem, sweeps, seed):
        seen.append(sweeps)
        return problem.fields

    ways = {
        "few": sample.TimedSampler(draw, chains=2, updates=4000, least=1),
        "least": sample.TimedSampler(draw, updates=1, least=7),
    }
    problem = sample.make_problem(8, 4, 0)
    rates = sample._rates(ways, problem, 0)
    assert set(seen) == {-(-4000 // (8 * 4 * 2)), 7}
    assert all(math.isfinite(rate) and rate > 0 for rate in rates.values())


@pytest.mark.parametrize(
    ("module", "name"), [("kaiwu.torch_plugin", sample.KPP), ("dwave.samplers", "dwave at temperature 1")]
)
def test_a_reference_samples_the_same_distribution(module, name):
    """So its sign and unit conventions are translated rightly: moments within 5 standard errors of 2,048 states."""
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        pytest.skip(f"{module} is not installed")
    problem = sample.make_problem(6, 1, 0)
    many = sample.Problem(problem.fields.expand(2048, -1), problem.couplings)
    states = sample._references()[name].draw(many, 30, 0)
    mean, correlation = ExactSampler().moments(*problem)
    assert states.shape == (2048, 6)
    assert (states.mean(0) - mean).abs().max() < 5 / 2048**0.5
    assert (states.T @ states / 2048 - correlation).abs().max() < 5 / 2048**0.5


def test_problems_are_the_same_for_the_same_seed():
    assert all(torch.equal(a, b) for a, b in zip(sample.make_problem(5, 2, 3), sample.make_problem(5, 2, 3)))  # noqa: B905
