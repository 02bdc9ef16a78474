"""How fast rewards are refined."""

from __future__ import annotations

from typing import Any

import torch

from qbrm.energies import EBRM, EnergyScore
from qbrm.refinement import Ascent, refine
from qbrm_lab.bench.published import published_ascent
from qbrm_lab.bench.scores import BOLTZMANN, Inputs, columns, make_inputs, make_scores
from qbrm_lab.bench.timing import Work, rows_per_second, speed_rows

ROWS = {384: 131_072, 4096: 32_768}
ASCENT_ROWS = {384: 128, 4096: 32}


def bench_refine(dim: int, seed: int) -> list[dict[str, Any]]:
    """Time refinement of the same features by every score.

    The floor is the one matrix product that reads the embeddings, with as many columns as the score has fields and the
    shift of mu (for ebrm: the 1,024 units of its first layer).
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
    return speed_rows(dim, list(scores), rows_per_second(works))


def _refinement(score: EnergyScore, inputs: Inputs) -> Work:
    return Work(lambda: refine(score, inputs.embedding, inputs.reward), len(inputs.reward))


def _floor(inputs: Inputs, columns: int) -> Work:
    weight = torch.randn(columns, inputs.embedding.shape[1])
    return Work(lambda: inputs.embedding @ weight.T, len(inputs.reward))
