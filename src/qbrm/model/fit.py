"""From features of any size on disk to a refined reward model, without a verdict."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt64

from qbrm.data.pairs import PairData
from qbrm.energies import EnergyScore
from qbrm.errors import InputError
from qbrm.features.recorded import RecordedRewardModel
from qbrm.features.stream import WINDOW_BYTES, Share, Source, StreamedPairs, cut_off, open_sources
from qbrm.fitting import Epoch, FittedScore, Fold, fit_score
from qbrm.fitting.arrays import VALIDATION_SHARE
from qbrm.model.model_card import DataPart, Provenance
from qbrm.model.persistence import Parts
from qbrm.model.score_choice import Progress, ScoreChoice
from qbrm.refinement import REFINEMENTS, refine
from qbrm.reward_models import RewardModel
from qbrm.reward_models.encoder_reward_model import TRUNK

MOST_VALIDATION_PAIRS = 8192
# The digests of more prompts than this are not kept, so that memory does not grow with the data.
MOST_PAIRS_REMEMBERED = 10_000_000

logger = logging.getLogger(__name__)


class Split(NamedTuple):
    """Numbers of pairs to train on and held out, and the base rewards' accuracy on the pairs held out."""

    training: int
    held_out: int
    base_accuracy: float


class FittedModel(NamedTuple):
    """The parts of a refined reward model after fitting, and the fitted score with its training."""

    parts: Parts
    fitted: FittedScore[EnergyScore]


def fit_features(
    folders: Sequence[Path],
    choice: ScoreChoice,
    *,
    checkpoint: Path | None = None,
    seed: int = 0,
    window_bytes: int = WINDOW_BYTES,
    progress: Progress | None = None,
    on_split: Callable[[Split], None] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> FittedModel:
    """Fit a score to feature folders of any size; they stay on disk and memory stays constant.

    An eighth of the prompts, but no more than about 8,192 pairs, is held out to choose the epoch and the temperature.

    Args:
        folders: features with rewards and pairs, all of one reward model.
        choice: the score.
        checkpoint: keeps the state after every epoch; training resumes from it if it is there.
        seed: seeds split, initial weights, shuffling and noise.
        window_bytes: bytes of embeddings in memory.
        progress: called with ("training", pairs done, pairs) during an epoch.
        on_split: called once before training.
        on_epoch: called after every epoch; its metrics include ``validation_accuracy``.

    Raises:
        InputError: if something given is not usable, or there are too few prompts to train and validate on.
        TrainingError: if training cannot go on.
    """
    settings = choice.settings
    sources = open_sources(folders)
    if sources[0].table.identity.name.endswith(TRUNK):
        raise InputError(
            f"features in {sources[0].table.folder} come from the reward model that 'qbrm compare' trained for its own "
            "run; expected features that 'qbrm embed' wrote with --reward-model."
        )
    fold, data = _fold(sources, choice.members, seed, progress, window_bytes)
    validation = fold.validation
    if on_split is not None:
        on_split(Split(fold.pairs.n_pairs, validation.n_pairs, _accuracy(validation, validation.reward)))

    def measure(score: EnergyScore) -> dict[str, float]:
        refinement = REFINEMENTS[choice.refinement]
        refined = refine(score, validation.embedding, validation.reward, refinement, seed=seed)
        return {"validation_accuracy": _accuracy(validation, refined)}

    fitted = fit_score(
        lambda: choice.build(fold.pairs.dim, sources[0].table.head_dim),
        replace(fold, checkpoint=checkpoint),
        settings,
        measure=measure,
        on_epoch=on_epoch,
    )
    prompts = None
    if sum(len(source.pairs.prompt) for source in sources) <= MOST_PAIRS_REMEMBERED:
        prompts = np.unique(np.concatenate([source.pairs.prompt for source in sources]))
    table = sources[0].table
    reward_model = RecordedRewardModel(table.identity, table.dim, table.settings)
    return _fitted_model(reward_model, fitted, choice, data, seed, prompts)


def _fold(
    sources: Sequence[Source], members: int, seed: int, progress: Progress | None, window_bytes: int = WINDOW_BYTES
) -> tuple[Fold, list[DataPart]]:
    """Training and validation pairs of features on disk, and their description for the model card."""
    total = sum(len(source.pairs.chosen) for source in sources)
    cut = cut_off(sources, min(VALIDATION_SHARE, MOST_VALIDATION_PAIRS / total), seed)
    held_out, trained = Share(0.0, cut, seed), Share(cut, 1.0, seed)
    validation = StreamedPairs(tuple(sources), held_out).load()
    follow = partial(progress, "training") if progress else None
    pairs = StreamedPairs(tuple(sources), trained, window_bytes=window_bytes, progress=follow)
    if not (pairs.n_pairs and validation.n_pairs):
        total_pairs = pairs.n_pairs + validation.n_pairs
        raise InputError(f"all {total_pairs} pairs are on one prompt; expected two or more, one to validate with.")
    logger.info("%s pairs to train on, %s held out", f"{pairs.n_pairs:,}", f"{validation.n_pairs:,}")
    size = sum(len(source.table) for source in sources) * pairs.dim * np.dtype(np.float32).itemsize
    by_turns = members > 1 and size <= window_bytes
    roles = ("trains the score", "held out: chooses and calibrates")
    if by_turns:
        roles = (f"trains and validates the {members} members by turns",) * 2
    data = [
        DataPart(role, source.pairs.source or source.table.folder.name, *_sizes(source, share))
        for role, share in zip(roles, (trained, held_out), strict=True)
        for source in sources
    ]
    if not by_turns:
        return Fold(pairs, validation, seed), data
    everything = StreamedPairs(tuple(sources), Share(0.0, 1.0, seed))
    together, prompt = everything.load_with_prompts()
    held = torch.from_numpy(held_out.holds(everything.prompts()))
    return Fold(together.only(~held), together.only(held), seed, prompt=prompt), data


def _accuracy(pairs: PairData, reward: torch.Tensor) -> float:
    """Share of the pairs whose chosen response has the strictly greater reward."""
    return float((reward[pairs.chosen] > reward[pairs.rejected]).float().mean())


def _fitted_model(
    reward_model: RewardModel,
    fitted: FittedScore[EnergyScore],
    choice: ScoreChoice,
    data: Sequence[DataPart],
    seed: int,
    prompts: UInt64[np.ndarray, " prompts"] | None,
) -> FittedModel:
    if fitted.conflicts is not None:
        logger.info("%s: %s of %s conflicting pairs dropped", choice.name, *fitted.conflicts)
    if fitted.kept_base:
        logger.warning("%s: no epoch beat the base rewards on held-out prompts; their order is kept", choice.name)
    best = "best epoch" if choice.members == 1 else f"latest best epoch of the {choice.members} members"
    settings = {**choice.described(), "seed": seed, best: fitted.training.best}
    provenance = Provenance(data, settings, kept_base=fitted.kept_base)
    return FittedModel(Parts(reward_model, fitted.score, choice.refinement, provenance, prompts), fitted)


def _sizes(source: Source, share: Share) -> tuple[int, int]:
    """Numbers of prompts and pairs of a source in a share; the smaller part is counted, to save memory."""
    held = share.holds(source.pairs.prompt)
    pairs = int(held.sum())
    if pairs <= len(held) / 2:
        return len(np.unique(source.pairs.prompt[held])), pairs
    return source.pairs.prompts - len(np.unique(source.pairs.prompt[~held])), pairs
