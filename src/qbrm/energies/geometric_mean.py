"""Several machines as one."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch

if TYPE_CHECKING:
    from qbrm.energies.boltzmann import LogConcaveScore

Machine = TypeVar("Machine", bound="LogConcaveScore")


@torch.no_grad()
def geometric_mean(machines: Sequence[Machine]) -> Machine:
    r"""The normalised geometric mean of the densities of K machines, which is again a machine, K times as wide.

    .. math:: p(r \mid e) \propto \prod_k p_k(r \mid e)^{1/K}, \qquad f = \tfrac1K \sum_k f_k + \mathrm{const}

    The Gaussian parts add up to one of precision 1 / tau^2 = mean_k 1 / tau_k^2 around the mean of the mu_k weighted
    with their precisions; all hidden qubits stay, each with weight 1 / K. Machines trained from other seeds or on other
    prompts err apart, and their mean errs less: a logarithmic opinion pool, as products of experts are (Hinton, 2002,
    Neural Computation 14, 1771).

    If the gates of the K differ, the mean has the first one's, and the equation holds as far as they agree.

    Args:
        machines: of one class and the same sizes, in the same units, all gated or none.

    Raises:
        ValueError: if their settings or units differ, or some have a gate and others none.
    """
    first, *others = machines
    unit_names = ("reward_loc", "reward_scale", "embedding_loc", "embedding_scale")
    for other in others:
        same_units = all(torch.equal(getattr(first, name), getattr(other, name)) for name in unit_names)
        if _settings(other) != _settings(first) or not same_units:
            raise ValueError(
                f"machines differ: {first} and {other}, same units: {same_units}; expected the same sizes and units"
            )
    count, settings = len(machines), first.settings()
    widened = {name: count * settings[name] for name in ("hidden", "members", "deep") if name in settings}
    mean = type(first)(**settings | widened).to(first.W)
    for name in unit_names:
        getattr(mean, name).copy_(getattr(first, name))
    for name in ("c", "u"):
        getattr(mean, name).copy_(torch.cat([getattr(machine, name) for machine in machines], dim=1))
    precision = torch.stack([machine.tau.pow(-2) for machine in machines])
    weight = precision / precision.sum()
    shifts = [share * machine.a for share, machine in zip(weight, machines, strict=True)]
    if mean.trunk is None:
        mean.W.copy_(torch.cat([machine.W for machine in machines], dim=1))
        mean.a.copy_(torch.stack(shifts).sum(0))
    else:
        # Trunks stand side by side, and each machine's hidden units read their own.
        for axis in range(mean.axes):
            mean.W[axis].copy_(torch.block_diag(*(machine.W[axis] for machine in machines)))  # type: ignore[no-untyped-call]
        mean.a.copy_(torch.cat(shifts))
        mean.trunk.weight.copy_(torch.cat([machine.trunk.weight for machine in machines if machine.trunk]))
        mean.trunk.bias.copy_(torch.cat([machine.trunk.bias for machine in machines if machine.trunk]))
    mean.a0.copy_(weight @ torch.stack([machine.a0 for machine in machines]))
    mean.log_tau.copy_(-precision.mean().log() / 2)
    mean.gate = copy.deepcopy(first.gate)
    return mean.eval()


def _settings(machine: LogConcaveScore) -> dict[str, Any]:
    """What machines must have in common; the rank of a gate follows from the embeddings that it was fitted to."""
    return {**machine.settings(), "gate_rank": machine.gate is not None}
