"""What stands first on the page: five sentences for whoever has not heard of any of it, made from the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qbrm.tables.numbers import percent, points_interval
from qbrm_lab.report.parts import Part, summary_row
from qbrm_lab.results import Results
from qbrm_lab.results.rows import Difference, is_above, is_below
from qbrm_lab.studies.language_models.beside import chosen_by_gold
from qbrm_lab.studies.page.verdicts import difference_of, listed, whole_parts
from qbrm_lab.studies.robustness import CANDIDATE

SCORE = "sqrbm"
COMPETITOR = "mlp"
REASONS = {
    "fresh": "where the reward model learned from other prompts of the same kind",
    "shift": "where it knows another domain",
    "noise": "where a quarter of its labels were wrong",
    "same": "where there is nothing new",
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
        _rivals(rich, narrow),
        _published(narrow, rich),
    ]
    gold = chosen_by_gold(folder)
    return [*sentences, gold] if gold else sentences


def _gains(rich: Mapping[str, Part]) -> str:
    told = []
    for scenario, part in rich.items():
        base = summary_row(part.results, "base", "pairwise")
        start = f"of {percent(base.accuracy)}% " if base else ""
        told.append(f"{_over(part, SCORE)} and {_over(part, CANDIDATE)} points {start}{REASONS[scenario]}")
    return (
        f"With SmolLM2-135M as the reward model, a semi-quantum machine (`{SCORE}`) and five of them with a gate "
        f"(`{CANDIDATE}`) change accuracy on held-out pairs by {listed(told)}."
    )


def _rivals(rich: Mapping[str, Part], narrow: Mapping[str, Part]) -> str:
    rows = {name: difference_of(part, SCORE, COMPETITOR) for name, part in rich.items()}
    known = {name: row for name, row in rows.items() if row is not None}
    neither = [name for name, row in known.items() if not is_above(row) and not is_below(row)]
    verdicts = [
        f"{words} in {listed(f'`{name}`' for name in names)}"
        for words, names in (
            ("better beyond the interval", [name for name, row in known.items() if is_above(row)]),
            ("not told apart from it", neither),
            ("worse beyond the interval", [name for name, row in known.items() if is_below(row)]),
        )
        if names
    ]
    less = listed(f"{_over(part, SCORE)} in `{name}`" for name, part in narrow.items())
    return (
        "They read the score layer's input and the mean of the last layer over the response's tokens; with the score "
        f"layer's input alone `{SCORE}` gives {less}, and against a plain network on the same embedding "
        f"(`{COMPETITOR}`) it is {listed(verdicts)}; `residual`, that network as an energy score, is in the table."
    )


def _published(narrow: Mapping[str, Part], rich: Mapping[str, Part]) -> str:
    own = listed(f"{_over(part, 'ebrm')} in `{name}`" for name, part in narrow.items())
    whole = listed(f"{_over(part, 'ebrm:whole')} in `{name}`" for name, part in rich.items())
    return f"EBRM, the published method, gives {own}, and reading the rich embedding {whole}."


def _over(part: Part, method: str) -> str:
    row: Difference | None = difference_of(part, method, "base")
    return "-" if row is None else points_interval(row.difference, row.ci_low, row.ci_high)
