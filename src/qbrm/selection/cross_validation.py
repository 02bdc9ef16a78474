"""Cross-validation by prompt: the loss of every candidate on prompts that trained and tuned nothing of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float64, Int
from torch import Tensor, nn

from qbrm.data.pairs import PairData
from qbrm.energies import EnergyScore, Residual
from qbrm.fitting import Epoch, Fold
from qbrm.fitting.calibration import calibrate
from qbrm.fitting.committee import MEMBER_SEEDS, shuffled_prompts
from qbrm.fitting.hardening import Harden
from qbrm.fitting.keeping import Keep
from qbrm.fitting.members import Members
from qbrm.fitting.objectives import PreferenceLikelihood
from qbrm.fitting.trainer import moved, train, validation_loss
from qbrm.refinement import REFINEMENTS, refine
from qbrm.selection.candidates import BASE, CANDIDATES, MEMBERS, Candidate, Family

# Each group in turn is judged; for it, each of the other five validates one member that the remaining four train.
GROUPS = MEMBERS + 1
EVALUATION_PAIRS = 1024
# Pairs that choose an epoch, and that set a temperature, while scores are compared; the final score gets all.
EPOCH_PAIRS, CALIBRATION_PAIRS = 512, 2048

State = Mapping[str, Tensor]
Result = TypeVar("Result")


class Judged(NamedTuple):
    """Loss of one candidate on every pair, in nats, each from a score that had no part in that pair's prompt."""

    candidate: Candidate
    loss: Float64[np.ndarray, " pairs"]


