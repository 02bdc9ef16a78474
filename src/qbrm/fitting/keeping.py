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

DEFAULT_WEIGHT = 0.3
PAIRS_PER_STEP = 128


@dataclass(frozen=True)
class Keep:
    """Responses whose order is to stay, as pairs that answer one prompt; which of a pair is chosen means nothing.

    Attributes:
        pairs: whose corrections are held together.
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
    r"""Another objective, and a penalty on corrections that change the order of kept responses.

    .. math:: L = L_0 + \frac{\lambda}{2}\, \overline{(\delta_a - \delta_b)^2}, \qquad
              \delta = \mathbb{E}[r \mid e] - r_0

    a and b are two responses to one prompt, drawn anew for every batch; no label is needed. Half the mean squared
    difference is the variance of the corrections on a prompt: only what moves its responses apart can change their
    order, and a shift of all of them costs nothing. Rewards are in standardised units. Holding a model's outputs where
    it was right is learning without forgetting (Li & Hoiem, 2017, arXiv 1606.09282).

    Attributes:
        objective: L_0.
        keep: the kept pairs, and lambda.
    """

    objective: Objective[TrainableScore]
    keep: Keep

    def __call__(
        self, model: TrainableScore, batch: Batch, generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Mean over the batch and over as many kept pairs as a step draws, in nats."""
        loss = self.objective(model, batch, generator)
        pairs = self.keep.pairs
        picked = torch.randint(pairs.n_pairs, (PAIRS_PER_STEP,), generator=generator)
        kept = moved(pairs.batch(picked.to(pairs.chosen.device)), model)
        return loss + self.keep.weight * difference_of_corrections(model, kept).square().mean() / 2


def difference_of_corrections(model: TrainableScore, batch: Batch) -> Float[Tensor, " pairs"]:
    """Correction of each pair's first response less that of its second, in standardised units."""
    clamped = model.clamp(*batch.examples())
    first, second = (model.expected(clamped) - clamped.base_reward).chunk(2)
    return first - second
