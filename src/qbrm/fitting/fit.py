"""Fitting an energy score: filter, train every member, close the gate, calibrate, make them one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, TypeVar

import torch

from qbrm.data.pairs import PairData, Pairs
from qbrm.errors import InputError
from qbrm.fitting.calibration import calibrate, mean_loss
from qbrm.fitting.committee import Fold, committee, hold_out_apart
from qbrm.fitting.objectives import OBJECTIVES, NCEPlus, PreferenceLikelihood
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
    3. With `gate`, close every score's gate to embeddings unlike those it was trained on.
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
    fold, conflicts = _filtered(fold) if settings.filter_conflicts else (fold, None)
    folds = committee(fold, settings.members)
    units = folds[0].pairs
    # The fold's own validation pairs train most members of a committee that shares them out.
    shown = None if hold_out_apart(folds) else measure
    scores, trainings = [], []
    for number, member in enumerate(folds):
        scores.append(_untrained(build, units, member.seed))
        trainings.append(_train(scores[-1], member, settings, shown, None if number else on_epoch))
    if not hold_out_apart(folds):
        scores, folds = [_mean(scores)], folds[:1]
    if settings.gate:
        for score, member in zip(scores, folds, strict=True):
            score.close_gate(member.pairs.responses()[0], member.validation.responses()[0])
    base = None
    if settings.objective == "preference" and scores[0].log_temperature is not None:
        held_out = [member.validation for member in folds]
        calibrate(scores, held_out)
        if scores[0].anchored:
            base = _better_base(_untrained(build, units, fold.seed), scores, held_out)
    result = _mean(scores) if base is None else base
    result.prepare_evaluation(fold.seed)
    return FittedScore(result, combined(trainings), conflicts, kept_base=base is not None)


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


def _untrained(build: Callable[[], Score], units: Pairs, seed: int) -> Score:
    torch.manual_seed(seed)
    score = build()
    score.standardise(*units.responses())
    return score


def _train(
    score: Score,
    fold: Fold,
    settings: FitSettings,
    measure: Callable[[Score], Mapping[str, float]] | None,
    on_epoch: Callable[[Epoch], None] | None,
) -> Training:
    def metrics(score: Score) -> dict[str, float]:
        batch = moved(fold.validation.batch(slice(0, VALIDATION_EXAMPLES)), score)
        return {**(measure(score) if measure else {}), **score.sampling_errors(batch.chosen, batch.chosen_reward)}

    score.scatter()
    return train(
        score,
        NCEPlus(settings.noise_samples) if settings.objective == "nce" else OBJECTIVES[settings.objective](),
        fold.pairs,
        fold.validation.without_conflicts() if settings.filter_conflicts else fold.validation,
        settings.training,
        fold.seed,
        checkpoint=fold.checkpoint,
        measure=metrics,
        on_epoch=on_epoch,
    )


def _better_base(base: Score, scores: Sequence[Score], held_out: Sequence[PairData]) -> Score | None:
    """The untrained score, calibrated, if it predicts the preferences better: refinement must not harm."""
    copies = [base] * len(scores)
    base.share_sampler(None)
    calibrate(copies, held_out)
    losses = [mean_loss(candidates, PreferenceLikelihood(), held_out) for candidates in (copies, scores)]
    if losses[0] >= losses[1]:
        return None
    base.share_sampler(scores[0])
    return base.eval()


def _mean(scores: Sequence[Score]) -> Score:
    return scores[0].pooled(scores[1:]) if len(scores) > 1 else scores[0]
