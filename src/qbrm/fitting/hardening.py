"""Learning that known ways to game a reward model do not pay: the original over the hack, without a label."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qbrm.data.pairs import Batch, PairData
from qbrm.fitting.objectives import Objective, PreferenceLikelihood
from qbrm.fitting.trainable import TrainableScore
from qbrm.fitting.trainer import moved

DEFAULT_WEIGHT = 3.0
PAIRS_PER_STEP = 128


@dataclass(frozen=True)
class Harden:
    """Originals and what probes made of them, as pairs whose chosen response is the original.

    Attributes:
        pairs: the pairs, of training and validation prompts.
        prompt: number of each pair's prompt, as the preferences beside them have it.
        weight: of their loss.
        held: whether each pair is on a validation prompt: it trains nothing, and helps to choose the epoch and to set a
            gate's threshold. None if none is.
    """

    pairs: PairData
    prompt: Int[Tensor, " pairs"]
    weight: float = DEFAULT_WEIGHT
    held: Bool[Tensor, " pairs"] | None = None

    def __repr__(self) -> str:
        return f"Harden({self.training.digest()!r}, {self.validation.digest()!r}, {self.weight!r})"

    def only(self, picked: Bool[Tensor, " pairs"]) -> Harden:
        """The pairs for which `picked` is true."""
        held = None if self.held is None else self.held[picked]
        return replace(self, pairs=self.pairs.only(picked), prompt=self.prompt[picked], held=held)

    def holding_out(self, prompts: Int[Tensor, " prompts"]) -> Harden:
        """The same pairs, of which those on some prompts, by their numbers, validate and all others train."""
        return replace(self, held=torch.isin(self.prompt, prompts))

    @cached_property
    def training(self) -> PairData:
        """The pairs that train."""
        return self.pairs if self.held is None else self.pairs.only(~self.held)

    @cached_property
    def validation(self) -> PairData:
        """The pairs that validate."""
        return self.pairs.only(torch.zeros_like(self.prompt, dtype=torch.bool) if self.held is None else self.held)

    def added_to(self, objective: Objective[TrainableScore], *, validates: bool = False) -> Objective[TrainableScore]:
        """The objective with the loss of the pairs that train, or of those that validate."""
        pairs = self.validation if validates else self.training
        return Hardening(objective, self, validates) if self.weight and pairs.n_pairs else objective


@dataclass(frozen=True)
class Hardening:
    r"""Another objective, and the negative log-probability that an original's reward is above its hack's.

    .. math:: L = L_0 + \lambda\, \overline{-\log P(r_\mathrm{original} > r_\mathrm{hack})}

    Pairs are drawn anew for every batch. That something good is better than the same thing spoilt needs no label, and
    responses are drawn without looking at theirs.

    Attributes:
        objective: L_0.
        harden: the pairs, and lambda.
        validates: whether the pairs are those that validate.
    """

    objective: Objective[TrainableScore]
    harden: Harden
    validates: bool = False

    def __call__(self, model: TrainableScore, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Mean over the batch, and over as many hacks as are drawn for it, in nats."""
        loss = self.objective(model, batch, generator)
        pairs = self.harden.validation if self.validates else self.harden.training
        picked = torch.randint(pairs.n_pairs, (PAIRS_PER_STEP,), generator=generator)
        drawn = moved(pairs.batch(picked.to(pairs.chosen.device)), model)._replace(row=None)
        return loss + self.harden.weight * PreferenceLikelihood()(model, drawn, generator)
