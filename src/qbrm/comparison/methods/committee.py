"""The members of an ensemble, each with other prompts held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from qbrm.comparison.methods.base import Task
from qbrm.features.pairs import PairData


def committee(task: Task, members: int) -> list[Task]:
    """A task for each of several members: one prompt in `members` validates a member and trains all others.

    Training and validation pairs are put together and shared out again by prompt, so that the members have learned from
    all of them and have been checked on all of them by somebody who had not seen them. Few pairs choose and calibrate
    better this way than an eighth of them does, and members that were taught differently err apart: the
    cross-validation ensemble of Krogh & Vedelsby (1995), Advances in Neural Information Processing Systems 7, 231.

    Where the task does not say which prompts may be shared out, the members have the same pairs and differ in their
    seed.

    Args:
        task: what all of them have together.
        members: how many; fewer if there are fewer prompts, two of which there must be.
    """
    seeded = [task.of_member(index) for index in range(members)]
    if members == 1 or task.prompt is None or not isinstance(task.pairs, PairData):
        return seeded
    together = task.pairs.with_pairs_of(task.validation)
    fold = _folds(task.prompt[together.chosen], members, task.seed)
    return [
        replace(
            each,
            pairs=together.only(fold != index),
            validation=together.only(fold == index),
            # The task's own validation pairs train most members.
            measure=lambda rewards: {},
        )
        for index, each in enumerate(seeded[: int(fold.max()) + 1])
    ]


def hold_out_apart(tasks: Sequence[Task]) -> bool:
    """Whether the members of a committee validate on different pairs."""
    return any(task.validation is not tasks[0].validation for task in tasks)


def _folds(prompt: Int[Tensor, " pairs"], count: int, seed: int) -> Int[Tensor, " pairs"]:
    """A fold for each pair: pairs of a prompt in the same one, folds as even in prompts as can be."""
    prompts, place = torch.unique(prompt, return_inverse=True)
    order = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(seed))
    folds: Tensor = order[place] % count
    return folds
