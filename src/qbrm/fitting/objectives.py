"""What scores are trained with: losses over minibatches of preference pairs, by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from qbrm.data.pairs import Batch
from qbrm.fitting.trainable import TrainableScore

Model = TypeVar("Model", bound=nn.Module, contravariant=True)


class Objective(Protocol[Model]):
    """A loss to be minimised over minibatches of preference pairs."""

    def __call__(self, model: Model, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Mean loss of the batch; every random number it needs comes from `generator` (dropout's excepted)."""


@dataclass(frozen=True)
class BradleyTerry:
    r"""Negative log-likelihood of the preferences under Bradley and Terry's (1952) model.

    .. math:: L = -\log \sigma(r_+ - r_-)

    For models that give one reward per response: ``model(embedding, base_reward) -> reward``.
    """

    def __call__(self, model: nn.Module, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Mean over pairs, in nats."""
        chosen = model(batch.chosen, batch.chosen_reward)
        rejected = model(batch.rejected, batch.rejected_reward)
        return functional.softplus(rejected - chosen).mean()


@dataclass(frozen=True)
class NCEPlus:
    r"""NCE+ over the base rewards of single responses.

    .. math:: L = -\log\frac{e^{f(e, y^0)} / q(y^0)}{\sum_{m=0}^{N} e^{f(e, y^m)} / q(y^m)} + \lambda\,\overline{f^2},
              \qquad q(y) = \tfrac1K \sum_k N(y; r_0, \sigma_k^2)

    with y^0 = r0 + nu, nu from the same mixture around zero with its widths scaled by beta, and y^1..y^N ~ q.
    Gustafsson et al. (2020), arXiv 2005.01698, eqs. 6 and 12; constants of Lochab & Zhang (2025), arXiv 2504.13134.
    Rewards and widths are in standardised units.

    Attributes:
        noise_samples: N.
        sigmas: widths sigma_k of the noise.
        beta: width of the positives' noise relative to the negatives'.
        penalty: lambda.
    """

    noise_samples: int = 64
    sigmas: tuple[float, ...] = (3.5,)
    beta: float = 0.1
    penalty: float = 0.05

    def __call__(self, model: TrainableScore, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Mean over both responses of every pair."""
        clamped = model.clamp(*batch.examples())
        rows = len(clamped.base_reward)
        positive, negatives = (self.noise(rows, columns, generator) for columns in (1, self.noise_samples))
        noise = torch.cat([self.beta * positive, negatives], dim=1).to(clamped.base_reward)
        value = model.at(clamped, clamped.base_reward[:, None] + noise)
        ratio = value - self._log_noise_density(noise)
        return (torch.logsumexp(ratio, 1) - ratio[:, 0]).mean() + self.penalty * value.square().mean()

    def noise(self, rows: int, columns: int, generator: torch.Generator) -> Float[Tensor, "rows columns"]:
        """Draw y - r0 from q."""
        drawn: dict[str, Any] = {"generator": generator, "device": generator.device}
        component = torch.randint(len(self.sigmas), (rows, columns), **drawn)
        sigmas = torch.tensor(self.sigmas, device=generator.device)
        return sigmas[component] * torch.randn(rows, columns, **drawn)

    def _log_noise_density(self, noise: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
        sigmas = noise.new_tensor(self.sigmas)
        log_normal = -(noise[..., None] / sigmas).square() / 2 - sigmas.log() - math.log(2 * math.pi) / 2
        return torch.logsumexp(log_normal, -1) - math.log(len(self.sigmas))


@dataclass(frozen=True)
class Likelihood:
    r"""Negative log-likelihood of the base reward given the embedding, normalised exactly.

    .. math:: L = -f(e, r_0) + \log \int e^{f(e, r)}\,dr

    What NCE+ estimates with noise, computed by quadrature. An anchored Boltzmann score already contains r0, which this
    objective would only learn to copy: build it with ``anchored=False``.
    """

    def __call__(self, model: TrainableScore, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Mean over both responses of every pair, in nats of the standardised reward."""
        model.reseed(generator)
        clamped = model.clamp(*batch.examples())._replace(row=batch.row)
        return -model.log_density(clamped, clamped.base_reward[:, None]).mean()


@dataclass(frozen=True)
class PreferenceLikelihood:
    r"""Negative log-probability that the chosen response's reward is the greater one.

    .. math:: L = -\log P(r_+ > r_-), \qquad r_\pm \sim p(\cdot \mid e_\pm)\ \text{independent}

    A pair whose base rewards contradict its label is evidence of what to correct, where conflict-aware filtering
    drops it. For a Gaussian p(r | e) this is Thurstone's (1927) model of comparative judgement.
    """

    def __call__(self, model: TrainableScore, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Mean over pairs, in nats."""
        model.reseed(generator)
        return -model.log_preference(batch).mean()


OBJECTIVES: dict[str, Callable[[], Objective[TrainableScore]]] = {
    "nce": NCEPlus,
    "likelihood": Likelihood,
    "preference": PreferenceLikelihood,
}
