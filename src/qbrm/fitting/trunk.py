"""Training the head of the embedded reward model on frozen vectors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from qbrm.data.pairs import PairData
from qbrm.fitting.objectives import BradleyTerry
from qbrm.fitting.settings import TrainingSettings
from qbrm.fitting.trainer import Epoch, Training, train
from qbrm.reward_models.trunk import Trunk

# The untrained trunk gives every response the same reward, so it is no candidate.
TRUNK_TRAINING = TrainingSettings(
    epochs=12, batch_pairs=256, learning_rate=1e-3, weight_decay=1e-2, patience=4, first_kept=1
)


def fit_trunk(
    pairs: PairData,
    validation: PairData,
    seed: int,
    *,
    direction_dim: int | None,
    checkpoint: Path | None = None,
    measure: Callable[[Trunk], dict[str, float]] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> tuple[Trunk, Training]:
    """Train a trunk with the Bradley-Terry loss on pairs over an encoder's vectors, see :func:`qbrm.fitting.train`.

    `direction_dim` is how large the directions are that the vectors begin with, None if they do not; see
    :class:`Trunk`.
    """
    torch.manual_seed(seed)
    trunk = Trunk(pairs.embedding.shape[1], direction_dim=direction_dim)
    trunk.standardise(pairs.embedding[pairs.rows()])
    data, settings = (pairs, validation), TRUNK_TRAINING
    training = train(
        trunk, BradleyTerry(), *data, settings, seed, checkpoint=checkpoint, measure=measure, on_epoch=on_epoch
    )
    return trunk, training
