"""The competitor that a user would try first."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from qbrm.comparison.methods.base import Fitted, Rewards, Task, bradley_terry
from qbrm.comparison.responses import Features
from qbrm.objectives import BradleyTerry
from qbrm.training import TrainingSettings, train
from qbrm.units import location_and_scale

HIDDEN = 128


class RewardCorrection(nn.Module):
    r"""A small network on the embedding, added to the base reward.

    .. math:: r = r_0 + w^\top \tanh(V \hat e + c)

    e^ is the embedding, standardised per dimension; w starts at zero, so training starts from the base reward.

    Args:
        dim: embedding size D.
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("loc", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.layers = nn.Sequential(nn.Linear(dim, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1, bias=False))
        nn.init.zeros_(self.layers[2].weight)  # type: ignore[arg-type]

    def standardise(self, embedding: Float[Tensor, "n dim"]) -> None:
        """Fix the input's units from the training embeddings."""
        for unit, value in zip((self.loc, self.scale), location_and_scale(embedding), strict=True):
            unit.copy_(value)

    def forward(
        self, embedding: Float[Tensor, "batch dim"], base_reward: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        """Corrected rewards."""
        correction: Tensor = self.layers((embedding - self.loc) / self.scale)
        return base_reward + correction[:, 0]


class MLP:
    """An MLP on the embedding added to the base reward, trained with Bradley-Terry."""

    name = "mlp"

    def __init__(self, settings: TrainingSettings) -> None:
        self.settings = settings

    def fit(self, task: Task) -> Fitted:
        """Train and keep the best epoch."""
        torch.manual_seed(task.seed)
        model = RewardCorrection(task.pairs.dim)
        model.standardise(task.pairs.responses()[0])
        training = train(
            model,
            BradleyTerry(),
            task.pairs,
            task.validation,
            self.settings,
            task.seed,
            checkpoint=task.checkpoint,
            measure=lambda model: task.measure(_rewards(model)),
            on_epoch=task.on_epoch,
        )
        return Fitted(_rewards(model), bradley_terry, training)


def _rewards(model: RewardCorrection) -> Rewards:
    @torch.no_grad()
    def rewards(features: Features) -> Float[Tensor, " responses"]:
        return model(features.embedding, features.reward)  # type: ignore[no-any-return]

    return rewards
