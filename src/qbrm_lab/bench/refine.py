"""How fast rewards are refined."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.energies import EBRM, Clamped, EnergyScore, TransverseFieldMachine
from qbrm.energies.newton import Slope, newton_mode
from qbrm.energies.transverse_field import in_parts
from qbrm.refinement import Ascent, refine
from qbrm_lab.bench.published import published_ascent
from qbrm_lab.bench.scores import BOLTZMANN, Inputs, columns, make_inputs, make_quantum_score, make_scores
from qbrm_lab.bench.timing import Work, rows_per_second, speed_rows

ROWS = {384: 131_072, 4096: 32_768}
ASCENT_ROWS = {384: 128, 4096: 32}
QUANTUM_ROWS = 512


def bench_refine(dim: int, seed: int) -> list[dict[str, Any]]:
    """Time refinement of the same features by every score.

    The floor is the one matrix product that reads the embeddings, with as many columns as the score has fields and the
    shift of mu (for ebrm: the 1,024 units of its first layer). For tqbm it is LAPACK's eigendecomposition of one matrix
    per example and Newton step.
    """
    inputs = make_inputs(ROWS[dim], dim, torch.Generator().manual_seed(seed))
    few = Inputs(inputs.embedding[: ASCENT_ROWS[dim]], inputs.reward[: ASCENT_ROWS[dim]])
    scores = make_scores(dim, seed)
    ebrm = scores["ebrm"]
    assert isinstance(ebrm, EBRM)
    ascent = Ascent()
    start = ascent.start(few.reward, torch.Generator().manual_seed(seed))
    works = {
        "published": Work(lambda: published_ascent(ebrm, few.embedding, start, ascent), len(few.reward)),
        "ebrm": Work(lambda: refine(ebrm, few.embedding, few.reward, ascent, seed=seed), len(few.reward)),
        "ebrm floor": _floor(inputs, 1024),
    }
    for name in BOLTZMANN:
        works[name] = _refinement(scores[name], inputs)
        works[f"{name} floor"] = _floor(inputs, columns(scores[name]))
    scores["tqbm"] = quantum = make_quantum_score(dim, seed)
    some = Inputs(inputs.embedding[:QUANTUM_ROWS], inputs.reward[:QUANTUM_ROWS])
    works |= {"tqbm": _refinement(quantum, some), "tqbm floor": _quantum_floor(quantum, some)}
    return speed_rows(dim, list(scores), rows_per_second(works))


def _refinement(score: EnergyScore, inputs: Inputs) -> Work:
    return Work(lambda: refine(score, inputs.embedding, inputs.reward), len(inputs.reward))


def _floor(inputs: Inputs, columns: int) -> Work:
    weight = torch.randn(columns, inputs.embedding.shape[1])
    return Work(lambda: inputs.embedding @ weight.T, len(inputs.reward))


def _quantum_floor(score: TransverseFieldMachine, inputs: Inputs) -> Work:
    states = 2**score.hidden
    matrices = torch.randn(_newton_steps(score, inputs), states, states)
    matrices = matrices + matrices.mT
    return Work(lambda: in_parts(torch.linalg.eigh, matrices, states), len(inputs.reward))


class _Counted:
    """A log-concave score that counts the examples whose slope it is asked for."""

    def __init__(self, score: TransverseFieldMachine) -> None:
        self.bracket, self._slope, self.count = score.bracket, score.slope, 0

    def slope(self, clamped: Clamped) -> Callable[[Float[Tensor, " batch"]], Slope]:
        slope = self._slope(clamped)

        def at(reward: Float[Tensor, " batch"]) -> Slope:
            self.count += len(reward)
            return slope(reward)

        return at


@torch.no_grad()
def _newton_steps(score: TransverseFieldMachine, inputs: Inputs) -> int:
    """Diagonalisations that the modes of all examples take."""
    counted = _Counted(score)
    newton_mode(counted, score.clamp(*inputs))
    return counted.count
