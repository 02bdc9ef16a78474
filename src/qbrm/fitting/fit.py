"""Fitting an energy score: filter, train every member, close the gate, calibrate, make them one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import torch

from qbrm.data.pairs import PairData, Pairs
from qbrm.errors import InputError
from qbrm.fitting.calibration import calibrate, mean_loss
from qbrm.fitting.committee import Fold, committee, hold_out_apart
from qbrm.fitting.objectives import OBJECTIVES, NCEPlus, Objective
from qbrm.fitting.settings import FitSettings
from qbrm.fitting.trainable import TrainableScore
from qbrm.fitting.trainer import Epoch, Training, train

Score = TypeVar("Score", bound=TrainableScore)
VALIDATION_EXAMPLES = 256


class Conflicts(NamedTuple):
    """What conflict-aware filtering did: pairs dropped, of how many."""

    dropped: int
    total: int


@dataclass(frozen=True)
class FittedScore(Generic[Score]):
    """A score after fitting.

    Attributes:
        score: in evaluation mode.
        training: what training did, over all members.
        conflicts: what filtering dropped; None if it was not asked for.
        kept_base: whether no trained score beat the base rewards on validation, so that the score keeps their order.
    """

    score: Score
    training: Training
    conflicts: Conflicts | None = None
    kept_base: bool = False


def fit_score(
    build: Callable[[], Score],
    fold: Fold,
    settings: FitSettings,
    *,
    measure: Callable[[Score], Mapping[str, float]] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> FittedScore[Score]:
    """Fit a score, or the mean of several, to preference pairs.

    Args:
        build: makes an untrained score; called once per member, with torch's global generator seeded.
        fold: training and validation pairs, seed, checkpoint.
        settings: objective, filtering, gate, members, optimiser and schedule.
        measure: further metrics of the score after an epoch.
        on_epoch: told about every epoch of the first member.

    Raises:
        InputError: if filtering leaves no pair.
        TrainingError: if training cannot go on.
        TypeError: if the settings ask for a gate or members that such scores do not have.
    """
    conflicts = None
    if settings.filter_conflicts:
        fold, conflicts = _filtered(fold)
    folds = committee(fold, settings.members)
    fit = _Fit(build, folds[0].pairs, settings)
    # The fold's own validation pairs train most members of a committee that shares them out.
    shown = None if hold_out_apart(folds) else measure
    trained = [fit.train(each, shown, on_epoch if not index else None) for index, each in enumerate(folds)]
    score, kept_base = fit.unite([score for score, _ in trained], folds)
    score.prepare_evaluation(fold.seed)
    return FittedScore(score, combined([training for _, training in trained]), conflicts, kept_base)


def combined(trainings: Sequence[Training]) -> Training:
    """The training of an ensemble: the first member's epochs, the latest best epoch, all time and examples.

    The best epoch is 0 only if training helped no member.
    """
    best = max(training.best for training in trainings)
    seconds = sum(training.seconds for training in trainings)
    examples = sum(training.examples for training in trainings)
    return trainings[0]._replace(best=best, seconds=seconds, examples=examples)


@dataclass(frozen=True)
class _Fit(Generic[Score]):
    """Members are built alike, in the units of the first one's training pairs."""

    build: Callable[[], Score]
    units: Pairs
    settings: FitSettings

    @property
    def objective(self) -> Objective[TrainableScore]:
        name = self.settings.objective
        return NCEPlus(self.settings.noise_samples) if name == "nce" else OBJECTIVES[name]()

    def train(
        self,
        fold: Fold,
        measure: Callable[[Score], Mapping[str, float]] | None,
        on_epoch: Callable[[Epoch], None] | None,
    ) -> tuple[Score, Training]:
        torch.manual_seed(fold.seed)
        score = self.build()
        score.standardise(*self.units.responses())
        score.scatter()
        validation = fold.validation.without_conflicts() if self.settings.filter_conflicts else fold.validation

        def metrics(score: Score) -> dict[str, float]:
            batch = fold.validation.batch(slice(0, VALIDATION_EXAMPLES))
            return {**(measure(score) if measure else {}), **score.sampling_errors(batch.chosen, batch.chosen_reward)}

        training = train(
            score,
            self.objective,
            fold.pairs,
            validation,
            self.settings.training,
            fold.seed,
            checkpoint=fold.checkpoint,
            measure=metrics,
            on_epoch=on_epoch,
        )
        return score, training

    def unite(self, scores: list[Score], folds: Sequence[Fold]) -> tuple[Score, bool]:
        """One calibrated score of all, and whether it is one that keeps the base rewards' order."""
        first = scores[0]
        if len(scores) > 1 and not hold_out_apart(folds):
            scores, folds = [_mean(scores)], folds[:1]
        if self.settings.gate:
            for score, fold in zip(scores, folds, strict=True):
                score.close_gate(fold.pairs.responses()[0], fold.validation.responses()[0])
        if self.settings.objective == "preference" and scores[0].log_temperature is not None:
            held_out = [fold.validation for fold in folds]
            calibrate(scores, held_out)
            base = self._better_base(first.untrained(folds[0].seed), scores, held_out)
            if base is not None:
                return base, True
        return _mean(scores), False

    def _better_base(
        self, base: Score | None, scores: Sequence[Score], held_out: Sequence[PairData]
    ) -> Score | None:
        """A score that keeps the base rewards' order, if training did not help: refinement must not harm."""
        if base is None:
            return None
        copies = [base] * len(scores)
        calibrate(copies, held_out)
        losses = [mean_loss(each, self.objective, held_out) for each in (copies, scores)]
        if losses[0] >= losses[1]:
            return None
        base.share_sampler(scores[0])
        return base.eval()


def _mean(scores: Sequence[Score]) -> Score:
    return scores[0].pooled(scores[1:]) if len(scores) > 1 else scores[0]


def _filtered(fold: Fold) -> tuple[Fold, Conflicts]:
    """The fold without training pairs that the base rewards contradict."""
    pairs, validation = fold.pairs.without_conflicts(), fold.validation.without_conflicts()
    total = fold.pairs.n_pairs
    if not pairs.n_pairs or not validation.n_pairs:
        raise InputError(
            f"conflict-aware filtering left {pairs.n_pairs} of {total} training pairs and {validation.n_pairs} of "
            f"{fold.validation.n_pairs} validation pairs; expected at least one each: a reward model that agrees with "
            "some preferences, or no filtering."
        )
    return Fold(pairs, fold.validation, fold.seed, fold.checkpoint, fold.prompt), Conflicts(
        total - pairs.n_pairs, total
    )
