"""What a comparison has measured so far, and the results made of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, TypeVar

import torch

import qbrm
from qbrm.fitting import Training
from qbrm.preferences import PreferenceSet
from qbrm_lab.comparison.evaluate import EvaluationSet, Label, difference, reliability_rows, rows, summary
from qbrm_lab.comparison.sampling import difference_error, sampling_columns
from qbrm_lab.comparison.sources import Sources
from qbrm_lab.comparison.uncertainty import deviation_rows, risk_coverage_rows
from qbrm_lab.comparison.verdicts import JudgedPairs, verdict_row
from qbrm_lab.evaluation.outcomes import Outcomes
from qbrm_lab.methods import is_baseline
from qbrm_lab.results import Fact, ResultRow, Results, Tables
from qbrm_lab.results.facts import TrainingFact
from qbrm_lab.results.rows import DataSet, DensityExample, Difference, Epoch, RiskCoverage, Stage, SummaryRow, Timing
from qbrm_lab.results.verdicts import VerdictRow

# The base, the competitor, and the competitor with all that the judged score has beside its energy.
REFERENCES = ("base", "mlp", "mlp:gate,members=5")

Made = TypeVar("Made")


@dataclass
class Records:
    """Measurements in one scenario on the same tests, in the order they were made.

    Attributes:
        judged: the pairs that verdicts are about.
        references: outcomes of what verdicts compare with, which need not be among the methods.
    """

    scenario: str
    tests: Sequence[EvaluationSet]
    judged: Sequence[JudgedPairs] = ()
    outcomes: dict[str, list[list[Outcomes]]] = field(default_factory=dict)
    references: dict[str, list[list[Outcomes]]] = field(default_factory=dict)
    rows: list[ResultRow] = field(default_factory=list)
    timings: list[Timing] = field(default_factory=list)
    epochs: list[Epoch] = field(default_factory=list)
    densities: list[DensityExample] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)

    def add_training(self, method: str, seed: int, training: Training, objective: str) -> None:
        """Record what training cost and how each epoch went."""
        self.add_timing(method, seed, "train", training.seconds, training.examples)
        blank = {"loss": None, "validation_pairwise": None, "validation_bon": None}
        label: Label = {"scenario": self.scenario, "method": method, "seed": seed, "objective": objective, **blank}
        self.epochs += [Epoch(**{**label, **epoch, "epoch": int(epoch["epoch"])}) for epoch in training.epochs]

    def add_timing(self, method: str, seed: int, stage: Stage, seconds: float, examples: int) -> None:
        """Record what training, or refining the test rewards, cost."""
        self.timings.append(
            Timing(scenario=self.scenario, method=method, seed=seed, stage=stage, seconds=seconds, examples=examples)
        )

    def add_facts(self, facts: Iterable[TrainingFact]) -> None:
        """Record facts of trainings in this scenario."""
        self.facts += [replace(fact, scenario=self.scenario) for fact in facts]

    def extend(self, later: Records) -> None:
        """Append the measurements of further seeds in the same scenario, on the same tests."""
        for mine, theirs in ((self.outcomes, later.outcomes), (self.references, later.references)):
            for method, seeds in theirs.items():
                mine.setdefault(method, []).extend(seeds)
        for table in ("rows", "timings", "epochs", "densities", "facts"):
            getattr(self, table).extend(getattr(later, table))

    def add_outcomes(self, method: str, seed: int, of_tests: list[Outcomes]) -> None:
        """Record one seed's outcomes on every evaluation set."""
        self.outcomes.setdefault(method, []).append(of_tests)
        label = {"scenario": self.scenario, "method": method, "seed": seed}
        for test, outcome in zip(self.tests, of_tests, strict=True):
            self.rows += rows(label, test, outcome, partial(sampling_columns, test, [outcome]))

    def add_reference(self, name: str, of_tests: list[Outcomes]) -> None:
        """Record one seed's outcomes of something that verdicts compare with."""
        self.references.setdefault(name, []).append(of_tests)

    def tables(self) -> Tables:
        """The measurements as `results.json` has them."""
        return Tables(
            rows=self.rows,
            timings=self.timings,
            summary=self._per_method(_summary),
            differences=self._differences(),
            epochs=self.epochs,
            reliability=self._per_method(reliability_rows),
            risk_coverage=self._risk_coverage(),
            deviation=self._per_method(deviation_rows),
            densities=self.densities,
            verdicts=self._verdicts(),
            facts=self.facts,
        )

    def _per_method(self, make: Callable[[Label, EvaluationSet, Sequence[Outcomes]], list[Made]]) -> list[Made]:
        return [
            row
            for method in self.outcomes
            for index, test in enumerate(self.tests)
            for row in make({"scenario": self.scenario, "method": method}, test, self._seeds(method, index))
        ]

    def _risk_coverage(self) -> list[RiskCoverage]:
        rows: list[RiskCoverage] = []
        for index, test in enumerate(self.tests):
            methods = {method: self._seeds(method, index) for method in self.outcomes}
            rows += risk_coverage_rows({"scenario": self.scenario}, test, methods, REFERENCES)
        return rows

    def _verdicts(self) -> list[VerdictRow]:
        return [
            verdict_row({"scenario": self.scenario, "method": method}, pairs, seeds, self.references)
            for pairs in self.judged
            for method, seeds in self.outcomes.items()
            if not is_baseline(method)
        ]

    def _differences(self) -> list[Difference]:
        return [
            self._difference(method, reference, index)
            for reference in REFERENCES
            if reference in self.outcomes
            for method in self.outcomes
            if method != reference
            for index in range(len(self.tests))
        ]

    def _difference(self, method: str, reference: str, index: int) -> Difference:
        label = {"scenario": self.scenario, "method": method, "reference": reference}
        sides = self._seeds(method, index), self._seeds(reference, index)
        return difference(label, self.tests[index], *sides, difference_error(*sides))

    def _seeds(self, method: str, index: int) -> list[Outcomes]:
        """A method's outcomes on one evaluation set, seed by seed."""
        return [of_tests[index] for of_tests in self.outcomes[method]]


def results_of(tables: Sequence[Tables], command: str, sources: Sources, facts: Sequence[Fact]) -> Results:
    """The tables of one or more scenarios, with further facts, as `results.json` has them."""
    joined = Tables.joined(tables)
    return Results.of(replace(joined, facts=[*joined.facts, *facts]), command, environment(), data_of(sources))


def _summary(label: Label, test: EvaluationSet, seeds: Sequence[Outcomes]) -> list[SummaryRow]:
    return summary(label, test, seeds, partial(sampling_columns, test, seeds))


def environment() -> dict[str, str | int]:
    """Where the numbers were measured."""
    return {
        "qbrm": qbrm.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    }


def data_of(sources: Sources) -> list[DataSet]:
    """What was trained and tested on."""
    described = [_described(sources.train, "train", sources.train.name)]
    return described + [_described(test, "test", name) for name, test in sources.tests.items()]


def _described(preferences: PreferenceSet, role: Literal["train", "test"], name: str) -> DataSet:
    sets = [preference.set for preference in preferences]
    return DataSet(
        name=name,
        role=role,
        prompts=len(preferences.prompt_ids),
        pairs=preferences.n_pairs,
        categories=len(preferences.categories),
        pairwise=sets.count("pairwise"),
        bon=sets.count("bon"),
    )
