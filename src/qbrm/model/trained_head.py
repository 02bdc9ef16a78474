"""A score layer for an encoder that has none, trained on part of the preferences."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from qbrm.data.pairs import PairData
from qbrm.errors import InputError
from qbrm.features import FeatureTable, Key, write_features
from qbrm.features.pair_list import key_pairs
from qbrm.fitting.arrays import VALIDATION_SHARE
from qbrm.fitting.trunk import fit_trunk
from qbrm.preferences import PreferenceSet, split_by_prompt, training_pairs
from qbrm.reward_models import RewardModel
from qbrm.reward_models.base import direction_dim
from qbrm.reward_models.encoder_reward_model import EncoderRewardModel
from qbrm.reward_models.trunk import Trunk

logger = logging.getLogger(__name__)


def with_trained_head(
    encoder: RewardModel, table: FeatureTable, preferences: PreferenceSet, folder: Path, seed: int
) -> tuple[RewardModel, FeatureTable, PreferenceSet]:
    """A score layer on an encoder's vectors, trained on half of the prompts; the other half is left for the score."""
    for_head, for_score = split_by_prompt(preferences, 0.5, seed)
    keys = list(preferences.responses())
    vectors = table.rows(keys).embedding
    model = EncoderRewardModel(encoder, fit_head(for_head, keys, vectors, seed, direction_dim(encoder)))
    embedded = model.embed_vectors(vectors)
    with_rewards = write_features(folder, model.identity, keys, embedded.embedding, embedded.reward)
    logger.info("trained a score layer on %s, with half of the prompts", encoder.identity)
    return model, with_rewards, for_score


def with_rewards(model: RewardModel, table: FeatureTable, keys: Sequence[Key], folder: Path) -> FeatureTable:
    """A table with the rewards of a model whose score layer was trained; one that has rewards is given back.

    Args:
        model: made by :func:`with_trained_head`, or any other.
        table: what its encoder gave, or the model itself.
        keys: the rows wanted.
        folder: for the table with rewards.
    """
    if table.has_reward or not isinstance(model, EncoderRewardModel):
        return table
    embedded = model.embed_vectors(table.rows(keys).embedding)
    return write_features(folder, model.identity, keys, embedded.embedding, embedded.reward)


def fit_head(
    preferences: PreferenceSet,
    keys: Sequence[Key],
    vectors: Float32[np.ndarray, "responses dim"],
    seed: int,
    directions: int | None,
) -> Trunk:
    """Train the score layer of the embedded reward model; an eighth of the prompts chooses the epoch.

    `vectors` are what the encoder gave, `keys` the (prompt id, response id) of their rows, `directions` the size of
    each of the two directions that the vectors begin with.

    Raises:
        InputError: if there is no pair to train on.
    """
    parts = split_by_prompt(preferences, VALIDATION_SHARE, seed)
    pairs, validation = (_pairs(part, keys, torch.from_numpy(vectors)) for part in parts)
    return fit_trunk(pairs, validation, seed, direction_dim=directions)[0]


def _pairs(preferences: PreferenceSet, keys: Sequence[Key], vectors: torch.Tensor) -> PairData:
    row = {key: index for index, key in enumerate(keys)}
    pairs = key_pairs(training_pairs(preferences))
    if not pairs:
        raise InputError(f"{preferences.name} has no pair of different responses to train a score layer on.")
    chosen, rejected = (torch.tensor([row[pair[side]] for pair in pairs]) for side in (0, 1))
    return PairData(vectors, torch.zeros(len(vectors)), chosen, rejected)
