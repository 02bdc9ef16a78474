"""What a comparison has found so far, and the results made of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch

import qbrm
from qbrm.fitting import Training
from qbrm.preferences import PreferenceSet
from qbrm_lab.comparison.evaluate import EvaluationSet, Row, difference, reliability_rows, rows, summary
from qbrm_lab.comparison.sampling import difference_error, sampling_columns
from qbrm_lab.comparison.sources import Sources
from qbrm_lab.comparison.uncertainty import deviation_rows, risk_coverage_rows
from qbrm_lab.evaluation.outcomes import Outcomes
from qbrm_lab.report import Results

# The base, the competitor, and the competitor with all that the judged score has beside its energy.
REFERENCES = ("base", "mlp", "mlp-gate-ensemble")


@dataclass
class Records:
    """Findings, in the order they were made.

    Attributes:
        scenario: the scenario compared in.
        tests: what is evaluated on.
    """

    scenario: str
    tests: Sequence[EvaluationSet]
    outcomes: dict[str, list[list[Outcomes]]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    timings: list[Row] = field(default_factory=list)
    epochs: list[Row] = field(default_factory=list)
    densities: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add_training(self, method: str, seed: int, training: Training, objective: str) -> None:
        """Record what training cost and how each epoch went."""
        self._add_timing(method, seed, "train", training.seconds, training.examples)
        blank = {"loss": None, "validation_pairwise": None, "validation_bon": None}
        label = {"scenario": self.scenario, "method": method, "seed": seed, "objective": objective}
        self.epochs += [{**label, **blank, **epoch, "epoch": int(epoch["epoch"])} for epoch in training.epochs]

    def add_refinement(self, method: str, seed: int, seconds: float, examples: int) -> None:
        """Record what refining the test rewards cost."""
        self._add_timing(method, seed, "refine", seconds, examples)

    def _add_timing(self, method: str, seed: int, stage: str, seconds: float, examples: int) -> None:
        label = {"scenario": self.scenario, "method": method, "seed": seed}
        self.timings.append({**label, "stage": stage, "seconds": seconds, "examples": examples})

    def extend(self, later: Records) -> None:
        """Append the findings of further seeds in the same scenario, on the same tests."""
        for method, seeds in later.outcomes.items():
            self.outcomes.setdefault(method, []).extend(seeds)
        for mine, theirs in (
            (self.rows, later.rows),
            (self.timings, later.timings),
            (self.epochs, later.epochs),
            (self.densities, later.densities),
        ):
            mine += theirs
        self.notes += later.notes

    def add_outcomes(self, method: str, seed: int, found: list[Outcomes]) -> None:
        """Record one seed's outcomes on every evaluation set."""
        self.outcomes.setdefault(method, []).append(found)
        label = {"scenario": self.scenario, "method": method, "seed": seed}
        for test, outcome in zip(self.tests, found, strict=True):
            self.rows += _with_sampling(rows(label, test, outcome), test, [outcome])

    def tables(self) -> dict[str, list[Any]]:
        """The findings by the names that `results.json` has for them."""
        return {
            "rows": self.rows,
            "timings": self.timings,
            "summary": self._per_method(_summary),
            "differences": self._differences(),
            "epochs": self.epochs,
            "reliability": self._per_method(reliability_rows),
            "risk_coverage": self._risk_coverage(),
            "deviation": self._per_method(deviation_rows),
            "densities": self.densities,
            "notes": self.notes,
        }

    def _per_method(self, make: Any) -> list[Row]:
        return [
            row
            for method, seeds in self.outcomes.items()
            for index, test in enumerate(self.tests)
            for row in make(self._label(method), test, [found[index] for found in seeds])
        ]

    def _risk_coverage(self) -> list[Row]:
        return [
            row
            for index, test in enumerate(self.tests)
            for row in risk_coverage_rows(
                {"scenario": self.scenario},
                test,
                {method: [found[index] for found in seeds] for method, seeds in self.outcomes.items()},
                REFERENCES,
            )
        ]

    def _differences(self) -> list[Row]:
        return [
            _difference(
                {**self._label(method), "reference": reference},
                test,
                [found[index] for found in seeds],
                [found[index] for found in self.outcomes[reference]],
            )
            for reference in REFERENCES
            if reference in self.outcomes
            for method, seeds in self.outcomes.items()
            if method != reference
            for index, test in enumerate(self.tests)
        ]

    def _label(self, method: str) -> Row:
        return {"scenario": self.scenario, "method": method}


def results_of(records: Sequence[Records], command: str, sources: Sources, notes: Sequence[str]) -> Results:
    """The findings in one or more scenarios, as `results.json` has them."""
    return results_from([each.tables() for each in records], command, sources, notes)


def results_from(
    tables: Sequence[Mapping[str, list[Any]]], command: str, sources: Sources, notes: Sequence[str]
) -> Results:
    """As :func:`results_of`, from the scenarios' tables."""
    joined = {name: [row for table in tables for row in table[name]] for name in tables[0]}
    joined["notes"] += notes
    about = {"schema": 1, "command": command, "environment": environment(), "data": _data(sources)}
    return cast(Results, {**about, **joined})


def _with_sampling(rows: list[Row], test: EvaluationSet, seeds: Sequence[Outcomes]) -> list[Row]:
    if all(outcome.sampling is None for outcome in seeds):
        return rows
    return [{**row, "sampling": sampling_columns(test, seeds, row["category"])} for row in rows]


def _summary(label: Row, test: EvaluationSet, seeds: Sequence[Outcomes]) -> list[Row]:
    return _with_sampling(summary(label, test, seeds), test, seeds)


def _difference(label: Row, test: EvaluationSet, method: Sequence[Outcomes], reference: Sequence[Outcomes]) -> Row:
    row, error = difference(label, test, method, reference), difference_error(method, reference)
    return row if error is None else {**row, "sampling_error": error}


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


def _data(sources: Sources) -> list[Row]:
    described = [_described(sources.train, "train")]
    return described + [{**_described(test, "test"), "name": name} for name, test in sources.tests.items()]


def _described(preferences: PreferenceSet, role: str) -> Row:
    sets = [preference.set for preference in preferences]
    return {
        "name": preferences.name,
        "role": role,
        "prompts": len(preferences.prompt_ids),
        "pairs": preferences.n_pairs,
        "categories": len(preferences.categories),
        "pairwise": sets.count("pairwise"),
        "bon": sets.count("bon"),
    }
