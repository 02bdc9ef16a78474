"""Exact diagonalisation of coupled hidden qubits in a transverse field: the truth that path integrals are tested by."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.errors import InputError
from qbrm.interop.ising import check_problem

MAX_QUBITS = 10


class QuantumMoments(NamedTuple):
    """What the Gibbs state of the hidden qubits says.

    Attributes:
        log_partition: log Tr exp(-H), shape (batch,).
        along_z: expectation of each sigma^z, shape (batch, qubits).
        along_x: expectation of each sigma^x, shape (batch, qubits).
    """

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
