"""Kaiwu's Ising matrices: fields and couplings in one square, with a gauge spin at its end."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float64, Num, Shaped

from qbrm.errors import InputError
from qbrm.interop.ising import Ising


def to_kaiwu_matrix(problem: Ising) -> Float64[np.ndarray, "spins+1 spins+1"]:
    r"""Kaiwu's matrix K, whose energy is minus our log-weight when the last spin is +1.

    .. math:: E(x) = -x^\top K x, \qquad K = \tfrac12 \begin{pmatrix} J & h \\ h^\top & 0 \end{pmatrix}
    """
    fields, couplings = (part.detach().double().cpu().numpy() for part in problem)
    matrix = np.zeros((len(fields) + 1, len(fields) + 1))
    matrix[:-1, :-1] = couplings / 2
    matrix[:-1, -1] = matrix[-1, :-1] = fields / 2
    return matrix


def from_kaiwu_matrix(matrix: Num[np.ndarray, "spins+1 spins+1"]) -> Ising:
    """The problem whose log-weight is minus K's energy up to a constant: K's diagonal adds the same to every state.

    Raises:
        InputError: if the matrix is not square, has fewer than two rows, or holds values that are not finite.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        raise InputError(f"Ising matrix has shape {matrix.shape}; expected two or more rows and as many columns.")
    if not np.isfinite(matrix).all():
        raise InputError(f"Ising matrix holds {int((~np.isfinite(matrix)).sum())} values that are NaN or infinite.")
    whole = torch.from_numpy(np.asarray(matrix, np.float64))
    whole = whole + whole.mT
    whole.fill_diagonal_(0)
    return Ising(whole[-1, :-1].clone(), whole[:-1, :-1].clone())


def spins_of(solutions: Shaped[np.ndarray, "solutions spins+1"]) -> Shaped[np.ndarray, "solutions spins"]:
    """The spins that solutions of a Kaiwu matrix stand for: x and -x are one state, whose last spin is taken as +1."""
    spins: Shaped[np.ndarray, "solutions spins"] = solutions[:, :-1] * solutions[:, -1:]
    return spins
