"""NCE+: noise-contrastive estimation with noisy positives, the published objective of EBRM."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.data.pairs import Batch
from qbrm.fitting.trainable import TrainableScore


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
        positive, negatives = (self._noise(rows, columns, generator) for columns in (1, self.noise_samples))
        noise = torch.cat([self.beta * positive, negatives], dim=1).to(clamped.base_reward)
        value = model.at(clamped, clamped.base_reward[:, None] + noise)
        ratio = value - self._log_noise_density(noise)
        return (torch.logsumexp(ratio, 1) - ratio[:, 0]).mean() + self.penalty * value.square().mean()

    def _noise(self, rows: int, columns: int, generator: torch.Generator) -> Float[Tensor, "rows columns"]:
        drawn: dict[str, Any] = {"generator": generator, "device": generator.device}
        component = torch.randint(len(self.sigmas), (rows, columns), **drawn)
        sigmas = torch.tensor(self.sigmas, device=generator.device)
        return sigmas[component] * torch.randn(rows, columns, **drawn)

    def _log_noise_density(self, noise: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
        sigmas = noise.new_tensor(self.sigmas)
        log_normal = -(noise[..., None] / sigmas).square() / 2 - sigmas.log() - math.log(2 * math.pi) / 2
        return torch.logsumexp(log_normal, -1) - math.log(len(self.sigmas))
