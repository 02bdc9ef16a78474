"""Trained members of one score: gate, strength and temperature are set, then they are made one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import nn

from qbrm.data.pairs import PairData
from qbrm.fitting.calibration import calibrate, mean_loss
from qbrm.fitting.committee import Fold
from qbrm.fitting.objectives import PreferenceLikelihood
from qbrm.fitting.trainable import TrainableScore

Score = TypeVar("Score", bound=TrainableScore)


class Combined(NamedTuple, Generic[Score]):
    """One score, and whether it is the untrained one because no trained one beat it on validation."""

    score: Score
    kept_base: bool


@dataclass(frozen=True)
class Members(Generic[Score]):
    """Scores after training, each with the fold that it was trained and validated on.

    Attributes:
        scores: the members.
        folds: of each.
        calibrates: whether the temperature is set on the validation pairs.
        base: makes an untrained score in the same units, which is the result if it predicts those better; None for no
            such rival.
        log_temperatures: of the members, as trained.
    """

    scores: Sequence[Score]
    folds: Sequence[Fold]
    calibrates: bool = True
    base: Callable[[], Score] | None = None
    log_temperatures: Sequence[float | None] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "log_temperatures", [score.log_temperature for score in self.scores])

    def gate(self) -> nn.Module:
        """A gate that closes to embeddings unlike those that the first member was trained on, and to those to keep.

        Hacks that the score is to be hardened against are among the familiar ones: a gate that closed to them would
        give them back the rewards that they had.

        Raises:
            TypeError: if such scores have no gate.
        """
        fold = self.folds[0]
        kept = None if fold.keep is None else fold.keep.embeddings
        train, held_out = fold.pairs.responses()[0], fold.validation.responses()[0]
        if fold.harden is not None:
            hacks, held_out_hacks = (part.responses()[0] for part in (fold.harden.training, fold.harden.validation))
            train, held_out = torch.cat([train, hacks]), torch.cat([held_out, held_out_hacks])
        return self.scores[0].fitted_gate(train, held_out, kept)

    def combined(self, gate: nn.Module | None = None, strength: float = 1.0, *, rival: bool = True) -> Combined[Score]:
        """Calibrate the members together and make them one.

        If, with `rival`, an untrained score that keeps the base rewards' order predicts the members' validation pairs
        better, it is the result. A single member is not copied: the next call changes it.

        Raises:
            TypeError: if such scores have no gate, or no strength other than one.
        """
        for score, fold, log_temperature in zip(self.scores, self.folds, self.log_temperatures, strict=True):
            score.set_gate(gate)
            score.set_strength(strength)
            if gate is not None:
                score.centre(*fold.validation.responses())
            if log_temperature is not None:
                score.set_log_temperature(log_temperature)
        if self.calibrates and self.log_temperatures[0] is not None:
            held_out = [fold.validation for fold in self.folds]
            calibrate(self.scores, held_out)
            if rival and self.base is not None and self.scores[0].anchored:
                base = self._better_base(self.base(), held_out)
                if base is not None:
                    return Combined(base, kept_base=True)
        return Combined(mean_of(self.scores), kept_base=False)

    def _better_base(self, base: Score, held_out: Sequence[PairData]) -> Score | None:
        """The untrained score, calibrated, if it predicts the preferences better: refinement must not harm."""
        copies = [base] * len(self.scores)
        base.share_sampler(None)
        calibrate(copies, held_out)
        losses = [mean_loss(candidates, PreferenceLikelihood(), held_out) for candidates in (copies, self.scores)]
        if losses[0] >= losses[1]:
            return None
        base.share_sampler(self.scores[0])
        return base.eval()


def mean_of(scores: Sequence[Score]) -> Score:
    """One score that stands for several; the score itself if there is one."""
    return scores[0].pooled(scores[1:]) if len(scores) > 1 else scores[0]
