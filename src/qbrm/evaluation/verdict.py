"""Whether to use a refined reward model: measured on prompts that chose nothing, and said in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int
from scipy.stats import binomtest

from qbrm.evaluation.bootstrap import PromptBootstrap, TestPairs
from qbrm.evaluation.calibration import expected_calibration_error
from qbrm.evaluation.robustness import Robustness

SCHEMA = 1
FEW_PAIRS = 300
FEWEST_CHANGED = 6


class Measures(NamedTuple):
    """Of one way to get rewards on the test pairs; a tie counts as wrong.

    Attributes:
        accuracy: share of the pairs whose chosen response has the greater reward.
        nll: log-loss in nats; None for rewards that claim no probability.
        ece: expected calibration error; None as well.
    """

    accuracy: float
    nll: float | None = None
    ece: float | None = None


class Difference(NamedTuple):
    """A mean and its 95% interval by resampling prompts."""

    mean: float
    low: float
    high: float


class Predictions(NamedTuple):
    """What one way to get rewards says of the test pairs; a row per seed where several were trained.

    Attributes:
        margin: reward of the chosen response less that of the rejected one.
        log_probability: log P(chosen > rejected); None for rewards that claim no probability.
    """

    margin: Float64[np.ndarray, "*seeds pairs"]
    log_probability: Float64[np.ndarray, "*seeds pairs"] | None = None

    @property
    def right(self) -> Float64[np.ndarray, "*seeds pairs"]:
        """One for each pair whose chosen response has the greater reward, else zero."""
        return (self.margin > 0).astype(float)

    @property
    def measures(self) -> Measures:
        """Mean over the pairs, and over the seeds."""
        if self.log_probability is None:
            return Measures(float(self.right.mean()))
        loss = float(-self.log_probability.mean())
        errors = [expected_calibration_error(of_seed) for of_seed in np.atleast_2d(self.log_probability)]
        return Measures(float(self.right.mean()), loss, float(np.mean(errors)))


class Kept(NamedTuple):
    """How far the order of rewards stayed as it was on the prompts that were to be kept.

    Attributes:
        name: of the source.
        prompts: that no score trained on.
        pairs: of responses to one of these prompts.
        unchanged: share of these pairs whose order is that of the base rewards.
    """

    name: str
    prompts: int
    pairs: int
    unchanged: Difference


@dataclass(frozen=True)
class Verdict:
    """Whether a refined reward model is better than its base, on prompts that chose nothing.

    Attributes:
        score: name of what was saved: a candidate, or ``base:tempered``.
        prompts: of the test.
        pairs: of the test.
        base: the rewards as they are, with Bradley and Terry's probabilities.
        tempered: the same rewards with one temperature.
        refined: the refined rewards.
        accuracy: refined less base, paired by prompt.
        nll: log-loss of the refined rewards less that of the base, paired by prompt.
        over_tempered: the same less that of the tempered base: what refining adds to a temperature.
        competitors: other ways to get rewards.
        length_accuracy: of the longer response; None if texts are not known.
        length_over_base: length less base, paired by prompt; None as well.
        strength: share of the correction that is applied.
        keep: the order kept elsewhere; None if nothing was to be kept.
        probes: how often hacks win; None if texts are not known, or every probe leaves them as they are.
        changed: prompts on which refining changed how many pairs are right.
        tried: the candidate that was chosen or named, if the tempered base was saved in its place; else None.
        unproven: whether no strength of the correction is shown to be safe; a hardened one is saved anyway.
        candidates: cross-validated log-loss of every candidate, hardened with the weighted log-loss of hacks added, how
            far it is behind the best, and the standard error of that; empty if none was chosen.
    """

    score: str
    prompts: int
    pairs: int
    base: Measures
    tempered: Measures
    refined: Measures
    accuracy: Difference
    nll: Difference
    over_tempered: Difference
    competitors: Mapping[str, Measures]
    length_accuracy: float | None = None
    length_over_base: Difference | None = None
    strength: float = 1.0
    keep: Kept | None = None
    probes: Robustness | None = None
    changed: int = 0
    tried: str | None = None
    unproven: bool = False
    candidates: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def refines(self) -> bool:
        """Whether anything but a temperature was saved."""
        return self.score != "base:tempered"

    @property
    def length_wins(self) -> bool:
        """Whether the longer response is right more often than the base, beyond the interval, and than the refined."""
        if self.length_accuracy is None or self.length_over_base is None:
            return False
        return self.length_over_base.low > 0 and self.length_accuracy > self.refined.accuracy

    @property
    def more_accurate(self) -> bool:
        """Whether the gain of accuracy is beyond its interval, which resampling gives for six changed prompts or more.

        With fewer, a sign test could not tell a gain from chance either.
        """
        return self.accuracy.low > 0 and self.changed >= FEWEST_CHANGED

    @property
    def worse(self) -> bool:
        """Whether refining made something worse beyond the interval."""
        return self.accuracy.high < 0 or self.over_tempered.low > 0

    @property
    def use(self) -> bool:
        """Whether refining is shown to help: more accurate than the base or of better log-loss than the tempered base.

        Beyond the 95% interval in one of the two, and not worse beyond it in the other. A hardened model may also
        help by being harder to game than the base.
        """
        better = self.more_accurate or (self.over_tempered.high < 0 and self.prompts >= FEWEST_CHANGED)
        return self.refines and (better or self.hardens) and not self.worse and not self.length_wins

    @property
    def hardens(self) -> bool:
        """Whether hacks that it was hardened against win less often than by the base, beyond the interval."""
        return self.refines and self.probes is not None and self.probes.hardens

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        return " ".join(part for part in (self.judgement, self.caution, self.keeping) if part)

    def to_dict(self) -> dict[str, Any]:
        """As ``verdict.json`` has it."""
        return {
            "schema": SCHEMA,
            "use": self.use,
            "score": self.score,
            "strength": self.strength,
            "test": {"prompts": self.prompts, "pairs": self.pairs},
            "base": self.base._asdict(),
            "refined": self.refined._asdict(),
            "difference": {"accuracy": list(self.accuracy), "nll": list(self.nll)},
            "competitors": {name: measures._asdict() for name, measures in self.competitors.items()},
            "length_accuracy": self.length_accuracy,
            **self._probes(),
            "keep": None if self.keep is None else {**self.keep._asdict(), "unchanged": list(self.keep.unchanged)},
            "candidates": {name: dict(measured) for name, measured in self.candidates.items()},
            "sentence": self.sentence,
        }

    def _probes(self) -> dict[str, Any]:
        if self.probes is None:
            return {"probes": {}, "harden": None}
        rates = {name: {"base": of.base, "refined": of.refined} for name, of in self.probes.rates.items()}
        if self.probes.seen is None:
            return {"probes": rates, "harden": None}
        parts = {"seen": self.probes.seen, "unseen": self.probes.unseen}
        return {"probes": rates, "harden": {name: part.to_dict() for name, part in parts.items() if part is not None}}

    @property
    def judgement(self) -> str:
        """The sentence without what few pairs call for."""
        tested = f"on {self.pairs:,} pairs of {self.prompts:,} prompts"
        if self.length_wins:
            length, base = f"{self.length_accuracy:.1%}", f"{self.base.accuracy:.1%}"
            more = f"more than this reward model ({base}) {tested}"
            return f"Length alone decides {length}, {more}: mend the data or the model first."
        if self.unproven and not self.refines:
            shown = f"no strength of {self.tried} is shown not to lose a point"
            return f"Do not refine: {shown}; the base with a temperature was saved."
        if not self.refines:
            rival = "nothing beats" if self.tried is None else f"{self.tried} does not beat"
            return f"Do not refine: {rival} the base with a temperature; that is what was saved."
        gain = f"{_points(self.accuracy)} over the base {tested}"
        loss = f"log-loss {_nats(self.base.nll)} -> {_nats(self.refined.nll)}"
        loss += f" ({_nats(self.tempered.nll)} with a temperature alone)"
        if self.use and self.more_accurate:
            return f"Use it: {gain}, {loss}."
        if self.use and self.hardens:
            return f"Use it because it is harder to game: {gain}, {loss}."
        if self.use:
            return f"Use it for its probabilities, not for its order: {gain}, {loss}."
        if self.worse:
            return f"Do not use it: {gain}, {loss}."
        return f"Not shown to help: {gain}, {loss}."

    @property
    def caution(self) -> str:
        """How little few test pairs tell; empty for many."""
        if self.pairs >= FEW_PAIRS:
            return ""
        right = binomtest(round(self.base.accuracy * self.prompts), self.prompts).proportion_ci(method="wilson")
        half = 100 * (right.high - right.low) / 2
        return f"{self.pairs} test pairs tell little: an accuracy is known to within {half:.0f} points."

    @property
    def keeping(self) -> str:
        """How much of an order stayed; empty if none was to."""
        if self.keep is None:
            return ""
        share, low, high = (100 * value for value in self.keep.unchanged)
        of = f"of the {self.keep.pairs:,} pairs of {self.keep.prompts:,} prompts of {self.keep.name}"
        return f"The order of {share:.1f}% [{low:.1f}, {high:.1f}] {of} is unchanged."


def compare_with_base(
    score: str,
    strength: float,
    prompt: Int[np.ndarray, " pairs"],
    base: Predictions,
    tempered: Predictions,
    refined: Predictions,
    competitors: Mapping[str, Predictions],
    *,
    length: Float64[np.ndarray, " pairs"] | None = None,
    keep: Kept | None = None,
    seed: int = 0,
) -> Verdict:
    """Measure a refined reward model beside its base on test pairs, or several that differ in their seed, as a mean.

    Args:
        score: name of what was saved.
        strength: share of its correction that is applied.
        prompt: number of each pair's prompt.
        base: the rewards as they are.
        tempered: the same with one temperature.
        refined: the refined rewards.
        competitors: other ways to get rewards, by name.
        length: characters of the chosen response less those of the rejected one.
        keep: the order kept elsewhere.
        seed: of the resampling.
    """
    pairs = TestPairs(np.unique(prompt, return_inverse=True)[1])
    bootstrap = PromptBootstrap(pairs, seed)

    def difference(value: Float64[np.ndarray, "*seeds pairs"]) -> Difference:
        by_pair = np.atleast_2d(value).mean(0)
        return Difference(float(by_pair.mean()), *bootstrap.intervals(by_pair)["all"])

    longer = None if length is None else Predictions(length.astype(float))
    measured = {"base:tempered": tempered.measures, **{name: other.measures for name, other in competitors.items()}}
    if longer is not None:
        measured["length"] = longer.measures
    assert base.log_probability is not None
    assert tempered.log_probability is not None
    assert refined.log_probability is not None
    return Verdict(
        score,
        pairs.prompts,
        len(prompt),
        base.measures,
        tempered.measures,
        refined.measures,
        accuracy=difference(refined.right - base.right),
        nll=difference(base.log_probability - refined.log_probability),
        over_tempered=difference(tempered.log_probability - refined.log_probability),
        competitors=measured,
        length_accuracy=None if longer is None else longer.measures.accuracy,
        length_over_base=None if longer is None else difference(longer.right - base.right),
        strength=strength,
        keep=keep,
        changed=len(np.unique(pairs.prompt[np.atleast_2d(refined.right != base.right).any(0)])),
    )


def count_kept(
    name: str,
    prompt: Int[np.ndarray, " pairs"],
    base: Float64[np.ndarray, " pairs"],
    refined: Float64[np.ndarray, " pairs"],
    seed: int = 0,
) -> Kept:
    """Count the pairs of responses whose rewards have the order, or the tie, that the base rewards have.

    Args:
        name: of the source.
        prompt: number of each pair's prompt.
        base: base reward of one response less that of the other.
        refined: the same of the refined rewards.
        seed: of the resampling.
    """
    pairs = TestPairs(np.unique(prompt, return_inverse=True)[1])
    same = (np.sign(refined) == np.sign(base)).astype(float)
    interval = PromptBootstrap(pairs, seed).intervals(same)["all"]
    return Kept(name, pairs.prompts, len(same), Difference(float(same.mean()), *interval))


def _points(difference: Difference) -> str:
    mean, low, high = (100 * value for value in difference)
    return f"{mean:+.1f} points [{low:+.1f}, {high:+.1f}]"


def _nats(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
