"""A trunk and a score head over frozen vectors: turns a sentence encoder into a reward model."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from qbrm.data.units import location_and_scale

# How many of the training responses fall so far short of their usual cosine that it counts, and the most that counts.
SHORT_SHARE, LARGEST_SHORTFALL = 0.03, 0.2
RIDGE, MOST_ROWS = 10.0, 50_000


class Trunk(nn.Module):
    r"""Two-layer trunk and a linear head on it that gives the reward; the embedding is trunk and vector side by side.

    .. math:: t = \tanh(V_2\,\mathrm{gelu}(V_1 \hat x + c_1) + c_2), \qquad
              \rho = \min(\max(p^\top q - u^\top y - \tau, -0.2), 0), \qquad
              e = (t, \rho, \hat x), \qquad r_0 = w^\top t + \kappa \rho

    x^ is the frozen vector, standardised per dimension with the training vectors' statistics. The trunk keeps only what
    its own preferences needed; what it dropped may be what others need, so the embedding has the vector too. The head
    has no bias: a constant in the reward cancels in every preference.

    Preferences say little of whether a response answers its prompt, as both of a pair nearly always do. So where the
    vector begins with the directions p and q of prompt and response, rho is how far their cosine falls below what is
    usual for such a response: u^T y, a ridge regression on all that the vector has of the response (and 1), is low for
    answers that suit many prompts, such as refusals. tau is the 3% quantile of what remains of a training
    response that is left out of it. Without directions there is no rho.

    Args:
        vector_dim: size of the frozen vector.
        size: of the trunk's output.
        width: of the hidden layer.
        dropout: on the vector and on the hidden layer.
        direction_dim: size of each of the two directions that the vector begins with; None for a vector without.
        relevance_weight: kappa.
    """

    loc: Tensor
    scale: Tensor
    usual: Tensor
    least: Tensor

    def __init__(
        self,
        vector_dim: int,
        size: int = 128,
        width: int = 256,
        dropout: float = 0.3,
        direction_dim: int | None = None,
        relevance_weight: float = 20.0,
    ) -> None:
        super().__init__()
        self.vector_dim, self.size, self.width, self.dropout = vector_dim, size, width, dropout
        self.direction_dim, self.relevance_weight = direction_dim, relevance_weight
        self.register_buffer("loc", torch.zeros(vector_dim))
        self.register_buffer("scale", torch.ones(vector_dim))
        if direction_dim is not None:
            self.register_buffer("usual", torch.zeros(vector_dim - direction_dim + 1))
            self.register_buffer("least", torch.tensor(-2.0))
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
        return self.head_dim + self.vector_dim

    @property
    def head_dim(self) -> int:
        """How many coordinates of the embedding, the first ones, the reward is made of."""
        return self.size + (self.direction_dim is not None)

    def settings(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("vector_dim", "size", "width", "dropout", "direction_dim", "relevance_weight")
        return {name: getattr(self, name) for name in names}

    def standardise(self, vector: Float[Tensor, "n vector_dim"]) -> None:
        """Fix the input's units, u and tau from the training vectors."""
        for unit, value in zip((self.loc, self.scale), location_and_scale(vector), strict=True):
            unit.copy_(value)
        if self.direction_dim is not None:
            some = vector[:: math.ceil(len(vector) / MOST_ROWS)]
            response, cosine = _response(some, self.direction_dim), _cosine(some, self.direction_dim)
            usual, left_out = _ridge(response, cosine)
            self.usual.copy_(usual)
            self.least.copy_(left_out.quantile(SHORT_SHARE))

    def embed(self, vector: Float[Tensor, "batch vector_dim"]) -> Float[Tensor, "batch dim"]:
        """The embedding e."""
        standard = (vector - self.loc) / self.scale
        relevance = [] if self.direction_dim is None else [self._relevance(vector, self.direction_dim)[:, None]]
        return torch.cat([self.layers(standard), *relevance, standard], dim=1)

    def _relevance(self, vector: Float[Tensor, "batch vector_dim"], direction_dim: int) -> Float[Tensor, " batch"]:
        """The rho of a vector."""
        usual = _predicted(_response(vector, direction_dim), self.usual)
        return (_cosine(vector, direction_dim) - usual - self.least).clamp(-LARGEST_SHORTFALL, 0)

    def reward(self, embedding: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
        """The base reward r0 of an embedding."""
        reward = self._of_trunk(embedding)
        return reward if self.direction_dim is None else reward + self.relevance_weight * embedding[:, self.size]

    def _of_trunk(self, embedding: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
        out: Tensor = self.head(embedding[:, : self.size])
        return out[:, 0]

    def forward(
        self, vector: Float[Tensor, "batch vector_dim"], base_reward: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        """The base reward of a vector, as Bradley-Terry training calls it; `base_reward` is not used.

        While it trains, without rho: the trunk would learn to make up for it.
        """
        embedding = self.embed(vector)
        return self._of_trunk(embedding) if self.training else self.reward(embedding)


def _cosine(vector: Float[Tensor, "batch vector_dim"], direction_dim: int) -> Float[Tensor, " batch"]:
    prompt, response = vector[:, :direction_dim], vector[:, direction_dim : 2 * direction_dim]
    return (prompt * response).sum(1)


def _response(vector: Float[Tensor, "batch vector_dim"], direction_dim: int) -> Float[Tensor, "batch response_dim"]:
    """All of the vector but the prompt's direction: the response's, and the lengths behind it."""
    return vector[:, direction_dim:]


def _ridge(
    inputs: Float[Tensor, "n dim"], target: Float[Tensor, " n"]
) -> tuple[Float[Tensor, " dim_and_one"], Float[Tensor, " n"]]:
    """Weights of a ridge regression with its constant, which is not shrunk, and what remains of rows left out of it.

    What remains of a row that a regression without it predicts is what remains within, over one less its leverage.
    """
    centre, mean = inputs.mean(0), target.mean()
    rows, wanted = (inputs - centre).double(), (target - mean).double()
    shrunk = rows.T @ rows + RIDGE * torch.eye(rows.shape[1], dtype=rows.dtype)
    weight, leverage = torch.linalg.solve(shrunk, rows.T @ wanted), (torch.linalg.solve(shrunk, rows.T).T * rows).sum(1)
    left_out = (wanted - rows @ weight) / (1 - 1 / len(rows) - leverage)
    return torch.cat([weight, (mean - centre.double() @ weight)[None]]).to(inputs.dtype), left_out.to(inputs.dtype)


def _predicted(inputs: Float[Tensor, "n dim"], weight: Float[Tensor, " dim_and_one"]) -> Float[Tensor, " n"]:
    return inputs @ weight[:-1] + weight[-1]
