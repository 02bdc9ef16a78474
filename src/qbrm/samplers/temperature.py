"""The temperature that samples were really drawn at, and scaling a problem until that temperature is one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.errors import InputError

COLDEST = 1e3
HOTTEST = 1e-3
BINS = 10


class Temperature(NamedTuple):
    """An effective inverse temperature, as estimated from samples.

    Attributes:
        beta: the estimate. 1e3 stands for that or more (every spin follows its field), 1e-3 for that or less.
        error: its standard error, for samples that are independent of each other; infinite at either limit.
        residual: how far the samples are from any temperature: the root mean square, over ten equally filled bins of
            the local field's strength, of the mean alignment seen less the one that beta predicts. Chance alone gives
            about sqrt(10 / n) at most for n spins. It is blind to states that fit every single spin but not together,
            such as a collection of local minima.
    """

    beta: float
    error: float
    residual: float


def effective_temperature(
    fields: Float[Tensor, "batch spins"],
    couplings: Float[Tensor, "*batch spins spins"],
    samples: Float[Tensor, "batch samples spins"],
) -> Temperature:
    r"""Estimate beta from samples of :math:`p(s) \propto \exp(\beta (h^\top s + \tfrac12 s^\top J s))`.

    .. math:: \hat\beta = \arg\max_{\beta > 0} \sum_s \sum_i \log \sigma\bigl(2 \beta s_i a_i\bigr),
              \qquad a_i = h_i + \sum_j J_{ij} s_j

    Maximum pseudo-likelihood: each spin's distribution given all others needs no partition function. One beta is fitted
    to all problems. The standard error is the sandwich estimate, which allows for the dependence between spins of one
    state.
    """
    local = (fields[:, None] + samples @ couplings).double()
    alignment = (samples * local).flatten(0, 1)
    strength = local.abs().flatten(0, 1)
    beta = _maximum(alignment, strength)
    if not HOTTEST < beta < COLDEST:
        return Temperature(beta, math.inf, _misfit(alignment, strength, beta))
    score = (alignment - strength * torch.tanh(beta * strength)).sum(-1)
    error = float(score.square().sum().sqrt() / _curvature(strength, beta))
    return Temperature(beta, error, _misfit(alignment, strength, beta))


def _maximum(alignment: Tensor, strength: Tensor) -> float:
    """Newton's method from zero: the slope is convex and falls, so that the steps never pass its root."""
    if (alignment >= 0).all() and alignment.any():
        return COLDEST
    beta = 0.0
    for _ in range(100):
        slope = float((alignment - strength * torch.tanh(beta * strength)).sum())
        step = slope / max(_curvature(strength, beta), 1e-300)
        beta += step
        if beta >= COLDEST or step <= 1e-9 * beta:
            break
    return min(max(beta, HOTTEST), COLDEST)


def _curvature(strength: Tensor, beta: float) -> float:
    return float((strength / torch.cosh((beta * strength).clamp_max(300))).square().sum())


def _misfit(alignment: Tensor, strength: Tensor, beta: float) -> float:
    order = strength.flatten().argsort()
    excess = alignment.sign() - torch.tanh(beta * strength)
    excess = torch.where(strength > 0, excess, 0.0).flatten()[order]
    means = torch.stack([part.mean() for part in excess.tensor_split(BINS) if len(part)])
    return float(means.square().mean().sqrt())


