"""Several machines as one."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from qbrm.energies.sqrbm import SemiQuantumRBM


@torch.no_grad()
def geometric_mean(machines: Sequence[SemiQuantumRBM]) -> SemiQuantumRBM:
    r"""The normalised geometric mean of the densities of K machines, which is again a machine, K times as wide.

    .. math:: p(r \mid e) \propto \prod_k p_k(r \mid e)^{1/K}, \qquad f = \tfrac1K \sum_k f_k + \mathrm{const}

    The Gaussian parts add up to one of precision 1 / tau^2 = mean_k 1 / tau_k^2 around the mean of the mu_k weighted
    with their precisions; all hidden qubits stay, each with weight 1 / K. Machines that differ in their seed only err
    apart, and their mean errs less: a logarithmic opinion pool, as products of experts are (Hinton, 2002, Neural
    Computation 14, 1771).

    Args:
        machines: of the same sizes, in the same units, without gates.

    Raises:
        ValueError: if their settings or units differ, or one has a gate.
    """
    first, *others = machines
    unit_names = ("reward_loc", "reward_scale", "embedding_loc", "embedding_scale")
    for other in others:
        same_units = all(torch.equal(getattr(first, name), getattr(other, name)) for name in unit_names)
        if other.settings() != first.settings() or not same_units:
            raise ValueError(
                f"machines differ: {first} and {other}, same units: {same_units}; expected seeds to differ"
            )
    if first.gate is not None:
        raise ValueError("machines have gates; expected none: their mean gets one")
    settings = first.settings()
    settings |= {"hidden": len(machines) * first.hidden, "members": len(machines) * first.members}
    mean = SemiQuantumRBM(**settings).to(first.W.dtype)
    for name in unit_names:
        getattr(mean, name).copy_(getattr(first, name))
    for name in ("W", "c", "u"):
        getattr(mean, name).copy_(torch.cat([getattr(machine, name) for machine in machines], dim=1))
    precision = torch.stack([machine.tau.pow(-2) for machine in machines])
    weight = precision / precision.sum()
    mean.a.copy_(weight @ torch.stack([machine.a for machine in machines]))
    mean.a0.copy_(weight @ torch.stack([machine.a0 for machine in machines]))
    mean.log_tau.copy_(-precision.mean().log() / 2)
    return mean.eval()
