"""Machines that were trained apart, as one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import Self, override

from qbrm.energies.base import Clamped, EnergyScore, Lattice
from qbrm.energies.boltzmann import BoltzmannScore
from qbrm.energies.newton import LogConcave, Slope, newton_mode
from qbrm.errors import InputError


class Part(NamedTuple):
    """One machine of a product with a batch of examples clamped.

    Attributes:
        machine: the machine.
        clamped: the examples as it sees them.
        weight: its weight w_k(e).
        scale: its standardised rewards are `scale` times the product's, plus `shift`.
        shift: as above.
    """

    machine: BoltzmannScore
    clamped: Clamped
    weight: Float[Tensor, " batch"]
    scale: Float[Tensor, ""]
    shift: Float[Tensor, ""]

    def own(self, reward: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The product's standardised rewards in the machine's units."""
        return reward * self.scale + self.shift

    def back(self, reward: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The machine's standardised rewards in the product's units."""
        return (reward - self.shift) / self.scale


class Product(EnergyScore):
    r"""The normalised, weighted geometric mean of K machines that were trained apart, which is again a machine.

    .. math:: p(r \mid e) \propto \prod_k p_k(r \mid e)^{w_k(e)}, \qquad f = \sum_k w_k(e)\, f_k(e, r), \qquad
              \sum_k w_k(e) = 1

    A logarithmic opinion pool (Genest & Zidek, 1986, Statistical Science 1, 114), of experts who need not share data,
    units, sizes or kind. Where all f_k are concave in r so is f, and its mode lies between theirs. As the weights sum
    to one, the base reward that all machines start from counts once, not K times as in a product of experts.

    With weights by familiarity, the densities that the gates have of the embedding say whose it is:

    .. math:: w_k(e) = p_k(e)^{1 / w} \Big/ \sum_j p_j(e)^{1 / w}

    with w the mean width of the gates. That is the posterior of which domain e is from, as far as the gates know it,
    tempered: a machine has its whole correction on what it alone was trained on. Far from everything each correction
    fades by its own gate, whoever has the weight.

    Args:
        machines: two or more Boltzmann machines for embeddings of one size, none of which draws with a sampler.
        weights: constant w_k, which are divided by their sum; None for weights by familiarity, for machines with gates.

    Raises:
        InputError: if machines or weights do not fit together.
    """

    anchored = True

    def __init__(self, machines: Sequence[BoltzmannScore], weights: Sequence[float] | None = None) -> None:
        _check_machines(machines)
        super().__init__(machines[0].dim)
        self.machines = nn.ModuleList(machines)
        self.by_familiarity = weights is None
        if weights is None:
            _check_gates(machines)
        else:
            _check_weights(weights, len(machines))
        told = [1.0] * len(machines) if weights is None else weights
        self.weights = [weight / math.fsum(told) for weight in told]
        self.to(machines[0].reward_loc)
        self.reward_loc.copy_(machines[0].reward_loc)
        self.reward_scale.copy_(machines[0].reward_scale)

    @override
    def settings(self) -> dict[str, Any]:
        return {"machines": [*self._machines], "weights": None if self.by_familiarity else self.weights}

    @override
    def extra_repr(self) -> str:
        return f"weights={'by familiarity' if self.by_familiarity else self.weights}"

    @override
    def renewed(self, **changes: Any) -> Self:
        """Raise TypeError: machines are fitted one by one."""
        raise TypeError("a product is not fitted; expected machines that were, to merge")

    @property
    def _machines(self) -> Sequence[BoltzmannScore]:
        return cast("Sequence[BoltzmannScore]", self.machines)

    @property
    @override
    def log_temperature(self) -> float:
        """Mean of the machines' own."""
        return math.fsum(machine.log_temperature for machine in self._machines) / len(self._machines)

    @override
    def set_log_temperature(self, value: float) -> None:
        """Multiply the temperatures of all machines by the one factor that brings about this mean."""
        change = value - self.log_temperature
        for machine in self._machines:
            machine.set_log_temperature(machine.log_temperature + change)

    def shares(self, embedding: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch machines"]:
        """The weights w_k(e) of embeddings; they sum to one."""
        if self.by_familiarity:
            known = torch.stack([machine.log_familiarity(embedding) for machine in self._machines], 1)
            widths = [machine.gate.width for machine in self._machines if machine.gate is not None]
            return torch.softmax(known / torch.stack(widths).mean(), 1)
        return embedding.new_tensor(self.weights).expand(len(embedding), -1)

    @override
    def clamp(self, embedding: Float[Tensor, "batch dim"], base_reward: Float[Tensor, " batch"]) -> Clamped:
        columns: list[Tensor] = []
        for share, machine in zip(self.shares(embedding).unbind(1), self._machines, strict=True):
            seen = machine.clamp(embedding, base_reward)
            familiarity = torch.ones_like(seen.mean) if seen.familiarity is None else seen.familiarity
            columns += [torch.stack([share, seen.mean, familiarity], 1), seen.field.flatten(1)]
        standard = self.to_standard(base_reward)
        clamped = Clamped(torch.cat(columns, 1), standard, standard)
        parts = self._parts(clamped)
        precision = torch.stack([part.weight * (part.scale / part.machine.tau).square() for part in parts])
        centre = torch.stack([part.back(part.clamped.mean) for part in parts])
        return clamped._replace(mean=(precision * centre).sum(0) / precision.sum(0))

    def _parts(self, clamped: Clamped) -> list[Part]:
        """The machines with what each made of the examples, which stands side by side in the fields."""
        parts, start = [], 0
        for machine in self._machines:
            weight, mean, familiarity = clamped.field[:, start : start + 3].unbind(1)
            start, end = start + 3, start + 3 + machine.axes * machine.hidden
            field = clamped.field[:, start:end].reshape(len(clamped.field), machine.axes, machine.hidden)
            scale = self.reward_scale / machine.reward_scale
            shift = (self.reward_loc - machine.reward_loc) / machine.reward_scale
            seen = Clamped(field, mean, clamped.base_reward * scale + shift, None, familiarity)
            parts.append(Part(machine, seen, weight, scale, shift))
            start = end
        return parts

    @override
    def at(self, clamped: Clamped, reward: Float[Tensor, "#batch n"]) -> Float[Tensor, "batch n"]:
        parts = self._parts(clamped)
        values = [part.weight[:, None] * part.machine.at(part.clamped, part.own(reward)) for part in parts]
        return torch.stack(values).sum(0)

    def slope(self, clamped: Clamped) -> Callable[[Float[Tensor, " batch"]], Slope]:
        """Derivatives f' and f'' as a function of one standardised reward per example."""
        parts = self._parts(clamped)
        slopes = [cast("LogConcave", part.machine).slope(part.clamped) for part in parts]

        def at(reward: Float[Tensor, " batch"]) -> Slope:
            first, second = torch.zeros_like(reward), torch.zeros_like(reward)
            for part, slope in zip(parts, slopes, strict=True):
                own = slope(part.own(reward))
                first = first + part.weight * part.scale * own.first
                second = second + part.weight * part.scale.square() * own.second
            return Slope(first, second)

        return at

    def bracket(self, clamped: Clamped) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """Rewards between which the mode must lie: outside, all machines pull the same way."""
        parts = self._parts(clamped)
        sides = [[part.back(side) for side in part.machine.bracket(part.clamped)] for part in parts]
        lows, highs = (torch.stack(side) for side in zip(*sides, strict=True))
        return lows.amin(0), highs.amax(0)

    @override
    def mode(self, clamped: Clamped) -> Float[Tensor, " batch"]:
        concave = all(hasattr(machine, "slope") for machine in self._machines)
        return newton_mode(self, clamped) if concave else super().mode(clamped)

    @override
    @torch.no_grad()
    def lattice(self, clamped: Clamped, spacing: float = 0.8) -> Lattice:
        # Beyond the bracket p(r | e) falls at least as fast as a normal of the widest machine's tau, and nothing in it
        # is sharper than in the stiffest machine.
        parts = self._parts(clamped)
        stiffest = max(float(part.scale.square() * part.machine.stiffness) for part in parts)
        if not math.isfinite(stiffest):
            raise FloatingPointError(f"1 / tau^2 + |u|^2 of a machine is {stiffest}")
        widest, step = max(float(part.machine.tau / part.scale) for part in parts), spacing * stiffest**-0.5
        low, high = self.bracket(clamped)
        reach = math.ceil((float((high - low).max()) / 2 + 6 * widest) / step)
        return Lattice(((low + high) / 2 / step).round().long() - reach, step, 2 * reach + 1, low.dtype)


def _check_machines(machines: Sequence[EnergyScore]) -> None:
    if len(machines) < 2:
        raise InputError(f"{len(machines)} machine to merge; expected two or more.")
    for number, machine in enumerate(machines, start=1):
        is_a = f"machine {number} is of class {type(machine).__name__}"
        if not isinstance(machine, BoltzmannScore):
            raise InputError(f"{is_a}, which cannot be merged; expected residual, rbm, sqrbm, qbm or tqbm.")
        if machine.draws:
            raise InputError(f"{is_a} and draws with a sampler; expected machines that are summed exactly.")
    sizes = [machine.dim for machine in machines]
    if len(set(sizes)) > 1:
        raise InputError(f"machines for embeddings of sizes {', '.join(map(str, sizes))}; expected one size.")


def _check_gates(machines: Sequence[BoltzmannScore]) -> None:
    for number, machine in enumerate(machines, start=1):
        if machine.gate is None:
            raise InputError(
                f"machine {number} has no gate, so nothing says what is familiar to it; expected machines that were "
                "fitted with a gate, or weights that are equal or numbers."
            )


def _check_weights(weights: Sequence[float], machines: int) -> None:
    told = ", ".join(f"{weight:g}" for weight in weights)
    if len(weights) != machines:
        raise InputError(f"weights {told} for {machines} machines; expected as many.")
    if not all(0 <= weight < math.inf for weight in weights) or not 0 < math.fsum(weights) < math.inf:
        raise InputError(f"weights {told}; expected numbers of zero or more, not all of them zero.")
