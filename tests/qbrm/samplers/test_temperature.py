import itertools

import pytest
import torch

from qbrm.errors import InputError
from qbrm.samplers.temperature import Thermostat, effective_temperature

pytestmark = pytest.mark.usefixtures("one_thread")

SPINS = 6
STATES = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=SPINS)), dtype=torch.float64)


def problems(batch=2, size=0.5, seed=1):
    random = torch.Generator().manual_seed(seed)
    fields = size * torch.randn(batch, SPINS, generator=random, dtype=torch.float64)
    couplings = size * torch.randn(batch, SPINS, SPINS, generator=random, dtype=torch.float64).triu(1)
    return fields, couplings + couplings.mT


def probabilities(fields, couplings, beta=1.0):
    """The Boltzmann distribution over `STATES`, by enumeration."""
    log_weight = torch.stack([(STATES * (h + STATES @ j / 2)).sum(-1) for h, j in zip(fields, couplings, strict=True)])
    return (beta * log_weight).softmax(-1)


def enumerated(fields, couplings, beta, count, seed=0):
    random = torch.Generator().manual_seed(seed)
    return STATES[probabilities(fields, couplings, beta).multinomial(count, replacement=True, generator=random)]


@pytest.mark.parametrize("beta", [0.3, 1.0, 2.5])
def test_effective_temperature_is_recovered_from_samples_at_a_known_one(beta):
    fields, couplings = problems(batch=3)
    found = effective_temperature(fields, couplings, enumerated(fields, couplings, beta, 4000))
    assert abs(found.beta - beta) < 3 * found.error
    assert found.error < 0.1 * beta
    assert found.residual < 0.03


def test_a_temperatures_standard_error_is_the_scatter_of_its_estimates():
    fields, couplings = problems()
    found = [
        effective_temperature(fields, couplings, enumerated(fields, couplings, 1, 500, seed)) for seed in range(200)
    ]
    scatter = torch.tensor([each.beta for each in found]).std()
    torch.testing.assert_close(torch.tensor([each.error for each in found]).mean(), scatter, rtol=0.15, atol=0)


def test_residual_exposes_a_mixture_of_two_temperatures():
    fields, couplings = problems()
    mixture = torch.cat([enumerated(fields, couplings, beta, 4000) for beta in (0.05, 4.0)], 1)
    pure = effective_temperature(fields, couplings, enumerated(fields, couplings, 1, 8000))
    assert effective_temperature(fields, couplings, mixture).residual > 5 * pure.residual


def test_temperature_of_frozen_samples_is_the_coldest_that_is_told_apart():
    fields, couplings = problems()
    best = STATES[probabilities(fields, couplings).argmax(-1)][:, None].expand(-1, 10, -1)
    assert effective_temperature(fields, couplings, best).beta == 1e3
    worst = STATES[probabilities(fields, couplings).argmin(-1)][:, None].expand(-1, 10, -1)
    assert effective_temperature(fields, couplings, worst).beta == 1e-3


@pytest.mark.parametrize("beta", [0.02, 0.4, 30.0])
def test_thermostat_finds_the_scale_of_a_device_and_keeps_it(beta):
    fields, couplings = problems()
    thermostat, draws = Thermostat(), []

    def draw(scale):
        draws.append(scale)
        return enumerated(fields, couplings, beta * scale, 4000, seed=len(draws))

    thermostat.sample(draw, fields, couplings)
    assert thermostat.scale == pytest.approx(1 / beta, rel=0.06)
    first = len(draws)
    thermostat.sample(draw, fields, couplings)
    assert len(draws) <= first + 2


def test_thermostat_leaves_a_device_alone_that_scales_by_itself():
    fields, couplings = problems()
    thermostat, draws = Thermostat(), []

    def draw(scale):
        draws.append(scale)
        return enumerated(fields, couplings, 3.0, 4000)

    for _ in range(3):
        thermostat.sample(draw, fields, couplings)
    assert not thermostat.follows
    assert len(draws) == 4
    assert thermostat.temperature.beta == pytest.approx(3.0, rel=0.1)


@pytest.mark.parametrize("beta", [0.0, -1.0, float("inf"), float("nan")])
def test_beta_that_is_not_positive_is_refused(beta):
    with pytest.raises(InputError, match=f"beta is {beta}; expected a positive"):
        Thermostat(beta)


def test_a_thermostat_goes_on_at_the_scale_that_another_saved():
    fields, couplings = problems()
    first, resumed, draws = Thermostat(), Thermostat(), []

    def draw(scale):
        draws.append(scale)
        return enumerated(fields, couplings, 0.4 * scale, 4000, seed=len(draws))

    first.sample(draw, fields, couplings)
    before = len(draws)
    resumed.load_state_dict(first.state_dict())
    resumed.sample(draw, fields, couplings)
    assert draws[before] == first.scale != 1
    resumed.load_state_dict({})
    assert (resumed.scale, resumed.follows, resumed.temperature) == (1.0, True, None)


def test_a_thermostat_of_known_beta_has_nothing_to_save():
    known, learned = Thermostat(beta=4.0), Thermostat()
    assert known.state_dict() == {}
    known.load_state_dict(learned.state_dict())
    assert (known.scale, known.follows) == (0.25, False)


@pytest.mark.parametrize(
    "state",
    [
        {"scale": torch.tensor(1.0)},
        {"scale": torch.tensor(0.0), "follows": torch.tensor(True)},
        {"scale": torch.tensor(float("nan")), "follows": torch.tensor(True)},
        {"8x5": torch.zeros(3, 8, 5)},
    ],
)
def test_a_saved_state_of_something_else_is_refused(state):
    with pytest.raises(InputError, match="expected a positive scale"):
        Thermostat().load_state_dict(state)
