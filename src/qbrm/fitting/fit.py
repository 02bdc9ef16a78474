"""Fitting an energy score: filter, train every member, close the gate, calibrate, make them one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, NamedTuple, TypeVar

import torch

from qbrm.data.pairs import Pairs
from qbrm.errors import InputError
from qbrm.fitting.committee import Fold, committee, hold_out_apart
from qbrm.fitting.members import Members, mean_of
from qbrm.fitting.objectives import OBJECTIVES, NCEPlus
from qbrm.fitting.settings import FitSettings
from qbrm.fitting.trainable import TrainableScore
from qbrm.fitting.trainer import Epoch, Training, moved, train

Score = TypeVar("Score", bound=TrainableScore)
VALIDATION_EXAMPLES = 256


class Conflicts(NamedTuple):
    """What conflict-aware filtering did: pairs dropped, of how many."""

    dropped: int
    total: int


@dataclass(frozen=True)
class FittedScore(Generic[Score]):
    """A score after fitting, in evaluation mode, with the training of all members.

    Attributes:
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

    1. With `filter_conflicts`, drop the training pairs that the base rewards contradict.
    2. Train `members` scores, in the units of the first one's training pairs; validation pairs choose the epoch.
    3. With `gate`, close the members' gate to embeddings unlike those that the first one was trained on.
    4. With the objective ``preference``, calibrate the temperature on validation pairs. If an untrained score that
       keeps the base rewards' order predicts those pairs better than the trained ones, it is the result.
    5. Otherwise the result is the mean of the members. Members that validate on the same pairs are made one before
       step 3 already.

    Args:
        build: makes an untrained score; called with torch's global generator seeded, once per member and for step 4.
        fold: training and validation pairs, seed, checkpoint.
        settings: objective, filtering, gate, members, optimiser and schedule.
        measure: further metrics of the score after an epoch.
        on_epoch: called after every epoch of the first member.

    Raises:
        InputError: if filtering leaves no pair.
        TrainingError: if training cannot go on.
        TypeError: if the settings ask for a gate or members that such scores do not have.
    """
    members, trainings, conflicts = train_members(build, fold, settings, measure=measure, on_epoch=on_epoch)
    score, kept_base = members.combined(members.gate() if settings.gate else None)
    score.prepare_evaluation(fold.seed)
    return FittedScore(score, combined(trainings), conflicts, kept_base)


class TrainedCommittee(NamedTuple, Generic[Score]):
    """Trained members, their trainings, and what filtering dropped; None if it was not asked for."""

    members: Members[Score]
    trainings: list[Training]
    conflicts: Conflicts | None


def train_members(
    build: Callable[[], Score],
    fold: Fold,
    settings: FitSettings,
    *,
    measure: Callable[[Score], Mapping[str, float]] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TrainedCommittee[Score]:
    """Steps 1 and 2 of :func:`fit_score`: what is left to choose are gate, strength and temperature.

    `progress` is called with (epochs done, most epochs) of all members together.

    Raises:
        InputError: if filtering leaves no pair.
        TrainingError: if training cannot go on.
    """
    fold, conflicts = _filtered(fold) if settings.filter_conflicts else (fold, None)
    folds = committee(fold, settings.members)
    units = folds[0].pairs
    # The fold's own validation pairs train most members of a committee that shares them out.
    shown = None if hold_out_apart(folds) else measure
    scores, trainings = [], []
    for number, member in enumerate(folds):
        scores.append(untrained(build, units, member.seed))
        told = _told(number, len(folds), settings, on_epoch if number == 0 else None, progress)
        trainings.append(train_score(scores[-1], member, settings, shown, told))
    if not hold_out_apart(folds):
        scores, folds = [mean_of(scores)], folds[:1]
    calibrates = settings.objective == "preference"
    members = Members(scores, folds, calibrates, partial(untrained, build, units, fold.seed))
    return TrainedCommittee(members, trainings, conflicts)


def _told(
    number: int,
    members: int,
    settings: FitSettings,
    on_epoch: Callable[[Epoch], None] | None,
    progress: Callable[[int, int], None] | None,
) -> Callable[[Epoch], None]:
    """Pass on an epoch of one member."""
    epochs = settings.training.epochs

    def told(epoch: Epoch) -> None:
        if on_epoch:
            on_epoch(epoch)
        if progress:
            progress(number * epochs + int(epoch["epoch"]), members * epochs)

    return told


def combined(trainings: Sequence[Training]) -> Training:
    """The training of an ensemble: the first member's epochs, the latest best epoch, all time and examples."""
    best = max(training.best for training in trainings)
    seconds = sum(training.seconds for training in trainings)
    examples = sum(training.examples for training in trainings)
    return trainings[0]._replace(best=best, seconds=seconds, examples=examples)


def _filtered(fold: Fold) -> tuple[Fold, Conflicts]:
    pairs, validation = fold.pairs.without_conflicts(), fold.validation.without_conflicts()
    total = fold.pairs.n_pairs
    if not pairs.n_pairs or not validation.n_pairs:
        raise InputError(
            f"conflict-aware filtering left {pairs.n_pairs} of {total} training pairs and {validation.n_pairs} of "
            f"{fold.validation.n_pairs} validation pairs; expected at least one each: a reward model that agrees with "
            "some preferences, or no filtering."
        )
    return replace(fold, pairs=pairs), Conflicts(total - pairs.n_pairs, total)


def untrained(build: Callable[[], Score], units: Pairs, seed: int) -> Score:
    """A new score in the units of some pairs; the seed gives its weights."""
    torch.manual_seed(seed)
    score = build()
    score.standardise(*units.responses())
    return score


def train_score(
    score: Score,
    fold: Fold,
    settings: FitSettings,
    measure: Callable[[Score], Mapping[str, float]] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Training:
    """Train one member on its fold; the score ends with the best epoch's weights."""

    def metrics(score: Score) -> dict[str, float]:
        batch = moved(fold.validation.batch(slice(0, VALIDATION_EXAMPLES)), score)
        return {**(measure(score) if measure else {}), **score.sampling_errors(batch.chosen, batch.chosen_reward)}

    named = NCEPlus(settings.noise_samples) if settings.objective == "nce" else OBJECTIVES[settings.objective]()
    score.scatter()
    return train(
        score,
        fold.objective(named),
        fold.pairs,
        fold.validation.without_conflicts() if settings.filter_conflicts else fold.validation,
        settings.training,
        fold.seed,
        validation_objective=fold.validation_objective(named),
        checkpoint=fold.checkpoint,
        measure=metrics,
        on_epoch=on_epoch,
    )
