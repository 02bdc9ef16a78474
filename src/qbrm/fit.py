"""From feature folders of any size to a trained score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from qbrm.comparison.methods import METHODS, EnergyMethod, Fitted, Task
from qbrm.comparison.methods.base import Rewards
from qbrm.comparison.responses import Features
from qbrm.comparison.scenario import VALIDATION_SHARE
from qbrm.console import Reporter
from qbrm.errors import InputError
from qbrm.features.pairs import PairData
from qbrm.features.stream import WINDOW_BYTES, Share, Source, StreamedPairs
from qbrm.training.trainer import Epoch

MOST_VALIDATION_PAIRS = 8192
SCORES = tuple(name for name, method in METHODS.items() if isinstance(method, EnergyMethod))


def fit_score(
    sources: Sequence[Source],
    score: str,
    checkpoint: Path | None,
    reporter: Reporter,
    *,
    epochs: int = 5,
    seed: int = 0,
    window_bytes: int = WINDOW_BYTES,
) -> Fitted:
    """Train an energy score with its own objective on features that stay on disk.

    An eighth of the prompts, but no more than about 8,192 pairs, is held out to choose the epoch and the temperature.

    Args:
        sources: features and pairs.
        score: one of `SCORES`.
        checkpoint: keeps the state after every epoch; training resumes from it if it is there. None keeps none.
        reporter: told about every epoch.
        epochs: passes over the pairs.
        seed: of split, initial weights, shuffling and noise.
        window_bytes: bytes of embeddings in memory.

    Raises:
        InputError: if there are too few prompts to train and validate on.
        TrainingError: if the training cannot go on.
    """
    total = sum(len(source.pairs.chosen) for source in sources)
    held_out = min(VALIDATION_SHARE, MOST_VALIDATION_PAIRS / total)
    validation = StreamedPairs(tuple(sources), Share(0.0, held_out, seed)).load()
    pairs = StreamedPairs(tuple(sources), Share(held_out, 1.0, seed), window_bytes=window_bytes)
    if not (pairs.n_pairs and validation.n_pairs):
        raise InputError(
            f"{total} pairs leave {pairs.n_pairs} to train on and {validation.n_pairs} to validate with, split by "
            "prompt; expected more prompts."
        )
    reporter.fact("training", f"{pairs.n_pairs:,} pairs", f"{validation.n_pairs:,} held out", f"score {score}")
    method = METHODS[score]
    assert isinstance(method, EnergyMethod)
    return replace(method, settings=replace(method.settings, epochs=epochs)).fit(
        Task(
            pairs,
            validation,
            seed,
            checkpoint,
            measure=lambda rewards: _accuracy(validation, rewards),
            on_epoch=lambda epoch: _tell(epoch, reporter),
        )
    )


def _accuracy(validation: PairData, rewards: Rewards) -> Mapping[str, float]:
    length = torch.zeros(len(validation.reward), dtype=torch.long)
    refined = rewards(Features(validation.embedding, validation.reward, length))
    return {"validation_accuracy": float((refined[validation.chosen] > refined[validation.rejected]).float().mean())}


def _tell(epoch: Epoch, reporter: Reporter) -> None:
    loss = f"loss {epoch['loss']:.4f}" if "loss" in epoch else "untrained"
    accuracy = f"accuracy {100 * epoch['validation_accuracy']:.1f}%"
    reporter.fact(f"epoch {int(epoch['epoch'])}", loss, f"held out: loss {epoch['validation_loss']:.4f}, {accuracy}")
