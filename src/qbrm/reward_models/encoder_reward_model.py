"""The embedded default reward model: sentence encoder, trunk, head."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float32

from qbrm.preferences.base import Prompt
from qbrm.reward_models.base import Embedded, Identity, RewardModel, embed_and_count
from qbrm.reward_models.trunk import Trunk

TRUNK = "+trunk"


class EncoderRewardModel:
    """A reward model made of a frozen encoder without a score layer and a trained trunk.

    Args:
        encoder: turns texts into frozen vectors.
        trunk: turns vectors into embedding and reward.
    """

    def __init__(self, encoder: RewardModel, trunk: Trunk) -> None:
        self.encoder, self.trunk = encoder, trunk.eval()

    @property
    def identity(self) -> Identity:
        """The encoder's, with a revision that also covers the trunk's weights."""
        digest = hashlib.sha256(self.encoder.identity.revision.encode())
        for value in self.trunk.state_dict().values():
            digest.update(value.contiguous().numpy().tobytes())
        return replace(self.encoder.identity, name=self.encoder.identity.name + TRUNK, revision=digest.hexdigest())

    @property
    def dim(self) -> int:
        """Embedding size: the trunk's output, and the encoder's vector behind it."""
        return self.trunk.dim

    @property
    def head_dim(self) -> int:
        """How many coordinates of the embedding, the first ones, the score head reads."""
        return self.trunk.head_dim

    def embed(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Embedded:
        """Embed response i as an answer to prompt i, for all i."""
        return self.embed_and_count(prompts, responses)[0]

    def embed_and_count(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> tuple[Embedded, int]:
        """What :meth:`embed` gives, and how many texts are longer than the encoder takes."""
        vectors, cut = embed_and_count(self.encoder, prompts, responses)
        return self.embed_vectors(vectors.embedding), cut

    @torch.no_grad()
    def embed_vectors(self, vector: Float32[np.ndarray, "n vector_dim"]) -> Embedded:
        """Embedding and reward of vectors that the encoder gave before."""
        embedding = self.trunk.embed(torch.from_numpy(vector))
        return Embedded(embedding.numpy(), self.trunk.reward(embedding).numpy())
