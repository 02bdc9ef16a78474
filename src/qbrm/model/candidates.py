"""From candidates as texts to a machine across them: what it is told of each, and how it is fitted and measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, UInt64
from torch import Tensor

from qbrm.energies import EnergyScore
from qbrm.energies.candidates import CandidateMachine, Candidates
from qbrm.energies.density import density
from qbrm.errors import InputError
from qbrm.evaluation import PromptBootstrap
from qbrm.evaluation.bootstrap import TestPairs
from qbrm.evaluation.verdict import Difference
from qbrm.fitting.committee import shuffled_prompts
from qbrm.preferences import Prompt
from qbrm.preferences.candidate_lists import CandidateList
from qbrm.preferences.digest import prompt_digests
from qbrm.refinement import REFINEMENTS
from qbrm.samplers import Sampler

Describe: TypeAlias = Callable[[Sequence[Prompt], Sequence[str]], Candidates]

TEST_SHARE = 0.2
FEWEST_SETS = 10
AT_ONCE = 1024  # responses that are scored in one call


class CandidateReport(NamedTuple):
    """What choosing among candidates is worth on prompts that trained nothing.

    Attributes:
        trained: sets that the machine was fitted to.
        tested: sets that it is measured on.
        refined: mean gold value of the candidates with the greatest refined rewards.
        machine: the same of those that the machine chooses.
        difference: machine less refined, with its 95% interval by prompt.
    """

    trained: int
    tested: int
    refined: float
    machine: float
    difference: Difference


class FittedMachine(NamedTuple):
    """A machine across candidates, and what it is worth."""

    machine: CandidateMachine
    report: CandidateReport


def candidates_of(
    refined: Float[Tensor, " n"],
    deviation: Float[Tensor, " n"],
    responses: Sequence[str],
    embedding: Float[Tensor, "n dim"],
) -> Candidates:
    """What a machine across candidates is told of responses, on the CPU, where it works."""
    length = torch.tensor([len(response) for response in responses], dtype=torch.float64).log1p()
    return Candidates(refined.cpu(), deviation.cpu(), length, embedding.cpu())


@torch.no_grad()
def described(
    score: EnergyScore,
    refinement: str,
    embedding: Float[Tensor, "n dim"],
    base_reward: Float[Tensor, " n"],
    responses: Sequence[str],
) -> Candidates:
    """The same from features: refined rewards and deviations are those of `score`."""
    clamped = score.clamp(embedding, base_reward)
    refined = REFINEMENTS[refinement](score, clamped, torch.Generator().manual_seed(0))
    deviation = density(score, clamped).std * score.reward_scale
    return candidates_of(score.from_standard(refined), deviation, responses, embedding)


def shares_of(gold: Sequence[float]) -> Float[Tensor, " n"]:
    """Share of each candidate in the choice of the best: equal ones of several that are as good."""
    values = torch.tensor(gold, dtype=torch.float64)
    best = (values == values.max()).double()
    return best / best.sum()


def fit_machine(
    describe: Describe,
    lists: Sequence[CandidateList],
    known: UInt64[np.ndarray, " prompts"] | None,
    sampler: str | Sampler,
    seed: int,
) -> FittedMachine:
    """Describe all candidates, fit a machine to four fifths of the prompts and measure it on the others.

    Raises:
        InputError: if fewer than `FEWEST_SETS` sets of two or more candidates are on prompts that trained no score.
    """
    usable = _usable(lists, known)
    sets = list(_described(describe, usable))
    prompt = np.unique([one.prompt_id for one in usable], return_inverse=True)[1]
    order = shuffled_prompts(torch.from_numpy(prompt), seed).numpy()
    held_out = order < max(1, round(TEST_SHARE * len(np.unique(prompt))))
    train, test = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    machine = CandidateMachine(sets[0].embedding.shape[1], sampler=sampler)
    machine.fit([sets[row] for row in train], [shares_of(usable[row].gold) for row in train], seed=seed)
    picks = [(int(sets[row].reward.argmax()), int(machine.judge(sets[row]).reward.argmax())) for row in test]
    refined, chosen = np.array(
        [[usable[row].gold[pick] for pick in both] for row, both in zip(test, picks, strict=True)]
    ).T
    bootstrap = PromptBootstrap(TestPairs(np.unique(prompt[test], return_inverse=True)[1]), seed)
    difference = Difference(float((chosen - refined).mean()), *bootstrap.intervals(chosen - refined)["all"])
    report = CandidateReport(len(train), len(test), float(refined.mean()), float(chosen.mean()), difference)
    return FittedMachine(machine, report)


def _usable(lists: Sequence[CandidateList], known: UInt64[np.ndarray, " prompts"] | None) -> list[CandidateList]:
    several = [one for one in lists if len(one.responses) > 1]
    digests = prompt_digests([one.prompt_id for one in several])
    trained = np.zeros(len(several), dtype=bool) if known is None else np.isin(digests, known)
    usable = [one for one, is_known in zip(several, trained, strict=True) if not is_known]
    if len(usable) < FEWEST_SETS:
        found = f"{len(usable)} sets of two or more candidates on prompts that trained nothing"
        left_out = f"{len(lists) - len(several)} have one candidate, {int(trained.sum())} a known prompt"
        raise InputError(f"{found} ({left_out}); expected {FEWEST_SETS} or more.")
    return usable


def _described(describe: Describe, lists: Sequence[CandidateList]) -> Iterator[Candidates]:
    """The candidates of each list; as many lists go through the reward model together as have `AT_ONCE` responses."""
    waiting: list[CandidateList] = []
    for number, one in enumerate(lists, start=1):
        waiting.append(one)
        sizes = [len(each.responses) for each in waiting]
        if sum(sizes) >= AT_ONCE or number == len(lists):
            prompts = [each.prompt for each in waiting for _ in each.responses]
            together = describe(prompts, [response for each in waiting for response in each.responses])
            ends = np.cumsum(sizes)
            yield from (together.rows(slice(int(end - size), int(end))) for end, size in zip(ends, sizes, strict=True))
            waiting = []