@dataclass(frozen=True)
class Choosing:
    """What a score is chosen on.

    Attributes:
        data: all pairs that may choose and train.
        prompt: number of the prompt that each response answers.
        seed: seeds groups, weights and shuffling.
        device: where scores are trained.
        keep: responses whose order is to stay; None for none.
        harden: hacks that are to lose; None for none.
    """

    data: PairData
    prompt: Int[Tensor, " responses"]
    seed: int
    device: torch.device
    keep: Keep | None = None
    harden: Harden | None = None
    group: Int[Tensor, " pairs"] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "group", shuffled_prompts(self.prompt[self.data.chosen], self.seed) % GROUPS)

    @property
    def candidates(self) -> Sequence[Candidate]:
        """All candidates; if an order is to stay, those with a gate, as their losses do not show what that keeps."""
        return [candidate for candidate in CANDIDATES if candidate.gate or candidate == BASE or self.keep is None]

    @property
    def groups(self) -> range:
        """Numbers of the groups of prompts; fewer than six if there are fewer prompts."""
        return range(int(self.group.max()) + 1)

    def without(self, *groups: int) -> PairData:
        """The pairs of all other groups."""
        return self.data.only(~torch.isin(self.group, torch.tensor(groups)))

    def of(self, group: int) -> PairData:
        """The pairs of one group."""
        return self.data.only(self.group == group)

    @cached_property
    def _group_of_hack(self) -> Int[Tensor, " hacks"]:
        """The group of the prompt that each hack answers; below zero if it is in none."""
        assert self.harden is not None
        prompts, place = torch.unique(self.prompt[self.data.chosen], return_inverse=True)
        group = torch.empty_like(prompts)
        group[place] = self.group
        where = torch.searchsorted(prompts, self.harden.prompt).clamp_max(len(prompts) - 1)
        return torch.where(prompts[where] == self.harden.prompt, group[where], -1)

    def hacks_without(self, judged: int, validating: int) -> Harden | None:
        """The hacks of all other groups than the one that judges; of these, those of one validate."""
        if self.harden is None:
            return None
        left = self.harden.only(self._group_of_hack != judged)
        return left.holding_out(self.prompt[self.of(validating).chosen])

    def hack_losses(self, scores: Mapping[int, EnergyScore]) -> Float64[np.ndarray, " judged_hacks"]:
        """Loss of every hack with the score that judges its group; none without hacks."""
        if self.harden is None:
            return np.zeros(0)
        losses = np.empty(self.harden.pairs.n_pairs)
        for group, score in scores.items():
            of_group = self._group_of_hack == group
            if of_group.any():
                losses[of_group.numpy()] = _loss(score, self.harden.pairs.only(of_group))
        judged: Float64[np.ndarray, " judged_hacks"] = losses[(self._group_of_hack >= 0).numpy()]
        return judged

    @property
    def judged_prompts(self) -> Int[np.ndarray, " judged"]:
        """Number of the prompt of everything that candidates are judged on: pairs, and then hacks if there are any."""
        pairs: Int[np.ndarray, " pairs"] = self.prompt[self.data.chosen].numpy()
        if self.harden is None:
            return pairs
        return np.concatenate([pairs, self.harden.prompt[self._group_of_hack >= 0].numpy()])

    def trained(self, family: Family, advance: Callable[[], None] = lambda: None) -> TrainedFamily:
        """Train a member for every two groups that are left out of it: the one validates it when the other judges.

        Each training serves both, since the weights of the best epoch by either group are kept.
        """
        pairs = list(itertools.combinations(self.groups, 2))
        seeds = [self.seed + MEMBER_SEEDS * number for number in range(len(pairs))]
        # Weights are drawn from torch's global generator, here, before several threads train.
        scores = [self.new_score(family, seed) for seed in seeds]
        for score in scores:
            score.scatter()
        states: dict[tuple[int, int], State] = {}
        for trained in side_by_side(partial(self._train, family), scores, pairs, seeds):
            states |= trained
            advance()
        return TrainedFamily(self, family, states)

    def new_score(self, family: Family, seed: int) -> EnergyScore:
        """An untrained score in units of all pairs, so that any members can be made one."""
        torch.manual_seed(seed)
        score = family.build(self.data.dim)
        score.load_state_dict(self._units, strict=False)
        return score.to(self.device)

    @cached_property
    def _units(self) -> State:
        """Location and scale of rewards and embeddings, by the names that all scores have for them."""
        score = Residual(self.data.dim, deep=0)
        score.standardise(*self.data.responses())
        return dict(score.named_buffers())

    def _train(
        self, family: Family, score: EnergyScore, pair: tuple[int, int], seed: int
    ) -> dict[tuple[int, int], State]:
        """Weights by (judged, validating) group."""
        pairs, settings = self.without(*pair), family.settings(self.data.n_pairs).training
        # Stopping early by one group's loss would let its labels into the score that judges it.
        settings = replace(settings, patience=settings.epochs)
        fold, other = (
            Fold(pairs, self.of(key[1]).sample(EPOCH_PAIRS), seed, keep=self.keep, harden=self.hacks_without(*key))
            for key in (pair, pair[::-1])
        )
        objective = fold.objective(PreferenceLikelihood())
        validates, others = (each.validation_objective(PreferenceLikelihood()) for each in (fold, other))
        losses: dict[tuple[int, int], float] = {}
        states: dict[tuple[int, int], State] = {}

        def keep_best(epoch: Epoch) -> None:
            of_groups = epoch["validation_loss"], validation_loss(score, others, other.validation, seed)
            for key, loss in zip((pair, pair[::-1]), of_groups, strict=True):
                if loss < losses.get(key, np.inf):
                    losses[key] = loss
                    states[key] = {name: value.clone() for name, value in score.state_dict().items()}

        train(
            score,
            objective,
            pairs,
            fold.validation,
            settings,
            seed,
            validation_objective=validates,
            on_epoch=keep_best,
        )
        return states


