"""The gate with two sides: open to what a refinement has seen, closed to what is to be kept."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from qbrm.energies import RBM, Residual, build_score
from qbrm.energies.familiarity import Familiarity, fit_contrast

DIM = 6


def cloud(centre, n=200, seed=0):
    return torch.randn(n, DIM, generator=torch.Generator().manual_seed(seed)) + centre


def gate_between(new, kept):
    return fit_contrast(cloud(new), cloud(new, 80, 1), cloud(kept, seed=2), cloud(kept, 80, 3))


def test_a_gate_with_two_sides_is_open_on_the_new_and_closed_on_the_kept():
    gate = gate_between(1.5, -1.5)
    assert gate(cloud(1.5, seed=4)).mean() > 0.95
    assert gate(cloud(-1.5, seed=5)).mean() < 0.05


def test_a_gate_is_half_open_where_both_sides_are_as_likely():
    """Between two clouds of one shape, the evidence is linear and zero half way."""
    gate = gate_between(1.0, -1.0)
    middle, ends = torch.zeros(1, DIM), torch.full((1, DIM), 0.5)
    assert float(gate(middle)) == pytest.approx(0.5, abs=0.15)
    assert float(gate(-ends)) < float(gate(middle)) < float(gate(ends))


def test_sides_that_are_the_same_leave_the_gate_half_open():
    opened = gate_between(0.0, 0.0)(cloud(0.0, seed=6))
    assert float((opened - 0.5).abs().max()) < 0.2


def test_the_evidence_is_the_ratio_of_two_gaussians_densities():
    gate = gate_between(1.0, -0.5).double()
    embedding = cloud(0.3, 9, 7).double()

    def log_density(side):
        covariance = side.rest * torch.eye(DIM, dtype=torch.float64)
        covariance += side.directions.T @ torch.diag(side.variances - side.rest) @ side.directions
        return MultivariateNormal(side.mean, covariance).log_prob(embedding)

    expected = log_density(gate) - log_density(gate.kept)
    torch.testing.assert_close(gate.evidence(embedding), expected, rtol=1e-5, atol=1e-4)


def test_threshold_and_width_are_those_of_a_logistic_regression():
    """The loss that they minimise, written a second time, is greater everywhere around them."""
    gate = gate_between(0.4, -0.4)
    sides = cloud(0.4, 80, 1), cloud(-0.4, 80, 3)

    def loss(threshold, width):
        total = 0.0
        for side, label in zip(sides, (81 / 82, 1 / 82), strict=True):
            for value in gate.evidence(side).double().tolist():
                logit = (value - threshold) / width
                total += label * math.log1p(math.exp(-logit)) + (1 - label) * math.log1p(math.exp(logit))
        return total

    threshold, width = float(gate.threshold), float(gate.width)
    around = [loss(threshold + 0.1, width), loss(threshold - 0.1, width), loss(threshold, 1.1 * width)]
    assert loss(threshold, width) < min(*around, loss(threshold, 0.9 * width))


@pytest.mark.parametrize("score", [RBM(DIM, 4), Residual(DIM)])
def test_a_score_with_two_sides_is_rebuilt_from_its_settings(score):
    """As a model is saved and loaded, which makes lists of tuples."""
    score.set_gate(score.fitted_gate(cloud(1), cloud(1, 80, 1), (cloud(-1, seed=2), cloud(-1, 80, 3))))
    settings = score.settings()
    assert isinstance(settings["gate_rank"], list)
    rebuilt = build_score({RBM: "rbm", Residual: "residual"}[type(score)], **settings)
    rebuilt.load_state_dict(score.state_dict())
    torch.testing.assert_close(rebuilt.familiarity(cloud(0)), score.familiarity(cloud(0)), rtol=0, atol=0)


def test_a_gate_of_one_rank_knows_one_side():
    assert Familiarity.of_rank(DIM, 3).kept is None
    assert Familiarity.of_rank(DIM, [3, 2]).rank == [3, 2]
