"""The sampling study: its measures on a problem small enough to know, and the whole of it on a few small machines."""

import json
import math

import pytest
import torch

from fixtures.preference_files import write_preferences
from qbrm.cli.console import Reporter
from qbrm.data.pairs import PairData
from qbrm.interop.ising import Ising
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.studies import sampler_error, sampler_training, sampling
from qbrm_lab.studies.sampler_error import sampler_errors
from qbrm_lab.studies.sampler_training import Look, Parts, Variant, train_against_clock
from qbrm_lab.studies.sampling import Extent, first_at, over_seeds, study_sampling

pytestmark = pytest.mark.usefixtures("one_thread")


def three_spins():
    generator = torch.Generator().manual_seed(4)
    couplings = torch.randn(3, 3, generator=generator).triu(1)
    return Ising(torch.randn(5, 3, generator=generator), couplings + couplings.T)


@pytest.fixture(scope="module")
def errors():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampler_error, "SWEEPS", (1, 32))
        return {(row.sampler, row.effort): row for row in sampler_errors(three_spins(), seed=0)}


def test_exact_states_are_as_far_off_as_independent_ones_must_be(errors):
    """Total variation of n independent states: sqrt(2 p (1 - p) / (pi n)) on average, summed over states and halved."""
    problem = three_spins()
    bits = torch.arange(8)[:, None] >> torch.arange(3)
    states = (bits % 2 * 2 - 1).float()
    p = (problem.fields @ states.T + ((states @ problem.couplings) * states).sum(1) / 2).softmax(1)
    expected = float((p * (1 - p)).sqrt().sum(1).mean()) * math.sqrt(2 / (math.pi * sampler_error.STATES)) / 2
    assert errors["exact", None].total_variation == pytest.approx(expected, rel=0.5)


@pytest.mark.parametrize("name", ["gibbs", "annealing", "openjij"])
def test_sweeps_bring_samplers_to_the_exact_one(errors, name):
    assert errors[name, 32].total_variation < 0.5 * errors[name, 1].total_variation
    assert errors["gibbs", 32].mean_error < 2 * errors["exact", None].mean_error


def test_every_two_bits_bring_a_quantised_machine_closer_to_the_exact_one(errors):
    by_bits = [errors["kaiwu-gibbs, bits", bits].mean_error for bits in (4, 6, 8, 10)]
    assert by_bits == sorted(by_bits, reverse=True)
    assert by_bits[-1] < 0.2 * by_bits[0]


def test_optimizers_are_far_from_the_distribution(errors):
    for optimizer in (("descent", None), ("bifurcation, steps", 500)):
        assert errors[optimizer].total_variation > 10 * errors["exact", None].total_variation


def test_the_target_is_nine_tenths_of_what_the_closed_form_gained():
    reference = [Look(0, 0, 0.0, 0.70), Look(5, 50, 1.0, 0.62), Look(10, 100, 2.0, 0.60), Look(15, 150, 3.0, 0.64)]
    looks = [Look(0, 0, 0.0, 0.70), Look(5, 50, 4.0, 0.612), Look(10, 100, 8.0, 0.609), Look(15, 150, 12.0, 0.59)]
    assert first_at(looks, reference) == looks[2]
    assert first_at(looks[:2], reference) is None
    assert first_at(looks, [Look(0, 0, 0.0, 0.6), Look(5, 50, 1.0, 0.7)]) is None


def test_intervals_over_seeds_are_students_on_logarithms():
    found = over_seeds([1.0, 10.0, 100.0])
    reach = 4.302652729911275 / math.sqrt(3)  # Student's quantile of two degrees of freedom; deviation one decade
    assert (found.mean, found.ci_low, found.ci_high) == pytest.approx((10.0, 10 ** (1 - reach), 10 ** (1 + reach)))
    assert over_seeds([3.0]).ci_low is None


@pytest.fixture
def few(monkeypatch, tmp_path):
    """Settings, and an extent with one slow sampler and one that is fast."""
    kept = {name: sampler_training.SAMPLED[name] for name in ("gibbs", "openjij")}
    for module in (sampler_training, sampling):
        monkeypatch.setattr(module, "SAMPLED", kept)
    monkeypatch.setattr(sampling, "MOST_SUMMED", 4)
    monkeypatch.setattr(sampling, "PROBLEMS", 2)
    monkeypatch.setattr(sampler_error, "SWEEPS", (2,))
    monkeypatch.setattr(sampler_error, "BIFURCATION_STEPS", (20,))
    source = write_preferences(tmp_path / "few.jsonl", 0, 90)
    return ComparisonSettings(source, tmp_path, seeds=2, epochs=6), Extent((4,), (8,), budget=2.0)


def test_the_study_trains_every_size_with_every_sampler_and_keeps_what_it_trained(few, tmp_path, monkeypatch):
    settings, extent = few
    text = study_sampling(settings, 700, extent, Reporter()).read_text()
    content = json.loads((tmp_path / "sampling.json").read_text())
    rows = {(row["means"], row["hidden"]): row for row in content["trainings"]}
    assert list(rows) == [
        *(("closed form", 4), ("closed form", 8), ("sum over all states", 4)),
        *(("gibbs", 4), ("gibbs", 8), ("openjij", 4)),
    ]
    assert rows["openjij", 4]["trained"] == 0  # twenty steps of it would take longer than two seconds
    assert rows["gibbs", 8]["trained"] == 2
    assert rows["closed form", 4]["reached"] == 2
    assert rows["gibbs", 4]["nll"]["ci_low"] < rows["gibbs", 4]["nll"]["mean"] < rows["gibbs", 4]["nll"]["ci_high"]
    assert all(line in text for line in ("| 4 | openjij | left out |", "| 8 | gibbs |", "| exact | - |"))
    for plot in sampling.PLOTS:
        assert (tmp_path / plot).read_bytes().startswith(b"\x89PNG")

    def untrained(*_):
        raise AssertionError("was trained before")

    monkeypatch.setattr(sampling, "train_against_clock", untrained)
    assert study_sampling(settings, 700, extent, Reporter()).read_text() == text


def test_a_training_ends_when_its_budget_is_spent():
    generator = torch.Generator().manual_seed(0)
    embedding, reward = torch.randn(40, 3, generator=generator), torch.randn(40, generator=generator)
    pairs = PairData(embedding, reward, torch.arange(20), torch.arange(20, 40))
    trained = train_against_clock(Variant("closed form", 4), Parts(pairs, pairs, pairs), 5, budget=1e-9, seed=0)
    assert trained.cut
    assert [(look.steps, look.problems) for look in trained.looks] == [(0, 0), (1, 40)]
