"""Learning that known ways to game a reward model do not pay: the original over the hack, without a label."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qbrm.data.pairs import Batch, PairData
from qbrm.fitting.objectives import Objective, PreferenceLikelihood
from qbrm.fitting.trainable import TrainableScore
from qbrm.fitting.trainer import moved

DEFAULT_WEIGHT = 3.0
PAIRS_PER_STEP = 128
# One prompt in so many sets a gate's threshold.
HELD_OUT = 8


@dataclass(frozen=True)
class Harden:
    """Originals and what probes made of them, as pairs whose chosen response is the original.

    Attributes:
        pairs: the pairs, of training prompts.
        prompt: number of each pair's prompt, as the preferences beside them have it.
        weight: of their loss.
    """

    pairs: PairData
    prompt: Int[Tensor, " pairs"]
    weight: float = DEFAULT_WEIGHT

    def __repr__(self) -> str:
        return f"Harden({self.pairs.digest()!r}, {self.weight!r})"

    def only(self, picked: Bool[Tensor, " pairs"]) -> Harden:
        """The pairs for which `picked` is true."""
        return replace(self, pairs=self.pairs.only(picked), prompt=self.prompt[picked])

    def divided(self) -> tuple[Float[Tensor, "n dim"], Float[Tensor, "m dim"]]:
        """Embeddings of originals and hacks, those of one prompt in eight apart."""
        held_out = torch.unique(self.prompt, return_inverse=True)[1] % HELD_OUT == 0
        train, apart = (self.pairs.only(picked).responses()[0] for picked in (~held_out, held_out))
        return train, apart

    def added_to(self, objective: Objective[TrainableScore]) -> Objective[TrainableScore]:
        """The objective with the loss of these pairs."""
        return Hardening(objective, self) if self.weight and self.pairs.n_pairs else objective


@dataclass(frozen=True)
class Hardening:
    r"""Another objective, and the negative log-probability that an original's reward is above its hack's.

    .. math:: L = L_0 + \lambda\, \overline{-\log P(r_\mathrm{original} > r_\mathrm{hack})}

    Pairs are drawn anew for every batch. That something good is better than the same thing spoilt needs no label, and
    responses are drawn without looking at theirs.

    Attributes:
        objective: L_0.
        harden: the pairs, and lambda.
    """

    objective: Objective[TrainableScore]
    harden: Harden

    def __call__(self, model: TrainableScore, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Mean over the batch, and over as many hacks as are drawn for it, in nats."""
        loss = self.objective(model, batch, generator)
        pairs = self.harden.pairs
        picked = torch.randint(pairs.n_pairs, (PAIRS_PER_STEP,), generator=generator)
        drawn = moved(pairs.batch(picked.to(pairs.chosen.device)), model)._replace(row=None)
        return loss + self.harden.weight * PreferenceLikelihood()(model, drawn, generator)