@dataclass(frozen=True)
class TrainedFamily:
    """All members of one family, by (judged, validating) group."""

    on: Choosing
    family: Family
    states: Mapping[tuple[int, int], State]

    def scores(
        self, candidate: Candidate, gates: dict[int, nn.Module], strength: float = 1.0
    ) -> Callable[[int], EnergyScore]:
        """The score that judges each group, by its number: one member, or the mean of all trained without the group.

        `gates` holds those that were fitted already: they are the same for all families, whose units are the same.
        """

        def score(group: int) -> EnergyScore:
            members = self.members(group, candidate.members)
            if candidate.gate and group not in gates:
                gates[group] = members.gate()
            return members.combined(gates[group] if candidate.gate else None, strength).score

        return score

    def refined_right(self, candidate: Candidate) -> Callable[[float], Float64[np.ndarray, " pairs"]]:
        """Whether the chosen response has the greater refined reward, pair by pair, as a function of the strength."""
        gates: dict[int, nn.Module] = {}

        def right(strength: float) -> Float64[np.ndarray, " pairs"]:
            return by_group(self.on, self.scores(candidate, gates, strength), _right)

        return right

    def members(self, judged: int, count: int) -> Members[EnergyScore]:
        """Members that were trained without a group."""
        groups = len(self.on.groups)
        others = [(judged + step) % groups for step in range(1, groups)][:count]
        share = CALIBRATION_PAIRS // count
        folds = [
            Fold(
                self.on.without(judged, other),
                self.on.of(other).sample(share),
                keep=self.on.keep,
                harden=self.on.hacks_without(judged, other),
            )
            for other in others
        ]
        return Members([self._score(judged, other) for other in others], folds)

    def _score(self, judged: int, validating: int) -> EnergyScore:
        # Its units are in the state: finding them anew would read all embeddings.
        score = self.family.build(self.on.data.dim).to(self.on.device)
        score.load_state_dict(self.states[judged, validating])
        return score.eval()


class Choice(NamedTuple):
    """The chosen candidate among all that were judged.

    Attributes:
        candidate: the simplest within one standard error of the best.
        judged: every candidate's losses, from the simplest candidate to the least simple.
        loss: mean loss of each, in nats.
        error: standard error of each one's mean difference to the best, by prompt.
    """

    candidate: Candidate
    judged: Sequence[Judged]
    loss: Float64[np.ndarray, " candidates"]
    error: Float64[np.ndarray, " candidates"]

    @classmethod
    def among(cls, judged: Sequence[Judged], prompt: Int[np.ndarray, " pairs"]) -> Choice:
        """Apply the one-standard-error rule to paired differences.

        Breiman et al. (1984), Classification and Regression Trees, section 3.4.3, with the error of the difference to
        the best in place of the error of its loss, since all candidates are judged on the same pairs.
        """
        losses = np.stack([candidate.loss for candidate in judged])
        mean = losses.mean(1)
        best = int(mean.argmin())
        error = np.array([_clustered_error(loss - losses[best], prompt) for loss in losses])
        within = mean <= mean[best] + error
        return cls(judged[int(within.argmax())].candidate, judged, mean, error)


