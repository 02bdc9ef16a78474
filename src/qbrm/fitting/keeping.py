"""Keeping the order of rewards where it is right already: a penalty on corrections there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.data.pairs import Batch, PairData
from qbrm.fitting.objectives import Objective
from qbrm.fitting.trainable import KeptEmbeddings, TrainableScore
from qbrm.fitting.trainer import moved

DEFAULT_WEIGHT = 0.1
PAIRS_PER_STEP = 128
SMALLEST_SCALE = 0.1


@dataclass(frozen=True)
class Keep:
    """Responses whose order is to stay, as pairs that answer one prompt; which of a pair is chosen means nothing.

    Attributes:
        pairs: whose corrections are held near zero.
        held_out: pairs on other prompts, that set a gate's threshold.
        weight: of the penalty; zero for none, which leaves the gate.
    """

    pairs: PairData
    held_out: PairData
    weight: float = DEFAULT_WEIGHT

    def __repr__(self) -> str:
        return f"Keep({self.pairs.digest()!r}, {self.weight!r})"

    @property
    def embeddings(self) -> KeptEmbeddings:
        """What a gate is to be closed to."""
        return KeptEmbeddings(self.pairs.responses()[0], self.held_out.responses()[0])

    def added_to(self, objective: Objective[TrainableScore]) -> Objective[TrainableScore]:
        """The objective with the penalty."""
        return KeepingOrder(objective, self) if self.weight else objective


@dataclass(frozen=True)
class KeepingOrder:
    r"""Another objective, and a penalty on corrections that may change the order of kept responses.

    .. math:: L = L_0 + \frac{\lambda}{2}\, \overline{(m / s - m_0)^2}, \qquad
              m = \mathbb{E}[r \mid e_a] - \mathbb{E}[r \mid e_b], \quad m_0 = r_{0,a} - r_{0,b}, \quad
              s = \overline{m\, m_0} / \overline{m_0^2}

    a and b are two responses to one prompt, drawn anew for every batch; no label is needed. Neither a shift of a
    prompt's rewards nor a common scale s changes an order, and neither costs anything: hidden units pull rewards
    together even where they correct nothing. What is left is the variance of the corrections on a prompt, in
    standardised units. Holding a model's outputs where it was right is learning without forgetting (Li & Hoiem, 2017,
    arXiv 1606.09282).

    Attributes:
        objective: L_0.
        keep: the kept pairs, and lambda.
    """

    objective: Objective[TrainableScore]
    keep: Keep

    def __call__(self, model: TrainableScore, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Mean over the batch, and over as many kept pairs as are drawn for it, in nats."""
        loss = self.objective(model, batch, generator)
        pairs = self.keep.pairs
        picked = torch.randint(pairs.n_pairs, (PAIRS_PER_STEP,), generator=generator)
        kept = moved(pairs.batch(picked.to(pairs.chosen.device)), model)
        return loss + self.keep.weight * change_of_margins(model, kept).square().mean() / 2


def change_of_margins(model: TrainableScore, batch: Batch) -> Float[Tensor, " pairs"]:
    """Differences of expected rewards in the scale of the base rewards, less those of the base rewards: m / s - m_0."""
    clamped = model.clamp(*batch.examples())
    margin, base = (first - second for first, second in map(_halves, (model.expected(clamped), clamped.base_reward)))
    # Rewards in reverse order have a scale below zero; they are to cost more, not nothing.
    scale = (margin @ base / base.square().sum().clamp_min(1e-12)).clamp_min(SMALLEST_SCALE)
    return margin / scale - base


def _halves(values: Float[Tensor, " examples"]) -> tuple[Float[Tensor, " pairs"], Float[Tensor, " pairs"]]:
    first, second = values.chunk(2)
    return first, second
