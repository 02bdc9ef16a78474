"""Qubits in a transverse field as classical spins, by the path integral, for any classical sampler."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.errors import InputError
from qbrm.interop.ising import check_problem
from qbrm.samplers.base import Couplings, Fields, Sampler, Spins


def sliced_couplings(
    couplings: Couplings, transverse: Float[Tensor, " qubits"], slices: int
) -> Float[Tensor, "*batch sliced sliced"]:
    r"""Couplings of the classical spins that stand for qubits in a transverse field, slice after slice.

    The Suzuki-Trotter formula with P slices (Suzuki, 1976, Prog. Theor. Phys. 56, 1454) gives each slice the couplings
    J / P, and ties every qubit to itself in the next slice, on a ring, by

    .. math:: K_j = \tfrac12 \log\coth(\Gamma_j / P)

    Expectations are off by a Trotter error that falls as 1 / P^2. Differentiable.

    Args:
        couplings: J.
        transverse: Gamma, all positive.
        slices: P, at least 3; 1 leaves the couplings alone.
    """
    same_slice = torch.eye(slices, dtype=couplings.dtype, device=couplings.device)
    within = torch.kron(same_slice, couplings / slices)
    if slices == 1:
        return within
    tie = -torch.log(torch.tanh(transverse.to(couplings) / slices)) / 2
    ring = same_slice.roll(1, dims=0)
    return within + torch.kron(ring + ring.T, torch.diag(tie))


class PathIntegralSampler:
    r"""Measures hidden qubits along z in the Gibbs state of a transverse-field Ising model.

    .. math:: \rho \propto \exp\Bigl(\sum_j h_j \sigma^z_j + \tfrac12 \sum_{jk} J_{jk} \sigma^z_j \sigma^z_k
              + \sum_j \Gamma_j \sigma^x_j\Bigr)

    It draws from a classical problem over P M spins: each of P slices has fields h / P, and
    :func:`sliced_couplings` says how they are coupled. The error of expectations falls as 1 / P^2. Without a transverse
    field the slices would be copies of each other, and one classical slice is drawn instead. Ties between slices make
    Markov chains slow: docs/mathematics.md has how many sweeps they need.

    Args:
        classical: draws the spins of all slices.
        transverse: Gamma, one per qubit, all positive or all zero.
        slices: P, at least 3.

    Raises:
        InputError: if the field is negative or zero for some qubits only, or there are fewer than 3 slices.
    """

    def __init__(self, classical: Sampler, transverse: Float[Tensor, " qubits"], slices: int = 16) -> None:
        if not torch.isfinite(transverse).all() or (transverse < 0).any():
            raise InputError(f"transverse field is {transverse.tolist()}; expected finite numbers of zero or more.")
        if (transverse == 0).any() and transverse.any():
            raise InputError(f"transverse field is {transverse.tolist()}; expected all zero or all positive.")
        if slices < 3:
            raise InputError(f"path integral of {slices} slices; expected at least 3.")
        self._classical, self.transverse = classical, transverse
        self.slices = slices if transverse.any() else 1

    def sample(self, fields: Fields, couplings: Couplings, samples: int, generator: torch.Generator) -> Spins:
        """Draw outcomes of measuring all qubits along z: the first slice of each world line."""
        return self.world_lines(fields, couplings, samples, generator)[:, :, 0]

    def world_lines(
        self, fields: Fields, couplings: Couplings, samples: int, generator: torch.Generator
    ) -> Float[Tensor, "batch samples slices qubits"]:
        """Draw all slices; each of them, and so their mean, has the expectations of measurements along z."""
        check_problem(fields, couplings)
        if fields.shape[1] != len(self.transverse):
            raise InputError(
                f"{fields.shape[1]} qubits with a transverse field for {len(self.transverse)}; expected as many."
            )
        sliced = sliced_couplings(couplings, self.transverse, self.slices)
        drawn = self._classical.sample((fields / self.slices).repeat(1, self.slices), sliced, samples, generator)
        return drawn.view(*drawn.shape[:2], self.slices, fields.shape[1])

    def along_x(self, lines: Float[Tensor, "batch samples slices qubits"]) -> Float[Tensor, "batch qubits"]:
        r"""Expectation of each sigma^x: the mean of tanh(Gamma / P)^{s_k s_{k+1}} over slices and world lines."""
        tie = torch.tanh(self.transverse.to(lines.device) / self.slices)
        aligned = lines * lines.roll(1, dims=2) > 0
        return torch.where(aligned, tie, 1 / tie).mean((1, 2))
