"""What cross-validation chooses among, from the simplest to the least simple."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from qbrm.energies import ENERGY_SCORES, EnergyScore, build_score
from qbrm.fitting import FitSettings

# Units of the trunk that deep fields read: those of the network of `residual`.
TRUNK_UNITS = 128
MEMBERS = 5
# Steps below which few pairs would leave a score where it started, and the most passes that this asks for.
LEAST_STEPS, MOST_EPOCHS = 200, 40


class Family(NamedTuple):
    """Scores that differ in gate and members only, which are chosen after training."""

    score: str
    deep: bool = False
    hidden: int | None = None
    epochs: int | None = None

    def build(self, dim: int) -> EnergyScore:
        """An untrained score for embeddings of size `dim`."""
        return build_score(self.score, dim, deep=TRUNK_UNITS if self.deep else None, hidden=self.hidden)

    def settings(self, pairs: int) -> FitSettings:
        """How it is trained on so many pairs: as its class says, and for at least 200 steps or 40 passes."""
        settings = ENERGY_SCORES[self.score].fit_settings
        epochs = self.epochs or epochs_for(settings, pairs)
        return replace(settings, training=replace(settings.training, epochs=epochs))


@dataclass(frozen=True)
class Candidate:
    """One score as it may be used; without a family, the base reward with one temperature."""

    family: Family | None
    gate: bool = False
    members: int = 1

    @property
    def name(self) -> str:
        """As in ``sqrbm:deep,gate,members=5``."""
        if self.family is None:
            return "base:tempered"
        options = {"deep": self.family.deep, "gate": self.gate, f"members={self.members}": self.members > 1}
        told = ",".join(option for option, given in options.items() if given)
        return f"{self.family.score}:{told}" if told else self.family.score


def epochs_for(settings: FitSettings, pairs: int) -> int:
    """Passes over so many pairs: as many as the settings say, or more where that would be a handful of steps."""
    steps = max(1, pairs // settings.training.batch_pairs)
    return max(settings.training.epochs, min(MOST_EPOCHS, -(-LEAST_STEPS // steps)))


FAMILIES = (Family("rbm"), Family("sqrbm"), Family("residual"), Family("sqrbm", deep=True))
BASE = Candidate(None)
# A committee of five costs five times as much to use as any single score, a gate about twice as much.
CANDIDATES: tuple[Candidate, ...] = (
    BASE,
    *(Candidate(family, gate, members) for members in (1, MEMBERS) for gate in (False, True) for family in FAMILIES),
)
