"""The members of an ensemble, each with other prompts held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from qbrm.data.pairs import PairData, Pairs
from qbrm.fitting.hardening import Harden
from qbrm.fitting.keeping import Keep
from qbrm.fitting.objectives import Objective
from qbrm.fitting.trainable import TrainableScore

# Distance of the seeds of an ensemble's members, so that those of neighbouring seeds do not meet.
MEMBER_SEEDS = 100_000


@dataclass(frozen=True)
class Fold:
    """What one score is fitted to.

    Attributes:
        pairs: training pairs.
        validation: pairs that choose the epoch and calibrate.
        seed: seeds initial weights, shuffling and noise.
        checkpoint: file that keeps the training state; None keeps none.
        prompt: number of the prompt that each response answers, if a :func:`committee` may share the pairs out anew:
            all are over the same responses, and none trained the reward model, whose rewards would look too good.
        keep: responses whose order is to stay; None for none.
        harden: hacks that are to lose, those of validation prompts held out; None for none.
    """

    pairs: Pairs
    validation: PairData
    seed: int = 0
    checkpoint: Path | None = None
    prompt: Int[Tensor, " responses"] | None = None
    keep: Keep | None = None
    harden: Harden | None = None

    def objective(self, named: Objective[TrainableScore]) -> Objective[TrainableScore]:
        """An objective with what keeping and hardening add to it."""
        return self._objective(named, validates=False)

    def validation_objective(self, named: Objective[TrainableScore]) -> Objective[TrainableScore]:
        """The same for validation pairs, with hacks of validation prompts alone."""
        return self._objective(named, validates=True)

    def _objective(self, named: Objective[TrainableScore], *, validates: bool) -> Objective[TrainableScore]:
        kept = self.keep.added_to(named) if self.keep else named
        return self.harden.added_to(kept, validates=validates) if self.harden else kept

    def of_member(self, index: int) -> Fold:
        """The same for number `index` of an ensemble, which differs in its seed."""
        if index == 0:
            return self
        checkpoint = self.checkpoint and self.checkpoint.with_name(f"checkpoint-{index}.safetensors")
        return replace(self, seed=self.seed + MEMBER_SEEDS * index, checkpoint=checkpoint)


def committee(fold: Fold, members: int) -> list[Fold]:
    """A fold for each of several members: one prompt in `members` validates a member and trains all others.

    Training and validation pairs, and hacks of their prompts, are put together and shared out again by prompt: every
    pair trains all members but one and validates that one. Few pairs choose and calibrate better this way than an
    eighth of them does, and members that were trained on different pairs err apart: the cross-validation ensemble of
    Krogh & Vedelsby (1995), Advances in Neural Information Processing Systems 7, 231. Without prompts in the fold,
    members differ in their seed alone.

    Args:
        fold: what all of them have together.
        members: how many; fewer if there are fewer prompts, two of which there must be.
    """
    seeded = [fold.of_member(index) for index in range(members)]
    if members == 1 or fold.prompt is None or not isinstance(fold.pairs, PairData):
        return seeded
    together = fold.pairs.with_pairs_of(fold.validation)
    prompt = fold.prompt[together.chosen]
    number = shuffled_prompts(prompt, fold.seed) % members
    return [
        replace(
            member,
            pairs=together.only(number != index),
            validation=together.only(number == index),
            harden=fold.harden and fold.harden.holding_out(prompt[number == index]),
        )
        for index, member in enumerate(seeded[: int(number.max()) + 1])
    ]


def hold_out_apart(folds: Sequence[Fold]) -> bool:
    """Whether the members of a committee validate on different pairs."""
    return any(fold.validation is not folds[0].validation for fold in folds)


def shuffled_prompts(prompt: Int[Tensor, " pairs"], seed: int) -> Int[Tensor, " pairs"]:
    """The number of each pair's prompt, from 0 on, in an order that the seed decides."""
    prompts, place = torch.unique(prompt, return_inverse=True)
    order = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(seed), device="cpu")
    return order.to(prompt.device)[place]
