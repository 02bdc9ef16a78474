"""What the page says of scenarios, methods, data and origin."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from qbrm_lab.report import Results
from qbrm_lab.scenarios import VARIANTS
from qbrm_lab.studies.page.files import StudyFiles
from qbrm_lab.studies.page.times import time_taken

OF_ONE_SEED = re.compile(r", seed \d+")

METHOD_WORDS = {
    "length": "the longer response wins",
    "base": "the reward model as it is",
    "base-tempered": "the same with one temperature, set on validation preferences",
    "base-mean": "mean of five base models that differ in their seed",
    "base-worst": "the least of their rewards",
    "base-uncertainty": "their mean less half their variance",
    "mlp": "a small MLP on the embedding added to the base reward, Bradley-Terry: the competitor",
    "mlp-ensemble": "five such MLPs that differ in their seed",
    "mlp-gate": "the MLP with the same gate as the gated Boltzmann machine",
    "mlp-gate-ensemble": "five MLPs with the gate, each validated on another fifth like those of `sqrbm-ensemble`",
    "gaussian": "a Gaussian reward head with the probit preference likelihood",
    "quantile": "a quantile reward head",
    "ebrm": (
        "EBRM: NCE+ with a twelfth of the paper's noise samples, conflict-aware filtering, 50-step ascent; it reads "
        "what the reward model's head reads, as published, and all other trained methods the encoder's vector too"
    ),
    "ebrm-exact": (
        "EBRM's network, trained by exact likelihood and refined by its mode; in one scenario only, as it takes "
        "even longer than EBRM"
    ),
    "rbm": "a classical restricted Boltzmann machine, in closed form",
    "sqrbm": "a semi-quantum restricted Boltzmann machine, in closed form",
    "sqrbm-gate": "the same, whose correction fades where the embedding is unfamiliar to it",
    "sqrbm-ensemble": (
        "five semi-quantum machines as one, the geometric mean of their densities; a fifth of the training and "
        "validation prompts validates each of them and trains the others (but in `same`, where the reward model has "
        "seen the training prompts: the machines differ in their seed there)"
    ),
    "sqrbm-gate-ensemble": "the same with the gate",
    "qbm": "a Boltzmann machine with couplings among its hidden spins",
}


def scenarios(results: Results) -> list[str]:
    """The scenarios that were run, in order."""
    return list(dict.fromkeys(row["scenario"] for row in results["summary"]))


def scenario_words(name: str) -> str:
    """What the scenario's own definition says of it."""
    split = VARIANTS[name]
    words = inspect.getdoc(split.func if isinstance(split, partial) else split) or ""
    return words.partition("\n")[0].replace("so many pairs", f"{name.partition('-')[2]} pairs")


def remarks(results: Results) -> list[str]:
    """Notes on the whole of it: neither on one training nor on the features."""
    return [note for note in results["notes"] if not note.startswith("features:") and not OF_ONE_SEED.search(note)]


def not_on_this_base(first: Results | None, second: Results) -> str:
    """Which scenarios and methods of the embedded base were not run on the second one, as a sentence; empty if none."""
    if first is None:
        return ""
    missing = [name for name in scenarios(first) if name not in scenarios(second)]
    compared = {row["method"] for row in second["summary"]}
    missing += [name for name in dict.fromkeys(row["method"] for row in first["summary"]) if name not in compared]
    return f"Not run on it: {', '.join(f'`{name}`' for name in missing)}." if missing else ""


def counted(tried: Mapping[str, int]) -> str:
    """Names with their numbers."""
    return ", ".join(f"{what} {number}" for what, number in tried.items())


def seeds(results: Results) -> str:
    """The seeds, as the beginning of a sentence."""
    found = sorted({row["seed"] for row in results["rows"]})
    return f"Seeds {', '.join(map(str, found))} were" if len(found) > 1 else f"Seed {found[0]} was"


def seed_count(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many seeds rows are of; those that are of all seeds have none."""
    found = {row["seed"] for row in rows} - {None}
    return f"{len(found)} seed{'' if len(found) == 1 else 's'}"


def origin(files: StudyFiles) -> str:
    """Command lines, environment, features and time, one line each."""
    tables = [each for each in (files.robustness, files.fine_tuned) if each is not None]
    others = [each for each in (files.over_optimisation, files.coverage) if each is not None]
    commands = dict.fromkeys([each["command"] for each in tables] + [each["command"] for each in others])
    environment = tables[0]["environment"]
    lines = [
        f"Commands: {', '.join(f'`{command}`' for command in commands)}.",
        f"Environment: qbrm {environment['qbrm']}, Python {environment['python']}, torch {environment['torch']}, "
        f"{environment['cores']} cores ({environment['processor']}), {environment['platform']}.",
        *(f"{note[0].upper()}{note[1:]}." for note in tables[0]["notes"] if note.startswith("features:")),
        *([time_taken(files.calls)] if files.calls else []),
    ]
    return "\n\n".join(lines)
