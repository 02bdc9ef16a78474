"""Facts beside the numbers: one class each. The sentence is made where a fact is shown, and never read back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from qbrm.tables.numbers import percent


class Stated:
    """A fact that results.json knows by its kind, and people by the sentence that `str` makes."""

    kind: ClassVar[str]

    def __init_subclass__(cls, kind: str = "") -> None:
        cls.kind = kind

    @property
    def sentence(self) -> str:
        """The fact in words."""
        return str(self)


@dataclass(frozen=True, kw_only=True)
class OfOneTraining(Stated):
    """About the training of one method with one seed; `scenario` is None where it is not known yet."""

    method: str
    seed: int
    scenario: str | None = None
    words: ClassVar[str]

    @property
    def place(self) -> str:
        """Scenario, method and seed, as a sentence begins."""
        return f"{self.scenario + ', ' if self.scenario else ''}{self.method}, seed {self.seed}"

    def __str__(self) -> str:
        return f"{self.place}: {self.words}"


@dataclass(frozen=True, kw_only=True)
class ConflictsDropped(OfOneTraining, kind="conflicts-dropped"):
    """Conflict-aware filtering left out some of all training pairs."""

    dropped: int
    total: int

    def __str__(self) -> str:
        return f"{self.place}: {self.dropped:,} of {self.total:,} pairs dropped by conflict-aware filtering"


class BaseKept(OfOneTraining, kind="base-kept"):
    """The score keeps the order of the base rewards, because no trained one was better on validation."""

    words = "no epoch beat the base rewards on validation; they are kept"


class UntrainedKept(OfOneTraining, kind="untrained-kept"):
    """The score is what it was before training, because no epoch was better on validation."""

    words = "no epoch beat the untrained score on validation; it is kept"


@dataclass(frozen=True, kw_only=True)
class SamplerEstimates(OfOneTraining, kind="sampler-estimates"):
    """What a sampler with a temperature or precision of its own estimated of its last states in training.

    Attributes:
        sampler: its name.
        effective_beta: effective inverse temperature.
        residual: how far the states are from a Boltzmann distribution at that temperature.
        distortion: what rounding the problem costs, in nats.
    """

    sampler: str
    effective_beta: float | None = None
    residual: float | None = None
    distortion: float | None = None

    def __str__(self) -> str:
        names = {"effective_beta": "effective beta", "residual": "residual", "distortion": "distortion in nats"}
        values = {words: getattr(self, name) for name, words in names.items()}
        told = ", ".join(f"{words} {value:.3g}" for words, value in values.items() if value is not None)
        return f"{self.place}, {self.sampler}: {told}"


@dataclass(frozen=True, kw_only=True)
class BoundChosen(OfOneTraining, kind="bound-chosen"):
    """How many deviations below its mean validation set a lower confidence bound; 0 is the mean itself."""

    z: float
    tried: tuple[float, ...]

    def __str__(self) -> str:
        return f"{self.place}: validation chose z = {self.z:g} of {', '.join(f'{z:g}' for z in self.tried)}"


@dataclass(frozen=True, kw_only=True)
class FeaturesEmbedded(Stated, kind="features-embedded"):
    """How many responses there are, and how they were embedded.

    Attributes:
        responses: how many there are.
        identity: the reward model.
        embedded_now: how many were embedded now.
        seconds: the time that took.
        folder: where they are kept.
        cut: how many texts in there are longer than the reward model takes, and lost a part.
    """

    responses: int
    identity: str
    embedded_now: int
    seconds: float
    folder: str
    cut: int = 0

    @property
    def columns(self) -> tuple[str, str, str]:
        """Responses, reward model and cost, as a line on a terminal has them."""
        cost = f"{self.embedded_now:,} embedded now in {self.seconds:.0f} s (kept in {self.folder})"
        cut = f", {self.cut:,} too long and cut" if self.cut else ""
        return f"{self.responses:,} responses{cut}", self.identity, cost

    def __str__(self) -> str:
        return "features: " + ", ".join(self.columns[::2])


@dataclass(frozen=True, kw_only=True)
class RunTime(Stated, kind="run-time"):
    """What the whole run took."""

    seconds: float

    def __str__(self) -> str:
        return f"whole run: {self.seconds:.0f} s"


@dataclass(frozen=True, kw_only=True)
class SetAccuracy:
    """Accuracy on one set of a test, before and after fine-tuning."""

    set: str
    frozen: float
    fine_tuned: float


@dataclass(frozen=True, kw_only=True)
class EncoderFineTuned(Stated, kind="encoder-fine-tuned"):
    """An encoder was fine-tuned on what a scenario has for the reward model; validation chose `epoch`, 0 is frozen."""

    scenario: str
    pairs: int
    seconds: float
    epoch: int
    epochs: int
    accuracies: tuple[SetAccuracy, ...]

    def __str__(self) -> str:
        accuracies = "; ".join(f"{a.set} {percent(a.frozen)} and {percent(a.fine_tuned)}" for a in self.accuracies)
        return (
            f"{self.scenario}: encoder fine-tuned on {self.pairs:,} pairs in {self.seconds:.0f} s, epoch {self.epoch} "
            f"of {self.epochs} kept by validation; accuracy on the test, frozen and fine-tuned: {accuracies}"
        )


@dataclass(frozen=True, kw_only=True)
class Remark:
    """What a study says of its own protocol; it depends on no number."""

    kind: ClassVar[str] = "remark"
    sentence: str


TrainingFact: TypeAlias = ConflictsDropped | BaseKept | UntrainedKept | SamplerEstimates | BoundChosen
Fact: TypeAlias = TrainingFact | FeaturesEmbedded | RunTime | EncoderFineTuned | Remark
