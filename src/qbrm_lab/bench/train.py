"""How fast scores are trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from qbrm.data.pairs import PairData
from qbrm.energies import EBRM, EnergyScore
from qbrm.fitting.objectives import NCEPlus, Objective, PreferenceLikelihood
from qbrm_lab.bench.published import published_nce
from qbrm_lab.bench.scores import BOLTZMANN, Inputs, columns, make_inputs, make_scores
from qbrm_lab.bench.timing import Work, rows_per_second, speed_rows

PAIRS = 2048
BATCH_PAIRS = 128
EBRM_PAIRS = 128
PUBLISHED_EXAMPLES = 8
PUBLISHED_NOISE = 768


def bench_train(dim: int, seed: int) -> list[dict[str, Any]]:
    """Time training steps, optimiser included, in examples (two per pair) a second.

    `ebrm` takes its default 64 noise samples, the published arithmetic its own 768. The floor is the two matrix
    products that read the embeddings: fields forwards, the weights' gradient backwards.
    """
    inputs = make_inputs(2 * PAIRS, dim, torch.Generator().manual_seed(seed))
    scores = make_scores(dim, seed)
    ebrm = scores["ebrm"]
    assert isinstance(ebrm, EBRM)
    works = {
        "published": _published(ebrm, inputs, seed),
        "ebrm": _epoch(ebrm, NCEPlus(), inputs, EBRM_PAIRS, seed),
        "ebrm floor": _floor(inputs, 1024),
    }
    for name in BOLTZMANN:
        works[name] = _epoch(scores[name], PreferenceLikelihood(), inputs, PAIRS, seed)
        works[f"{name} floor"] = _floor(inputs, columns(scores[name]))
    return speed_rows(dim, list(scores), rows_per_second(works))


def _epoch(score: EnergyScore, objective: Objective[EnergyScore], inputs: Inputs, pairs: int, seed: int) -> Work:
    order, generator = torch.arange(2 * pairs), torch.Generator().manual_seed(seed)
    data = PairData(inputs.embedding, inputs.reward, order[::2], order[1::2])

    def losses() -> Iterator[Tensor]:
        return (objective(score, batch, generator) for batch in data.batches(BATCH_PAIRS, generator))

    return Work(_steps(score, losses), 2 * pairs)


def _published(score: EBRM, inputs: Inputs, seed: int) -> Work:
    embedding, reward = inputs.embedding[:PUBLISHED_EXAMPLES], inputs.reward[:PUBLISHED_EXAMPLES]
    objective, generator = NCEPlus(PUBLISHED_NOISE), torch.Generator().manual_seed(seed)
    return Work(
        _steps(score, lambda: [published_nce(score, embedding, reward, objective, generator)]), PUBLISHED_EXAMPLES
    )


def _steps(score: EnergyScore, losses: Callable[[], Iterable[Tensor]]) -> Callable[[], None]:
    """A step of the optimiser for each loss."""
    optimiser = torch.optim.AdamW(score.parameters(), lr=1e-4)

    def run() -> None:
        score.train()
        for loss in losses():
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()

    return run


def _floor(inputs: Inputs, columns: int) -> Work:
    weight = torch.randn(columns, inputs.embedding.shape[1])
    gradient = torch.randn(len(inputs.reward), columns)

    def run() -> None:
        _ = inputs.embedding @ weight.T
        _ = gradient.T @ inputs.embedding

    return Work(run, len(inputs.reward))
