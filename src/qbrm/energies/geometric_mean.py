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
    settings = first.settings()
    settings |= {"hidden": len(machines) * first.hidden, "members": len(machines) * first.members}
    mean = type(first)(**settings).to(first.W)
    for name in unit_names:
        getattr(mean, name).copy_(getattr(first, name))
    for name in ("W", "c", "u"):
        getattr(mean, name).copy_(torch.cat([getattr(machine, name) for machine in machines], dim=1))
    precision = torch.stack([machine.tau.pow(-2) for machine in machines])
    weight = precision / precision.sum()
    mean.a.copy_(weight @ torch.stack([machine.a for machine in machines]))
    mean.a0.copy_(weight @ torch.stack([machine.a0 for machine in machines]))
    mean.log_tau.copy_(-precision.mean().log() / 2)
    mean.gate = copy.deepcopy(first.gate)
    return mean.eval()


def _settings(machine: LogConcaveScore) -> dict[str, Any]:
    """What machines must have in common; the rank of a gate follows from the embeddings that it was fitted to."""
    return {**machine.settings(), "gate_rank": machine.gate is not None}
