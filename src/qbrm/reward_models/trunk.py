"""A trunk and a score head over frozen vectors: turns a sentence encoder into a reward model."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from qbrm.data.units import location_and_scale


class Trunk(nn.Module):
    r"""Two-layer trunk and a linear head on it that gives the reward; the embedding is trunk and vector side by side.

    .. math:: t = \tanh(V_2\,\mathrm{gelu}(V_1 \hat x + c_1) + c_2), \qquad e = (t, \hat x), \qquad r_0 = w^\top t

    x^ is the frozen vector, standardised per dimension with the training vectors' statistics. The trunk keeps only what
    its own preferences needed; what it dropped may be what others need, so the embedding has the vector too. The head
    has no bias: a constant in the reward cancels in every preference.

    Args:
        vector_dim: size of the frozen vector.
        size: of the trunk's output.
        width: of the hidden layer.
        dropout: on the vector and on the hidden layer.
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, vector_dim: int, size: int = 128, width: int = 256, dropout: float = 0.3) -> None:
        super().__init__()
        self.vector_dim, self.size, self.width, self.dropout = vector_dim, size, width, dropout
        self.register_buffer("loc", torch.zeros(vector_dim))
        self.register_buffer("scale", torch.ones(vector_dim))
        self.layers = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(vector_dim, width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(width, size),
            nn.Tanh(),
        )
        self.head = nn.Linear(size, 1, bias=False)
        nn.init.zeros_(self.head.weight)

    @property
    def dim(self) -> int:
        """Embedding size D."""
        return self.size + self.vector_dim

    def settings(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {name: getattr(self, name) for name in ("vector_dim", "size", "width", "dropout")}

    def standardise(self, vector: Float[Tensor, "n vector_dim"]) -> None:
        """Fix the input's units from the training vectors."""
        for unit, value in zip((self.loc, self.scale), location_and_scale(vector), strict=True):
            unit.copy_(value)

    def embed(self, vector: Float[Tensor, "batch vector_dim"]) -> Float[Tensor, "batch dim"]:
        """The embedding e."""
        standard = (vector - self.loc) / self.scale
        return torch.cat([self.layers(standard), standard], dim=1)

    def reward(self, embedding: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
        """The base reward r0 of an embedding."""
        out: Tensor = self.head(embedding[:, : self.size])
        return out[:, 0]

    def forward(
        self, vector: Float[Tensor, "batch vector_dim"], base_reward: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        """The base reward of a vector, as Bradley-Terry training calls it; `base_reward` is not used."""
        return self.reward(self.embed(vector))
