"""What stands first on the page: five sentences for whoever has not heard of any of it, made from the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qbrm.tables.numbers import ABSENT, percent
from qbrm_lab.report.parts import Part, summary_row
from qbrm_lab.results import Results
from qbrm_lab.results.rows import is_above, is_below
from qbrm_lab.studies.language_models.beside import chosen_by_gold
from qbrm_lab.studies.page.verdicts import difference_of, listed, whole_parts

SCORE = "sqrbm"
COMPETITOR = "mlp"
REASONS = {
    "fresh": "where the reward model learned from other prompts of the same kind",
    "shift": "where it knows another domain",
    "noise": "where a quarter of its labels were wrong",
    "same": "where there is nothing new to learn",
}


def opening(results: Mapping[str, Results], folder: Path) -> list[str]:
    """Five sentences; the last one is there if the study of best-of-n has been run beside."""
    rich = {part.scenario: part for part in whole_parts(results["mean"]) if part.scenario in REASONS}
    narrow = {part.scenario: part for part in whole_parts(results["last"]) if part.scenario in REASONS}
    sentences = [
        "A reward model gives an answer a number, and QBRM corrects that number after training: a small score, which "
        "may be a quantum Boltzmann machine, reads what the reward model has computed of the answer and learns from "
        "preferences that the reward model has not seen.",
        _gains(rich),
        _rivals(rich),
        f"EBRM, the published method, comes to {_accuracies(narrow, 'ebrm')}; against the base: "
        f"{_verdicts(narrow, 'ebrm', 'base')}.",
    ]
    gold = chosen_by_gold(folder)
    return [*sentences, gold] if gold else sentences


def _gains(rich: Mapping[str, Part]) -> str:
    forms = (
        "rises {}, beyond the 95% interval",
        "falls {}, beyond the 95% interval",
        "goes {}, which is within the interval",
    )
    told = [
        form.format(listed(_from_to(rich[scenario], scenario) for scenario in of_kind))
        for form, of_kind in zip(forms, _sorted(rich, SCORE, "base"), strict=True)
        if of_kind
    ]
    return (
        f"With SmolLM2-135M as the reward model and the semi-quantum machine `{SCORE}` on top, accuracy on held-out "
        f"pairs {'; it '.join(told)}."
    )


def _from_to(part: Part, scenario: str) -> str:
    start, end = (_accuracy(part, method) for method in ("base", SCORE))
    return f"from {start} to {end}% {REASONS[scenario]} (`{scenario}`)"


def _rivals(rich: Mapping[str, Part]) -> str:
    return (
        f"A plain network that reads the same, `{COMPETITOR}`, comes to {_accuracies(rich, COMPETITOR)} in the same "
        f"order; `{SCORE}` against it: {_verdicts(rich, SCORE, COMPETITOR)}."
    )


def _verdicts(parts: Mapping[str, Part], method: str, reference: str) -> str:
    """In which scenarios a method is better, worse, or neither beyond the interval."""
    better, worse, neither = _sorted(parts, method, reference)
    told = (
        ("better beyond the interval", better),
        ("worse beyond the interval", worse),
        ("no difference beyond the interval", neither),
    )
    return ", ".join(f"{words} in {listed(f'`{name}`' for name in names)}" for words, names in told if names)


def _sorted(parts: Mapping[str, Part], method: str, reference: str) -> tuple[list[str], list[str], list[str]]:
    """The scenarios in which a method is better beyond the interval, worse, and neither."""
    rows = {name: difference_of(part, method, reference) for name, part in parts.items()}
    known = {name: row for name, row in rows.items() if row is not None}
    better = [name for name, row in known.items() if is_above(row)]
    worse = [name for name, row in known.items() if is_below(row)]
    return better, worse, [name for name in known if name not in (*better, *worse)]


def _accuracies(parts: Mapping[str, Part], method: str) -> str:
    return f"{listed(_accuracy(part, method) for part in parts.values())}%"


def _accuracy(part: Part, method: str) -> str:
    row = summary_row(part.results, method, "pairwise")
    return percent(row.accuracy) if row else ABSENT