def cross_validate(
    choosing: Choosing,
    *,
    known: Mapping[str, Float64[np.ndarray, " pairs"]] | None = None,
    keep: Callable[[Mapping[str, Float64[np.ndarray, " pairs"]]], None] = lambda losses: None,
    on_trained: Callable[[Family, TrainedFamily], None] = lambda family, trained: None,
    progress: Callable[[int, int], None] | None = None,
) -> Choice:
    """Judge every candidate and choose the simplest within one standard error of the best.

    Args:
        choosing: the pairs.
        known: losses by candidate that an earlier call judged.
        keep: called with all losses so far after each family.
        on_trained: called with the members of each family that is trained.
        progress: called with (trainings done, all).
    """
    losses: dict[str, Float64[np.ndarray, " pairs"]] = dict(known or {})
    taking_part = choosing.candidates
    families = list(dict.fromkeys(candidate.family for candidate in taking_part if candidate.family is not None))
    trainings = len(families) * math.comb(len(choosing.groups), 2)
    advance = partial(_advance, progress, itertools.count(1), trainings)
    losses.setdefault(BASE.name, _base_losses(choosing))
    gates: dict[int, nn.Module] = {}
    for family in families:
        candidates = [candidate for candidate in taking_part if candidate.family == family]
        if all(candidate.name in losses for candidate in candidates):
            for _ in range(trainings // len(families)):
                advance()
            continue
        trained = choosing.trained(family, advance)
        on_trained(family, trained)
        for candidate in candidates:
            losses[candidate.name] = _losses(choosing, trained.scores(candidate, gates))
        keep(losses)
    judged = [Judged(candidate, losses[candidate.name]) for candidate in taking_part]
    return Choice.among(judged, choosing.judged_prompts)


def _advance(progress: Callable[[int, int], None] | None, done: Iterator[int], total: int) -> None:
    if progress is not None:
        progress(next(done), total)


def tempered_base(pairs: PairData, device: torch.device) -> EnergyScore:
    """The base rewards with one temperature, as a score: a Gaussian of constant width around each."""
    score = Residual(pairs.dim, deep=0).to(device)
    score.standardise(*pairs.responses())
    calibrate([score], [pairs])
    return score.eval()


@torch.no_grad()
def log_preferences(score: EnergyScore, pairs: PairData) -> Float64[np.ndarray, " pairs"]:
    """Log P(chosen > rejected) of every pair."""
    batches = (moved(batch, score) for batch in pairs.batches(EVALUATION_PAIRS))
    return torch.cat([score.log_preference(batch).cpu() for batch in batches]).double().numpy()


def side_by_side(work: Callable[..., Result], *arguments: Sequence[Any]) -> Iterator[Result]:
    """Results of independent trainings in order, one thread each on as many cores as PyTorch may use.

    Trainings of this size gain less from several threads within each of their many small operations.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield from pool.map(work, *arguments)
    finally:
        torch.set_num_threads(threads)


def _base_losses(choosing: Choosing) -> Float64[np.ndarray, " pairs"]:
    return _losses(choosing, lambda group: tempered_base(choosing.without(group), choosing.device))


def _losses(choosing: Choosing, score: Callable[[int], EnergyScore]) -> Float64[np.ndarray, " judged"]:
    """Log-losses of pairs, and then of hacks if there are any, so that their mean is what training minimises."""
    scores = {group: score(group) for group in choosing.groups}
    of_pairs, of_hacks = by_group(choosing, scores.__getitem__, _loss), choosing.hack_losses(scores)
    if choosing.harden is None or not len(of_hacks):
        return of_pairs
    count = len(of_pairs) + len(of_hacks)
    weighted = choosing.harden.weight * of_hacks * count / len(of_hacks)
    return np.concatenate([of_pairs * count / len(of_pairs), weighted])


def by_group(
    choosing: Choosing,
    score: Callable[[int], EnergyScore],
    measure: Callable[[EnergyScore, PairData], Float64[np.ndarray, " pairs"]],
) -> Float64[np.ndarray, " pairs"]:
    """Measure every pair with the score that judges its group."""
    values = np.empty(choosing.data.n_pairs)
    for group in choosing.groups:
        values[(choosing.group == group).numpy()] = measure(score(group), choosing.of(group))
    return values


def _loss(score: EnergyScore, pairs: PairData) -> Float64[np.ndarray, " pairs"]:
    return -log_preferences(score, pairs)


def _right(score: EnergyScore, pairs: PairData) -> Float64[np.ndarray, " pairs"]:
    refined = refine(score, pairs.embedding, pairs.reward, REFINEMENTS[score.refinement]).cpu()
    right: Float64[np.ndarray, " pairs"] = (refined[pairs.chosen] > refined[pairs.rejected]).double().numpy()
    return right


def _clustered_error(difference: Float64[np.ndarray, " pairs"], prompt: Int[np.ndarray, " pairs"]) -> float:
    """Standard error of a mean over pairs of which those on one prompt are not independent."""
    _, place = np.unique(prompt, return_inverse=True)
    total = np.bincount(place, difference - difference.mean())
    prompts = len(total)
    return float(np.sqrt((total**2).sum() * prompts / max(prompts - 1, 1)) / len(difference))
