"""Coupled hidden qubits in a transverse field: exact diagonalisation, and path integrals on any classical sampler."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.errors import InputError
from qbrm.interop.ising import check_problem
from qbrm.samplers.base import Couplings, Fields, Sampler, Spins

MAX_QUBITS = 10


class QuantumMoments(NamedTuple):
    """What the Gibbs state of the hidden qubits says: log Tr exp(-H), and expectations of each sigma^z and sigma^x."""

    log_partition: Float[Tensor, " batch"]
    along_z: Float[Tensor, "batch qubits"]
    along_x: Float[Tensor, "batch qubits"]


def diagonalise(
    fields: Float[Tensor, "batch qubits"],
    couplings: Float[Tensor, "*batch qubits qubits"],
    transverse: Float[Tensor, " qubits"],
) -> QuantumMoments:
    r"""Moments of the Gibbs state of a transverse-field Ising model, by diagonalising its Hamiltonian.

    .. math:: \rho \propto \exp\Bigl(\sum_j h_j \sigma^z_j + \tfrac12 \sum_{jk} J_{jk} \sigma^z_j \sigma^z_k
              + \sum_j \Gamma_j \sigma^x_j\Bigr)

    Memory and time grow as 4^M and 8^M per example. Computed in float64.

    Args:
        fields: h.
        couplings: J, symmetric with zero diagonal.
        transverse: Gamma.

    Raises:
        InputError: if the problem is not one, has more than ten qubits, or the transverse field has another length or
            is not finite.
    """
    check_problem(fields, couplings)
    qubits = fields.shape[1]
    if transverse.shape != (qubits,):
        raise InputError(f"transverse field has shape {tuple(transverse.shape)}; expected {(qubits,)}.")
    if not torch.isfinite(transverse).all():
        raise InputError(f"transverse field is {transverse.tolist()}; expected finite numbers.")
    if qubits > MAX_QUBITS:
        raise InputError(
            f"exact diagonalisation of {qubits} qubits; expected {MAX_QUBITS} or fewer. Use the path-integral sampler."
        )
    z, flips = _z_values(qubits, fields.device), _flips(qubits, fields.device)
    diagonal = fields.double() @ z.T + ((z @ couplings.double()) * z).sum(-1) / 2
    exponent = torch.diag_embed(diagonal) + torch.einsum("m,mij->ij", transverse.double(), flips)
    values, vectors = torch.linalg.eigh(exponent)
    weight = torch.softmax(values, -1)
    populations = torch.einsum("bik,bk->bi", vectors.square(), weight)
    state = torch.einsum("bik,bk,bjk->bij", vectors, weight, vectors)
    along_x = torch.einsum("bij,mij->bm", state, flips)
    return QuantumMoments(torch.logsumexp(values, -1), populations @ z, along_x)


def _z_values(qubits: int, device: torch.device) -> Float[Tensor, "states qubits"]:
    """Every basis state's sigma^z values."""
    states = torch.arange(2**qubits, device=device)
    return 1.0 - 2.0 * (states[:, None] >> torch.arange(qubits, device=device) & 1).double()


def _flips(qubits: int, device: torch.device) -> Float[Tensor, "qubits states states"]:
    """The sigma^x of each qubit: one where two basis states differ in that qubit alone."""
    states = torch.arange(2**qubits, device=device)
    flips = torch.zeros(qubits, 2**qubits, 2**qubits, dtype=torch.float64, device=device)
    for qubit in range(qubits):
        flips[qubit, states, states ^ (1 << qubit)] = 1
    return flips


class PathIntegralSampler:
    r"""Measures hidden qubits along z in the Gibbs state of a transverse-field Ising model.

    .. math:: \rho \propto \exp\Bigl(\sum_j h_j \sigma^z_j + \tfrac12 \sum_{jk} J_{jk} \sigma^z_j \sigma^z_k
              + \sum_j \Gamma_j \sigma^x_j\Bigr)

    The Suzuki-Trotter formula with P slices makes it a classical problem over P M spins: each slice k has fields h / P
    and couplings J / P, and every qubit is tied to itself in the next slice by

    .. math:: K_j = \tfrac12 \log\coth(\Gamma_j / P)

    on a ring (Suzuki, 1976, Prog. Theor. Phys. 56, 1454). The error of expectations falls as 1 / P^2. Without a
    transverse field the slices would be copies of each other, and one classical slice is drawn instead. Ties between
    slices make Markov chains slow: docs/mathematics.md has how many sweeps they need.

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
        drawn = self._classical.sample(
            (fields / self.slices).repeat(1, self.slices), self._sliced(couplings), samples, generator
        )
        return drawn.view(*drawn.shape[:2], self.slices, fields.shape[1])

    def along_x(self, lines: Float[Tensor, "batch samples slices qubits"]) -> Float[Tensor, "batch qubits"]:
        r"""Expectation of each sigma^x: the mean of tanh(Gamma / P)^{s_k s_{k+1}} over slices and world lines."""
        tie = torch.tanh(self.transverse.to(lines.device) / self.slices)
        aligned = lines * lines.roll(1, dims=2) > 0
        return torch.where(aligned, tie, 1 / tie).mean((1, 2))

    def _sliced(self, couplings: Couplings) -> Float[Tensor, "*batch sliced sliced"]:
        same_slice = torch.eye(self.slices, dtype=couplings.dtype, device=couplings.device)
        within = torch.kron(same_slice, couplings / self.slices)
        if self.slices == 1:
            return within
        tie = -torch.log(torch.tanh(self.transverse.to(couplings) / self.slices)) / 2
        ring = same_slice.roll(1, dims=0)
        return within + torch.kron(ring + ring.T, torch.diag(tie))


def free_energy_difference(
    sampler: Sampler,
    start: Fields,
    end: Fields,
    couplings: Float[Tensor, "spins spins"],
    samples: int,
    generator: torch.Generator,
    nodes: int = 8,
    chains: int | None = None,
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    r"""Difference log Z(end) - log Z(start) of two settings of the fields, by thermodynamic integration.

    .. math:: \log Z(h_1) - \log Z(h_0) = \int_0^1 (h_1 - h_0) \cdot \langle s \rangle_{h_0 + \lambda (h_1 - h_0)}\,
              d\lambda

    with Gauss-Legendre nodes; holds for spins and for qubits measured along z alike.

    Args:
        sampler: draws the states.
        start: fields to begin with.
        end: fields to end with.
        couplings: J.
        samples: states at each node.
        generator: source of randomness.
        nodes: of the quadrature over the path.
        chains: how many Markov chains the sampler draws its states from, state i from chain i % chains; None if all
            states are independent.

    Returns:
        The difference, and the standard error of its Monte-Carlo part: only chains are taken as independent.
    """
    points, weights = np.polynomial.legendre.leggauss(nodes)
    total, variance = start.new_zeros(len(start)), start.new_zeros(len(start))
    for point, weight in zip(((points + 1) / 2).tolist(), (weights / 2).tolist(), strict=True):
        spins = sampler.sample(start + point * (end - start), couplings, samples, generator)
        slope = torch.einsum("bsm,bm->bs", spins, end - start)
        total += weight * slope.mean(1)
        variance += weight**2 * _variance_of_mean(slope, samples if chains is None else chains)
    return total, variance.sqrt()


def _variance_of_mean(values: Float[Tensor, "batch samples"], chains: int) -> Float[Tensor, " batch"]:
    of_chain = torch.stack([values[:, chain::chains].mean(1) for chain in range(chains)], 1)
    return of_chain.var(1) / chains
