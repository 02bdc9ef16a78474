"""Distributional reward heads as published: a Gaussian one and a quantile one, trained on preferences."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from qbrm.data.pairs import Batch
from qbrm.fitting import TrainingSettings
from qbrm_lab.methods.base import Fitted, LogPreference, Rewards, Task
from qbrm_lab.methods.mlp import Network, train_network, training_settings
from qbrm_lab.methods.names import Defaults, MethodName
from qbrm_lab.responses import Features

HIDDEN = 128
QUANTILES = 10

Embedding = Float[Tensor, "batch dim"]
Reward = Float[Tensor, " batch"]


class DistributionalHead(Network, ABC):
    """A small network on the embedding that gives the parameters of a reward distribution, centred at the base reward.

    Args:
        dim: embedding size D.
        parameters: numbers per response.
    """

    def __init__(self, dim: int, parameters: int) -> None:
        super().__init__(dim)
        self.first, self.last = nn.Linear(dim, HIDDEN), nn.Linear(HIDDEN, parameters)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def outputs(self, embedding: Embedding) -> Float[Tensor, "batch parameters"]:
        """What the network says of each response."""
        out: Tensor = self.last(torch.tanh(self.first(self.standardised(embedding))))
        return out

    @abstractmethod
    def forward(self, embedding: Embedding, base_reward: Reward) -> Reward:
        """Mean rewards."""

    @abstractmethod
    def deviation(self, embedding: Embedding, base_reward: Reward) -> Reward:
        """Standard deviation of the reward."""

    @abstractmethod
    def log_preference(self, batch: Batch) -> Float[Tensor, " pairs"]:
        """Log P(chosen > rejected)."""


class GaussianHead(DistributionalHead):
    r"""Mean and deviation of a normal reward, compared by a probit.

    .. math:: P(a > b) = \Phi\Bigl(\frac{\mu_a - \mu_b}{\sqrt{\sigma_a^2 + \sigma_b^2}}\Bigr), \qquad
              \mu = r_0 + h_1(e), \quad \sigma = e^{h_2(e)}

    Thurstone (1927); the mean-and-variance model of Siththaranjan et al. (2024), arXiv 2312.08358.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, parameters=2)

    @override
    def forward(self, embedding: Embedding, base_reward: Reward) -> Reward:
        return base_reward + self.outputs(embedding)[:, 0]

    @override
    def deviation(self, embedding: Embedding, base_reward: Reward) -> Reward:
        return self.outputs(embedding)[:, 1].exp()

    @override
    def log_preference(self, batch: Batch) -> Float[Tensor, " pairs"]:
        of_chosen, of_rejected = self.outputs(batch.chosen), self.outputs(batch.rejected)
        margin = batch.chosen_reward - batch.rejected_reward + of_chosen[:, 0] - of_rejected[:, 0]
        variance = (2 * of_chosen[:, 1]).exp() + (2 * of_rejected[:, 1]).exp()
        log_probability: Tensor = torch.special.log_ndtr(margin * variance.rsqrt())
        return log_probability


class QuantileHead(DistributionalHead):
    r"""Ten quantiles of the reward, compared pair by pair.

    .. math:: P(a > b) = \frac{1}{K^2} \sum_{ij} \sigma(q_{a,i} - q_{b,j})

    The reward is their mean. Quantile heads: Dorka (2024), arXiv 2409.10164, trained on ratings there; here on
    preferences, with the likelihood that the distributional model of Siththaranjan et al. (2024) has.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, parameters=QUANTILES)

    def quantiles(self, embedding: Embedding, base_reward: Reward) -> Float[Tensor, "batch quantiles"]:
        """Quantiles in ascending order; equally spaced by 0.2 around the base reward at first."""
        out = self.outputs(embedding)
        steps = functional.softplus(out[:, 1:] + math.log(math.expm1(0.2)))
        rising = functional.pad(steps.cumsum(1), (1, 0))
        return (base_reward + out[:, 0])[:, None] + rising - rising.mean(1, keepdim=True)

    @override
    def forward(self, embedding: Embedding, base_reward: Reward) -> Reward:
        return self.quantiles(embedding, base_reward).mean(1)

    @override
    def deviation(self, embedding: Embedding, base_reward: Reward) -> Reward:
        return self.quantiles(embedding, base_reward).std(1)

    @override
    def log_preference(self, batch: Batch) -> Float[Tensor, " pairs"]:
        chosen = self.quantiles(batch.chosen, batch.chosen_reward)
        rejected = self.quantiles(batch.rejected, batch.rejected_reward)
        margins = chosen[:, :, None] - rejected[:, None, :]
        return torch.logsumexp(functional.logsigmoid(margins).flatten(1), 1) - math.log(QUANTILES**2)


class ComparedDistributions:
    """Negative log-probability that a distributional head gives to the preferences."""

    def __call__(self, model: DistributionalHead, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Mean over pairs, in nats."""
        return -model.log_preference(batch).mean()


@dataclass(frozen=True)
class Distributional:
    """A distributional head on the frozen embedding, which `head` builds."""

    name: str
    head: Callable[[int], DistributionalHead]
    settings: TrainingSettings

    def fit(self, task: Task) -> Fitted:
        """Train and keep the best epoch."""
        model, training = train_network(self.head, ComparedDistributions(), task, self.settings, _rewards)
        return Fitted(_rewards(model), _log_preference(model), training, deviation=_deviation(model))


def gaussian(name: MethodName, defaults: Defaults) -> Distributional:
    """The method ``gaussian``."""
    return Distributional(str(name), GaussianHead, training_settings(defaults))


def quantile(name: MethodName, defaults: Defaults) -> Distributional:
    """The method ``quantile``."""
    return Distributional(str(name), QuantileHead, training_settings(defaults))


def _rewards(model: DistributionalHead) -> Rewards:
    return torch.no_grad()(lambda features: model(features.embedding, features.reward))


def _deviation(model: DistributionalHead) -> Rewards:
    return torch.no_grad()(lambda features: model.deviation(features.embedding, features.reward))


def _log_preference(model: DistributionalHead) -> LogPreference:
    @torch.no_grad()
    def log_preference(
        features: Features, rewards: Tensor, chosen: Int[Tensor, " pairs"], rejected: Int[Tensor, " pairs"]
    ) -> Float[Tensor, " pairs"]:
        embedding, reward = features.embedding, features.reward
        return model.log_preference(Batch(embedding[chosen], reward[chosen], embedding[rejected], reward[rejected]))

    return log_preference
