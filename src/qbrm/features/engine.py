"""Engines embed the blocks of a feature table: in this process, or on the workers of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from qbrm.errors import InputError
from qbrm.features.plan import Block
from qbrm.features.shard import first_non_finite_row
from qbrm.preferences.base import Key, Prompt
from qbrm.reward_models.base import (
    Choosy,
    Configured,
    Embedded,
    Identity,
    Refusal,
    RewardModel,
    embed_and_count,
    head_dim,
)

BATCH_ROWS = 128

Advance = Callable[[int], None]


class Described(NamedTuple):
    """A reward model described.

    Attributes:
        identity: what its embeddings depend on.
        dim: embedding size.
        settings: what else it was loaded with, see `Configured`.
        head_dim: how many coordinates of the embedding its score layer reads; None for all.
    """

    identity: Identity
    dim: int
    settings: Mapping[str, Any]
    head_dim: int | None = None


class EmbeddedBlock(NamedTuple):
    """What a reward model gave for a block, and how many of its texts were longer than the model takes."""

    features: Embedded
    cut: int


class Engine(Protocol):
    """Embeds blocks with one reward model, each to the same bits whoever does it and whatever was done before."""

    @property
    def described(self) -> Described:
        """The reward model."""

    def refusals(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> list[Refusal]:
        """The texts that the reward model cannot take; asked before anything is embedded."""

    def embed(self, blocks: Sequence[Block], advance: Advance) -> Iterator[tuple[Block, EmbeddedBlock]]:
        """Embed every block once, in any order; `advance` is told how many more rows are done.

        Raises:
            InputError: if the model returns NaN, infinite or misshapen values.
        """


class LocalEngine:
    """Embeds in this process, block after block."""

    def __init__(self, model: RewardModel) -> None:
        self._model = model
        self.described = describe(model)

    def refusals(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> list[Refusal]:
        """The texts that the reward model cannot take."""
        return refusals(self._model, prompts, responses)

    def embed(self, blocks: Sequence[Block], advance: Advance) -> Iterator[tuple[Block, EmbeddedBlock]]:
        """Embed every block once, in order."""
        for block in blocks:
            yield block, embed_block(self._model, block, advance)


def describe(model: RewardModel) -> Described:
    """Describe a reward model without loading it."""
    settings = model.settings() if isinstance(model, Configured) else {}
    return Described(model.identity, model.dim, settings, head_dim(model))


def refusals(model: RewardModel, prompts: Sequence[Prompt], responses: Sequence[str]) -> list[Refusal]:
    """The texts that a reward model says it cannot take; most take all."""
    return model.refusals(prompts, responses) if isinstance(model, Choosy) else []


def embed_block(model: RewardModel, block: Block, advance: Advance = lambda rows: None) -> EmbeddedBlock:
    """Embed one block, always by the same calls of the model: others give other bits. Raises as :func:`checked`."""
    parts, cut = [], 0
    for start in range(0, len(block.keys), BATCH_ROWS):
        batch = block.rows(slice(start, start + BATCH_ROWS))
        features, longer = embed_and_count(model, batch.prompts, batch.responses)
        parts.append(checked(model.identity, model.dim, batch.keys, features))
        cut += longer
        advance(len(batch.keys))
    rewards = [part.reward for part in parts if part.reward is not None]
    embedding = np.concatenate([part.embedding for part in parts])
    return EmbeddedBlock(Embedded(embedding, np.concatenate(rewards) if rewards else None), cut)


def checked(identity: Identity, dim: int, keys: Sequence[Key], features: Embedded) -> Embedded:
    """Convert features to float32 and require one finite row per key.

    Raises:
        InputError: if sizes disagree, or a value is NaN or infinite; names the row.
    """
    reward = None if features.reward is None else np.asarray(features.reward, dtype=np.float32)
    embedding = np.asarray(features.embedding, dtype=np.float32)
    if embedding.shape != (len(keys), dim):
        raise InputError(f"{identity} gave embeddings of shape {embedding.shape}; expected {(len(keys), dim)}.")
    if reward is not None and reward.shape != (len(keys),):
        raise InputError(f"{identity} gave rewards of shape {reward.shape}; expected {(len(keys),)}.")
    bad = first_non_finite_row(Embedded(embedding, reward))
    if bad is not None:
        prompt, response = keys[bad]
        raise InputError(
            f"{identity} gave NaN or infinity for response {response} of prompt {prompt}; expected finite."
        )
    return Embedded(embedding, reward)
