"""The embedded default reward model: sentence encoder, trunk, head."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from qbrm.features.pairs import PairData
from qbrm.objectives.bradley_terry import BradleyTerry
from qbrm.preferences.base import Prompt
from qbrm.reward_models.base import Embedded, Identity, RewardModel
from qbrm.reward_models.trunk import Trunk
from qbrm.training import Training, TrainingSettings, train
from qbrm.training.trainer import Epoch

TRUNK = "+trunk"
# The untrained trunk gives every response the same reward, so it is no candidate.
TRUNK_TRAINING = TrainingSettings(
    epochs=12, batch_pairs=256, learning_rate=1e-3, weight_decay=1e-2, patience=4, first_kept=1
)


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
        return self.trunk.size

    def embed(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Embedded:
        """Embed response i as an answer to prompt i, for all i."""
        return self.embed_vectors(self.encoder.embed(prompts, responses).embedding)

    @torch.no_grad()
    def embed_vectors(self, vector: Float32[np.ndarray, "n vector_dim"]) -> Embedded:
        """Embedding and reward of vectors that the encoder gave before."""
        embedding = self.trunk.embed(torch.from_numpy(vector))
        return Embedded(embedding.numpy(), self.trunk.reward(embedding).numpy())


def fit_trunk(
    pairs: PairData,
    validation: PairData,
    seed: int,
    *,
    checkpoint: Path | None = None,
    measure: Callable[[Trunk], dict[str, float]] = lambda trunk: {},
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> tuple[Trunk, Training]:
    """Train a trunk with the Bradley-Terry loss; the epoch with the lowest validation loss is kept.

    Args:
        pairs: training pairs; their embeddings are the encoder's vectors.
        validation: held-out pairs over the same vectors.
        seed: of initialisation, shuffling and dropout.
        checkpoint: as for :func:`qbrm.training.train`.
        measure: as for :func:`qbrm.training.train`.
        on_epoch: as for :func:`qbrm.training.train`.
    """
    torch.manual_seed(seed)
    trunk = Trunk(pairs.embedding.shape[1])
    trunk.standardise(pairs.embedding[pairs.rows()])
    training = train(
        trunk,
        BradleyTerry(),
        pairs,
        validation,
        TRUNK_TRAINING,
        seed,
        checkpoint=checkpoint,
        measure=measure,
        on_epoch=on_epoch,
    )
    return trunk, training
