"""Facts beside the numbers: one class each. The sentence is made where a fact is shown, and never read back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

from qbrm.tables.numbers import percent


@dataclass(frozen=True, kw_only=True)
class OfOneTraining:
    """About the training of one method with one seed; `scenario` is None where it is not known yet."""

    method: str
    seed: int
    scenario: str | None = None

    @property
    def place(self) -> str:
        """Scenario, method and seed, as a sentence begins."""
        return f"{self.scenario + ', ' if self.scenario else ''}{self.method}, seed {self.seed}"


@dataclass(frozen=True, kw_only=True)
class ConflictsDropped(OfOneTraining):
    """Conflict-aware filtering left out some of all training pairs."""

    kind: Literal["conflicts-dropped"] = field(default="conflicts-dropped", init=False)
    dropped: int
    total: int

    @property
    def sentence(self) -> str:
        """The fact in words."""
        return f"{self.place}: {self.dropped:,} of {self.total:,} pairs dropped by conflict-aware filtering"


@dataclass(frozen=True, kw_only=True)
class BaseKept(OfOneTraining):
    """The score keeps the order of the base rewards, because no trained one was better on validation."""

    kind: Literal["base-kept"] = field(default="base-kept", init=False)
    words: ClassVar[str] = "no epoch beat the base rewards on validation; they are kept"

    @property
    def sentence(self) -> str:
        """The fact in words."""
        return f"{self.place}: {self.words}"


@dataclass(frozen=True, kw_only=True)
class UntrainedKept(OfOneTraining):
    """The score is what it was before training, because no epoch was better on validation."""

    kind: Literal["untrained-kept"] = field(default="untrained-kept", init=False)
    words: ClassVar[str] = "no epoch beat the untrained score on validation; it is kept"

    @property
    def sentence(self) -> str:
        """The fact in words."""
        return f"{self.place}: {self.words}"


@dataclass(frozen=True, kw_only=True)
class SamplerEstimates(OfOneTraining):
    """What a sampler with a temperature or precision of its own estimated of its last states in training.

    Attributes:
        sampler: its name.
        effective_beta: effective inverse temperature.
        residual: how far the states are from a Boltzmann distribution at that temperature.
        distortion: what rounding the problem costs, in nats.
    """

    kind: Literal["sampler-estimates"] = field(default="sampler-estimates", init=False)
    sampler: str
    effective_beta: float | None = None
    residual: float | None = None
    distortion: float | None = None

    @property
    def sentence(self) -> str:
        """The fact in words."""
        values = {
            "effective beta": self.effective_beta,
            "residual": self.residual,
            "distortion in nats": self.distortion,
        }
        told = ", ".join(f"{words} {value:.3g}" for words, value in values.items() if value is not None)
        return f"{self.place}, {self.sampler}: {told}"


@dataclass(frozen=True, kw_only=True)
class BoundChosen(OfOneTraining):
    """How many deviations below its mean validation set a lower confidence bound; 0 is the mean itself."""

    kind: Literal["bound-chosen"] = field(default="bound-chosen", init=False)
    z: float
    tried: tuple[float, ...]

    @property
    def sentence(self) -> str:
        """The fact in words."""
        return f"{self.place}: validation chose z = {self.z:g} of {', '.join(f'{z:g}' for z in self.tried)}"


@dataclass(frozen=True, kw_only=True)
class FeaturesEmbedded:
    """Where the features came from.

    Attributes:
        responses: in all.
        identity: the reward model's.
        embedded_now: responses that were not kept from an earlier run.
        seconds: what embedding them took.
        folder: where they are kept.
    """

    kind: Literal["features-embedded"] = field(default="features-embedded", init=False)
    responses: int
    identity: str
    embedded_now: int
    seconds: float
    folder: str

    @property
    def columns(self) -> tuple[str, str, str]:
        """Responses, reward model and cost, as a line on a terminal has them."""
        cost = f"{self.embedded_now:,} embedded now in {self.seconds:.0f} s (kept in {self.folder})"
        return f"{self.responses:,} responses", self.identity, cost

    @property
    def sentence(self) -> str:
        """The fact in words."""
        return "features: " + ", ".join(self.columns[::2])


@dataclass(frozen=True, kw_only=True)
class RunTime:
    """What the whole run took."""

    kind: Literal["run-time"] = field(default="run-time", init=False)
    seconds: float

    @property
    def sentence(self) -> str:
        """The fact in words."""
        return f"whole run: {self.seconds:.0f} s"


@dataclass(frozen=True, kw_only=True)
class SetAccuracy:
    """Accuracy on one set of a test, before and after fine-tuning."""

    set: str
    frozen: float
    fine_tuned: float


@dataclass(frozen=True, kw_only=True)
class EncoderFineTuned:
    """An encoder was fine-tuned on what a scenario has for the reward model.

    Attributes:
        scenario: whose preferences.
        pairs: trained on.
        seconds: what it took.
        epoch: the one that validation chose; 0 is the frozen encoder.
        epochs: how many there were.
        accuracies: on the test.
    """

    kind: Literal["encoder-fine-tuned"] = field(default="encoder-fine-tuned", init=False)
    scenario: str
    pairs: int
    seconds: float
    epoch: int
    epochs: int
    accuracies: tuple[SetAccuracy, ...]

    @property
    def sentence(self) -> str:
        """The fact in words."""
        accuracies = "; ".join(f"{a.set} {percent(a.frozen)} and {percent(a.fine_tuned)}" for a in self.accuracies)
        return (
            f"{self.scenario}: encoder fine-tuned on {self.pairs:,} pairs in {self.seconds:.0f} s, epoch {self.epoch} "
            f"of {self.epochs} kept by validation; accuracy on the test, frozen and fine-tuned: {accuracies}"
        )


@dataclass(frozen=True, kw_only=True)
class Remark:
    """What a study says of its own protocol; it depends on no number."""

    kind: Literal["remark"] = field(default="remark", init=False)
    sentence: str


TrainingFact: TypeAlias = ConflictsDropped | BaseKept | UntrainedKept | SamplerEstimates | BoundChosen
Fact: TypeAlias = (
    ConflictsDropped
    | BaseKept
    | UntrainedKept
    | SamplerEstimates
    | BoundChosen
    | FeaturesEmbedded
    | RunTime
    | EncoderFineTuned
    | Remark
)
