"""The scores that are timed: with 64 hidden fields, so that they read the embedding at the same cost, but for tqbm."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.energies import EBRM, RBM, BoltzmannScore, EnergyScore, SemiQuantumRBM, TransverseFieldMachine
from qbrm.energies.boltzmann import LogConcaveScore

DIMS = (384, 4096)
FIELDS = 64
BOLTZMANN: dict[str, Callable[[int], LogConcaveScore]] = {
    "rbm": partial(RBM, hidden=FIELDS),
    "sqrbm": partial(SemiQuantumRBM, hidden=FIELDS // 2, axes=2),
}


class Inputs(NamedTuple):
    """Features of the size of real ones: standard normal embeddings and rewards."""

    embedding: Float[Tensor, "rows dim"]
    reward: Float[Tensor, " rows"]


def make_inputs(rows: int, dim: int, generator: torch.Generator) -> Inputs:
    """Draw features."""
    return Inputs(torch.randn(rows, dim, generator=generator), torch.randn(rows, generator=generator))


def make_scores(dim: int, seed: int) -> dict[str, EnergyScore]:
    """EBRM and Boltzmann scores with weights as large as trained ones: fields and shifts of order one."""
    torch.manual_seed(seed)
    scores: dict[str, EnergyScore] = {"ebrm": EBRM(dim).eval()}
    for name, build in BOLTZMANN.items():
        scores[name] = _as_trained(build(dim))
    return scores


def make_quantum_score(dim: int, seed: int) -> TransverseFieldMachine:
    """A tqbm of its default size, six qubits, with weights as large as trained ones."""
    torch.manual_seed(seed)
    score = TransverseFieldMachine(dim)
    torch.nn.init.normal_(score.upper_couplings, std=0.2)
    _as_trained(score)
    return score


def _as_trained(score: BoltzmannScore) -> BoltzmannScore:
    for weight in (score.W, score.a):
        torch.nn.init.normal_(weight, std=score.dim**-0.5)
    torch.nn.init.normal_(score.c, std=0.5)
    return score.eval()


def columns(score: EnergyScore) -> int:
    """What a Boltzmann score's one product with the embeddings has to give: its fields and the shift of mu."""
    return 1 + int(score.state_dict()["u"].numel())
