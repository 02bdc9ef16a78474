"""A refined reward model on benchmarks: base and refined rewards, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from torch.nn import functional

from qbrm.benchmarks.base import BenchmarkItem, ItemRewards, as_preferences
from qbrm.benchmarks.scores import Row, missing_parts, score
from qbrm.benchmarks.source import BenchmarkSource
from qbrm.data.pairs import PairData
from qbrm.errors import InputError
from qbrm.evaluation import expected_calibration_error
from qbrm.features import Key, build_features
from qbrm.model.energy_reward_model import EnergyRewardModel
from qbrm.preferences import PreferenceSet, response_id
from qbrm.refinement import REFINEMENTS, refine

PAIRS_AT_ONCE = 1024


class Calibration(NamedTuple):
    """How well P(chosen > rejected) fits: log-loss in nats and expected calibration error."""

    log_loss: float
    ece: float


class BenchmarkResult(NamedTuple):
    """Results of a model on one benchmark.

    Attributes:
        source: the benchmark and its items.
        rows: the official table, then subsets.
        missing: parts of the official table of which the source holds nothing.
        pairs: number of (chosen, rejected) pairs.
        base: calibration of the Bradley-Terry probability of the base rewards.
        refined: calibration of the model's P(a > b).
        trained_on: how many of the prompts the model was trained on; None if that is not recorded.
    """

    source: BenchmarkSource
    rows: list[Row]
    missing: list[str]
    pairs: int
    base: Calibration
    refined: Calibration
    trained_on: int | None = None

    @property
    def prompts(self) -> set[str]:
        """The ids of the prompts evaluated on."""
        return {item.prompt_id for item in self.source.items}


def evaluate(
    model: EnergyRewardModel,
    sources: Sequence[BenchmarkSource],
    features: Path,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[BenchmarkResult]:
    """Score base and refined rewards on every benchmark.

    Args:
        model: the refined reward model.
        sources: the benchmarks.
        features: folder in which embeddings are kept; the same call continues with what is there.
        seed: seeds the resampling, and a refinement that draws.
        progress: called with (responses embedded, responses).

    Raises:
        InputError: if the folder holds features of another model or cannot be written.
    """
    everything = as_preferences("benchmarks", [item for source in sources for item in source.items])
    data = _embed(model, everything, features, progress)
    row = {key: index for index, key in enumerate(everything.responses())}
    refined = refine(model.energy_score, *data, REFINEMENTS[model.refinement], seed=seed).cpu()
    return [_result(model, source, row, data, refined, seed) for source in sources]


def _embed(
    model: EnergyRewardModel, preferences: PreferenceSet, folder: Path, progress: Callable[[int, int], None] | None
) -> tuple[torch.Tensor, torch.Tensor]:
    table = build_features(model.reward_model, preferences, folder, progress)
    embedded = table.rows(list(preferences.responses()))
    if embedded.reward is None:
        raise InputError(f"{model.reward_model.identity} gives no rewards; expected a reward model with a score layer.")
    return torch.from_numpy(embedded.embedding), torch.from_numpy(embedded.reward)


def _result(
    model: EnergyRewardModel,
    source: BenchmarkSource,
    row: dict[Key, int],
    data: tuple[torch.Tensor, torch.Tensor],
    refined: torch.Tensor,
    seed: int,
) -> BenchmarkResult:
    keys = [_rows(item, row) for item in source.items]
    base, better = (
        [ItemRewards(reward[chosen], reward[rejected]) for chosen, rejected in keys]
        for reward in (data[1].numpy(), refined.numpy())
    )
    rows = score(source.benchmark, source.items, base, better, seed)
    matches = [(good, bad) for chosen, rejected in keys for good in chosen for bad in rejected]
    chosen, rejected = (torch.tensor(side) for side in zip(*matches, strict=True))
    pairs = PairData(*data, chosen, rejected)
    base_log_probability = functional.logsigmoid(pairs.reward[chosen] - pairs.reward[rejected])
    return BenchmarkResult(
        source,
        rows,
        missing_parts(source.benchmark, rows),
        len(chosen),
        _calibration(base_log_probability.double().numpy()),
        _calibration(log_probability(model, pairs)),
    )


@torch.no_grad()
def log_probability(model: EnergyRewardModel, pairs: PairData) -> Float64[np.ndarray, " pairs"]:
    """Log P(r_chosen > r_rejected) as `EnergyRewardModel.prefer` gives it, for pairs of known features."""
    at_once = min(PAIRS_AT_ONCE, model.energy_score.chunk_rows)
    parts = [model.energy_score.log_preference(batch) for batch in pairs.batches(at_once)]
    return torch.cat(parts).double().numpy()


def _rows(item: BenchmarkItem, row: dict[Key, int]) -> tuple[list[int], list[int]]:
    chosen, rejected = (
        [row[item.prompt_id, response_id(text)] for text in side] for side in (item.chosen, item.rejected)
    )
    return chosen, rejected


def _calibration(log_probability: Float64[np.ndarray, " pairs"]) -> Calibration:
    return Calibration(-float(log_probability.mean()), expected_calibration_error(log_probability))
