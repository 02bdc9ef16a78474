"""results.json: everything a comparison found, as one typed table per subject."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, NoReturn, cast

from typing_extensions import NotRequired, TypedDict

from qbrm.durable import make_folder, write_atomically
from qbrm.errors import InputError
from qbrm_lab.report.schema import mismatch, non_finite

RESULTS_FILE = "results.json"
SCHEMA = 1

SetName = Literal["pairwise", "bon"]
Score = Literal["accuracy", "ci_low", "ci_high", "nll", "ece"]
Stage = Literal["train", "refine"]


class Sampling(TypedDict):
    """What sampling the hidden spins leaves uncertain: effective states per response, and standard errors."""

    effective_samples: float
    accuracy_error: float
    nll_error: float
    ece_error: float


class Row(TypedDict):
    """One method, seed, test and category; accuracies are fractions."""

    scenario: str
    method: str
    seed: int
    test: str
    set: SetName
    category: str
    n: int
    accuracy: float | None
    ci_low: float | None
    ci_high: float | None
    nll: float | None
    ece: float | None
    sampling: NotRequired[Sampling]


class SummaryRow(TypedDict):
    """The mean over seeds; its interval is a bootstrap over prompts."""

    scenario: str
    method: str
    test: str
    set: SetName
    category: str
    seeds: int
    n: int
    accuracy: float | None
    ci_low: float | None
    ci_high: float | None
    nll: float | None
    ece: float | None
    sampling: NotRequired[Sampling]


class Difference(TypedDict):
    """Accuracy of a method minus that of a reference; its interval is a paired bootstrap over prompts."""

    scenario: str
    method: str
    reference: str
    test: str
    set: SetName
    category: str
    difference: float | None
    ci_low: float | None
    ci_high: float | None
    sampling_error: NotRequired[float]


# What sums leave behind of differences that cancel: no method is better by so little.
CANCELLED = 1e-12


def is_above(row: Difference | None) -> bool:
    """Whether a difference is above zero beyond its interval."""
    return row is not None and row["ci_low"] is not None and row["ci_low"] > CANCELLED


def is_below(row: Difference | None) -> bool:
    """Whether a difference is below zero beyond its interval."""
    return row is not None and row["ci_high"] is not None and row["ci_high"] < -CANCELLED


class Timing(TypedDict):
    """Seconds that a stage took for a number of examples."""

    method: str
    seed: int
    stage: Stage
    seconds: float
    examples: int
    scenario: NotRequired[str]


class Epoch(TypedDict):
    """Training after an epoch; epoch 0 is before training and has no loss."""

    scenario: str
    method: str
    seed: int
    epoch: int
    loss: float | None
    validation_loss: float | None
    validation_pairwise: float | None
    validation_bon: float | None
    objective: NotRequired[str]


class ReliabilityBin(TypedDict):
    """Decisions of similar confidence and how many of them were right."""

    scenario: str
    method: str
    test: str
    set: SetName
    confidence: float
    accuracy: float
    n: int


class AreaDifference(TypedDict):
    """Area of a method minus that of a reference; its interval is a paired bootstrap over prompts."""

    reference: str
    difference: float
    ci_low: float
    ci_high: float


class RiskCoverage(TypedDict):
    """Accuracy when only the most certain share of the pairs is decided; means over seeds.

    The area is that under the error rate, its interval a bootstrap over prompts, its excess what an oracle would save.
    """

    scenario: str
    method: str
    test: str
    set: SetName
    seeds: int
    n: int
    aurc: float
    ci_low: float
    ci_high: float
    excess: float
    differences: list[AreaDifference]
    coverage: list[float]
    accuracy: list[float]


class Deviation(TypedDict):
    """Error rate of pairs in bins of the predicted deviation of their difference of rewards; means over seeds.

    The AUROC is the probability that a wrong decision has the greater deviation than a right one, its interval a
    bootstrap over prompts.
    """

    scenario: str
    method: str
    test: str
    set: SetName
    seeds: int
    n: int
    auroc: float | None
    ci_low: float | None
    ci_high: float | None
    deviation: list[float]
    error: list[float]


class ResponseDensity(TypedDict):
    """p(r given e) of one response on a grid of rewards."""

    label: Literal["chosen", "rejected"]
    base_reward: float
    refined_reward: float
    reward: list[float]
    density: list[float]


class DensityExample(TypedDict):
    """The densities of one prompt's responses and the probability that the chosen one is better."""

    scenario: str
    method: str
    test: str
    seed: int
    probability: float
    responses: list[ResponseDensity]


class DataSet(TypedDict):
    """What was trained or tested on."""

    name: str
    role: Literal["train", "test"]
    prompts: int
    pairs: int
    categories: int
    pairwise: int
    bon: int


class Results(TypedDict):
    """All of results.json."""

    schema: int
    command: str
    rows: list[Row]
    timings: list[Timing]
    environment: dict[str, Any]
    data: list[DataSet]
    summary: list[SummaryRow]
    differences: list[Difference]
    epochs: list[Epoch]
    reliability: list[ReliabilityBin]
    risk_coverage: NotRequired[list[RiskCoverage]]
    deviation: NotRequired[list[Deviation]]
    densities: list[DensityExample]
    notes: list[str]


def write_results(results: Results, folder: Path) -> Path:
    """Write results.json whole, or leave the old one.

    Args:
        results: what to write.
        folder: created if absent.

    Returns:
        The file's path.

    Raises:
        ValueError: if a number is NaN or infinite; it names the place.
        InputError: if the folder cannot be written.
    """
    place = non_finite(results)
    if place:
        raise ValueError(f"results{place} is not finite; expected a finite number, or null where there is none.")
    text = json.dumps(results, ensure_ascii=False, allow_nan=False, indent=1)
    make_folder(folder)
    path = folder / RESULTS_FILE
    write_atomically(path, text.encode() + b"\n")
    return path


def read_results(folder: Path) -> Results:
    """Read a folder's results.json.

    Raises:
        InputError: if it is missing, is not JSON, has another schema, or lacks something of this one.
    """
    path = folder / RESULTS_FILE
    content = _load(path)
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise InputError(f'{path}: "schema" is {json.dumps(schema)[:40]}; expected {SCHEMA}.')
    problem = mismatch(content, Results)
    if problem:
        raise InputError(f"{path}: {problem}.")
    return cast(Results, content)


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes(), parse_constant=_refuse)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; expected what `qbrm compare` writes.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}.") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")
