"""The protocol of reward models, and what they return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol, get_type_hints, runtime_checkable

import numpy as np
from jaxtyping import Float32

from qbrm.preferences.base import Prompt


@dataclass(frozen=True)
class Identity:
    """Everything but the text that an embedding depends on: the cache key of a feature table.

    Attributes:
        name: model name, as a user would type it.
        revision: digest or commit of the weights.
        template: how a prompt and a response become model input.
        max_length: tokens after which text is cut.
        dtype: number format of the weights.
        own_code: whether Python code that comes with the model ran.
        base: commit or digest of the model that an adapter was merged into; empty without an adapter.
        output: which of several outputs is the reward; None if there is one.
        embedding: what the embedding reads of the model, see `qbrm.reward_models.reading.Reading`.
    """

    name: str
    revision: str
    template: str
    max_length: int
    dtype: str = "float32"
    own_code: bool = False
    base: str = ""
    output: int | None = None
    embedding: str = "last"

    def to_dict(self) -> dict[str, str | int | None]:
        """As stored in a feature table's manifest."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Identity:
        """What :meth:`to_dict` gave. Raises TypeError if it is not that."""
        identity = cls(**content)
        for name, kind in get_type_hints(cls).items():
            if not isinstance(getattr(identity, name), kind):
                raise TypeError(f"{name} is {getattr(identity, name)!r}")
        return identity

    def __str__(self) -> str:
        return f"{self.name}@{self.revision[:7]}"

    @property
    def title(self) -> str:
        """Name and revision, and the embedding if it is more than the score layer's input."""
        return str(self) if self.embedding == "last" else f"{self}, embedding {self.embedding}"


class Embedded(NamedTuple):
    """Embeddings and rewards r0 of n (prompt, response) pairs; no rewards from a model without a score layer.

    The embedding is the input of the final score layer, and behind that what else is read of the model.
    """

    embedding: Float32[np.ndarray, "n dim"]
    reward: Float32[np.ndarray, " n"] | None


class RewardModel(Protocol):
    """Text in, embedding and reward out. Frozen."""

    @property
    def identity(self) -> Identity:
        """What the embeddings depend on besides the text."""

    @property
    def dim(self) -> int:
        """Embedding size."""

    def embed(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Embedded:
        """Embed response i as an answer to prompt i, for all i; order is kept, the model chooses its batches."""


def head_dim(model: RewardModel) -> int | None:
    """How many coordinates of the embedding, the first ones, the head reads, as an attribute says; None for all."""
    size: int | None = getattr(model, "head_dim", None)
    return size


def direction_dim(model: RewardModel) -> int | None:
    """Size of the directions of prompt and response that its embeddings begin with, as an attribute says; or None."""
    size: int | None = getattr(model, "direction_dim", None)
    return size


class Refusal(NamedTuple):
    """A prompt and response that a reward model cannot take.

    Attributes:
        number: their place among those given, from 0.
        reason: why, in words.
        foldable: whether the prompt has system messages that would be taken in the user turn.
    """

    number: int
    reason: str
    foldable: bool = False


@runtime_checkable
class Choosy(Protocol):
    """A reward model that cannot take every text, and tells before it embeds any."""

    def refusals(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> list[Refusal]:
        """What it cannot take of response i as an answer to prompt i, for all i, in their order."""


@runtime_checkable
class Truncating(Protocol):
    """A reward model that cuts long texts, and counts them."""

    def embed_and_count(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> tuple[Embedded, int]:
        """What `embed` gives, and how many of the texts were longer than the model takes."""


def embed_and_count(model: RewardModel, prompts: Sequence[Prompt], responses: Sequence[str]) -> tuple[Embedded, int]:
    """What a reward model gives for texts, and how many it had to cut; none, if it does not say."""
    if isinstance(model, Truncating):
        return model.embed_and_count(prompts, responses)
    return model.embed(prompts, responses), 0


@runtime_checkable
class Configured(Protocol):
    """A reward model that was loaded with settings of its own besides name and revision."""

    def settings(self) -> dict[str, Any]:
        """What to give `load_reward_model` to get the same embeddings, as JSON has it."""
