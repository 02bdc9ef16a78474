"""results.json: everything that a comparison measured, one table per subject."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn

from typing_extensions import Self

from qbrm.durable import make_folder, read_checked, write_atomically
from qbrm.errors import DamagedFileError, InputError
from qbrm_lab.results.facts import Fact
from qbrm_lab.results.rows import (
    DataSet,
    DensityExample,
    Deviation,
    Difference,
    Epoch,
    ReliabilityBin,
    ResultRow,
    RiskCoverage,
    SummaryRow,
    Timing,
)
from qbrm_lab.results.schema import as_json, non_finite, parsed
from qbrm_lab.results.verdicts import VerdictRow

RESULTS_FILE = "results.json"
SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Tables:
    """What was measured in one or more scenarios. Tables with a default were not in the earliest files."""

    rows: list[ResultRow]
    timings: list[Timing]
    summary: list[SummaryRow]
    differences: list[Difference]
    epochs: list[Epoch]
    reliability: list[ReliabilityBin]
    risk_coverage: list[RiskCoverage] = field(default_factory=list)
    deviation: list[Deviation] = field(default_factory=list)
    densities: list[DensityExample]
    verdicts: list[VerdictRow] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)

    @classmethod
    def joined(cls, tables: Sequence[Tables]) -> Tables:
        """The tables of several scenarios, one after the other."""
        names = [part.name for part in fields(Tables)]
        return Tables(**{name: [row for one in tables for row in getattr(one, name)] for name in names})


@dataclass(frozen=True, kw_only=True)
class Results(Tables):
    """All of results.json: the tables, the command line, where numbers were measured, and on which data."""

    command: str
    environment: dict[str, Any]
    data: list[DataSet]

    @classmethod
    def of(cls, tables: Tables, command: str, environment: dict[str, Any], data: list[DataSet]) -> Self:
        """The tables with what was asked, of what, and where."""
        content = {part.name: getattr(tables, part.name) for part in fields(Tables)}
        return cls(command=command, environment=environment, data=data, **content)

    def content(self) -> dict[str, Any]:
        """What results.json has; `notes` and each verdict's `sentence` are made of the numbers, for people."""
        about = {"schema": SCHEMA, "command": self.command}
        verdicts = [{**as_json(row), "sentence": row.verdict.sentence} for row in self.verdicts]
        notes = [fact.sentence for fact in self.facts]
        return {**about, **as_json(self), "verdicts": verdicts, "notes": notes}


def write_results(results: Results, folder: Path) -> Path:
    """Write results.json whole, or leave the old one, and return its path; the folder is created if absent.

    Raises:
        ValueError: if a number is NaN or infinite; it names the place.
        InputError: if the folder cannot be written.
    """
    content = results.content()
    place = non_finite(content)
    if place:
        raise ValueError(f"results{place} is not finite; expected a finite number, or null where there is none.")
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1)
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
    try:
        results: Results = parsed(content, Results)
    except ValueError as error:
        raise InputError(f"{path}: {error}.") from error
    return results


def _load(path: Path) -> Any:
    try:
        return json.loads(read_checked(path), parse_constant=_refuse)
    except DamagedFileError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; expected what `qbrm compare` writes.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}.") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")
