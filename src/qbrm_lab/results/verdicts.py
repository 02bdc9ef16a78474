"""Whether a method is better than the base: the rows that verdicts have in results.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from typing_extensions import Self

from qbrm.evaluation.verdict import Difference, Measures, Verdict
from qbrm_lab.results.rows import OfMethod


@dataclass(frozen=True, kw_only=True)
class PairMeasures:
    """Accuracy, log-loss and calibration error of the test pairs; means over seeds."""

    accuracy: float
    nll: float | None
    ece: float | None


@dataclass(frozen=True, kw_only=True)
class VerdictDifferences:
    """Differences to the base, each a mean with its 95% interval by resampling prompts.

    Attributes:
        accuracy: of the refined rewards less that of the base.
        nll: log-loss likewise.
        nll_over_tempered: log-loss less that of the base with one temperature.
        length: accuracy of the longer response less that of the base.
    """

    accuracy: tuple[float, ...]
    nll: tuple[float, ...]
    nll_over_tempered: tuple[float, ...]
    length: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class VerdictRow(OfMethod):
    """A method's verdict on one test, or a domain of it, over the seeds; see :class:`~qbrm.evaluation.verdict.Verdict`.

    Its pairs are those of both sets, each once, as `qbrm fit` counts them; on `changed` of the prompts refining changed
    how many are right.
    """

    test: str
    domain: str | None = None
    seeds: int
    prompts: int
    pairs: int
    changed: int
    use: bool
    base: PairMeasures
    tempered: PairMeasures
    refined: PairMeasures
    difference: VerdictDifferences
    length_accuracy: float

    @classmethod
    def of(cls, label: Mapping[str, Any], verdict: Verdict, seeds: int) -> Self:
        """A verdict in the columns that a label names."""
        base, tempered, refined = (
            PairMeasures(**measures._asdict()) for measures in (verdict.base, verdict.tempered, verdict.refined)
        )
        assert verdict.length_accuracy is not None
        assert verdict.length_over_base is not None
        return cls(
            **label,
            seeds=seeds,
            prompts=verdict.prompts,
            pairs=verdict.pairs,
            changed=verdict.changed,
            use=verdict.use,
            base=base,
            tempered=tempered,
            refined=refined,
            difference=VerdictDifferences(
                accuracy=verdict.accuracy,
                nll=verdict.nll,
                nll_over_tempered=verdict.over_tempered,
                length=verdict.length_over_base,
            ),
            length_accuracy=verdict.length_accuracy,
        )

    @property
    def verdict(self) -> Verdict:
        """The verdict that the row is of: it has the sentence."""
        base, tempered, refined = (
            Measures(measured.accuracy, measured.nll, measured.ece)
            for measured in (self.base, self.tempered, self.refined)
        )
        return Verdict(
            self.method,
            self.prompts,
            self.pairs,
            base,
            tempered,
            refined,
            accuracy=Difference(*self.difference.accuracy),
            nll=Difference(*self.difference.nll),
            over_tempered=Difference(*self.difference.nll_over_tempered),
            competitors={"base:tempered": tempered},
            length_accuracy=self.length_accuracy,
            length_over_base=Difference(*self.difference.length),
            changed=self.changed,
        )
