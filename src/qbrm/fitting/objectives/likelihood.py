"""Exact maximum likelihood of the base rewards."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.data.pairs import Batch
from qbrm.fitting.trainable import TrainableScore


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