class Thermostat:
    r"""Scales problems so that a device samples them at unit temperature.

    .. math:: p_{\text{device}}(s) \propto \exp\bigl(\beta\, c\, (h^\top s + \tfrac12 s^\top J s)\bigr),
              \qquad c = 1 / \beta

    A device of known inverse temperature beta gets every problem times 1 / beta. For an unknown one, c is found from
    the samples themselves: draw, estimate beta c, divide c by it, draw again. It is kept for the next problems, which
    then cost one draw each. A device that scales problems by itself does not follow. This is noticed once; from
    then on its samples are passed on as they are, and the estimate says how cold they are.

    Args:
        beta: the device's inverse temperature, if known.
        rounds: how often to draw again, at most, before samples are passed on.
        tolerance: the accepted distance of the effective inverse temperature from 1.

    Attributes:
        scale: c.
        temperature: of the last samples, with respect to the problems as given: 1 is right. None before the first.
        follows: whether the device's effective temperature follows c, as far as is known.

    Raises:
        InputError: if beta is not positive.
    """

    def __init__(self, beta: float | None = None, rounds: int = 4, tolerance: float = 0.02) -> None:
        if beta is not None and not 0 < beta < math.inf:
            raise InputError(f"the sampler's beta is {beta}; expected a positive inverse temperature.")
        self._beta, self._rounds, self._tolerance = beta, rounds, tolerance
        self.temperature: Temperature | None = None
        self.restart()

    def restart(self) -> None:
        """Forget what samples have told of the device."""
        self.scale = 1.0 if self._beta is None else 1 / self._beta
        self.follows = self._beta is None
        self.temperature = None

    def state_dict(self) -> dict[str, Tensor]:
        """The scale, and whether the device follows it; nothing for a known beta, which samples tell nothing of."""
        if self._beta is not None:
            return {}
        scale = torch.tensor(self.scale, dtype=torch.float64, device="cpu")
        return {"scale": scale, "follows": torch.tensor(self.follows, device="cpu")}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on at a saved scale; from the beginning if the state is empty or beta is known.

        Raises:
            InputError: if the state is not what `state_dict` gives.
        """
        self.restart()
        if not state or self._beta is not None:
            return
        scale, follows = (state.get(name, torch.tensor([], device="cpu")) for name in ("scale", "follows"))
        if scale.ndim or follows.ndim or not 0 < float(scale) < math.inf:
            raise InputError(
                f"thermostat: saved state is {dict(state)}; expected a positive scale and whether the device follows."
            )
        self.scale, self.follows = float(scale), bool(follows)

    def sample(
        self,
        draw: Callable[[float], Float[Tensor, "batch samples spins"]],
        fields: Float[Tensor, "batch spins"],
        couplings: Float[Tensor, "*batch spins spins"],
    ) -> Float[Tensor, "batch samples spins"]:
        """Draw at a scale that makes the effective temperature one, if it can be made so.

        Args:
            draw: what the device returns for all problems times a scale.
            fields: h of every problem, as given.
            couplings: J, one matrix for all problems or one per problem.
        """
        samples = draw(self.scale)
        found = effective_temperature(fields, couplings, samples)
        for _ in range(self._rounds):
            if not self.follows or self._is_one(found):
                break
            step = min(max(found.beta, 0.01), 100.0)
            samples = draw(self.scale / step)
            after = effective_temperature(fields, couplings, samples)
            self.follows = self._is_one(after) or _follows(step, found, after)
            self.scale /= step if self.follows else 1
            found = after
        self.temperature = found
        return samples

    def _is_one(self, found: Temperature) -> bool:
        return math.isfinite(found.error) and abs(found.beta - 1) <= max(self._tolerance, 2 * found.error)


def _follows(step: float, before: Temperature, after: Temperature) -> bool:
    """Whether beta went at least half of the way that division by `step` asks for, give or take two standard errors."""
    asked, went = math.log(step), math.log(before.beta / after.beta)
    noise = sum(found.error / found.beta for found in (before, after) if math.isfinite(found.error))
    return math.copysign(went, went * asked) >= abs(asked) / 2 - 2 * noise


class Thermostatted:
    """A sampler whose device is kept at unit temperature by a thermostat."""

    _thermostat: Thermostat

    def state_dict(self) -> dict[str, Tensor]:
        """What is known of the device's temperature, as tensors to save with a model."""
        return self._thermostat.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what was known of the device's temperature; from nothing if the state is empty.

        Raises:
            InputError: if the state is not what `state_dict` gives.
        """
        self._thermostat.load_state_dict(state)

    @property
    def effective_beta(self) -> float | None:
        """Estimated inverse temperature of the last samples with respect to the problems as given: 1 is right."""
        found = self._thermostat.temperature
        return None if found is None else found.beta

    @property
    def residual(self) -> float | None:
        """How far the last samples were from any temperature; see :class:`Temperature`."""
        found = self._thermostat.temperature
        return None if found is None else found.residual
