"""The page of the study of keeping: what it asked, the picture, what the default follows from, the table."""

from __future__ import annotations

from collections.abc import Sequence

from qbrm.fitting.keeping import DEFAULT_WEIGHT
from qbrm.tables.numbers import percent_interval
from qbrm_lab.results.study_rows import KeepResults, KeepRow

NO_GATE, DENSITY, TWO_SIDED = "none", "density", "two-sided"
GATES = (NO_GATE, DENSITY, TWO_SIDED)
BASE = "base"
PICTURE = "keep.png"
GAIN_KEPT = 0.9


def weight_by_validation(rows: Sequence[KeepRow]) -> float:
    """The greatest weight, beside a two-sided gate, with which every score has nine tenths of the gain.

    The gain is that of the same score with nothing to keep, in accuracy over the base on validation pairs of the new
    domain; zero if there is no such weight.
    """
    base = next(row for row in rows if row.score == BASE).validation_new
    free = {row.score: row.validation_new - base for row in rows if row.gate == NO_GATE and not row.weight}
    gated = [row for row in rows if row.gate == TWO_SIDED]
    return max(
        (
            weight
            for weight in {row.weight for row in gated}
            if all(row.validation_new - base >= GAIN_KEPT * free[row.score] for row in gated if row.weight == weight)
        ),
        default=0.0,
    )


def keep_markdown(results: KeepResults) -> str:
    """The page, generated from the results alone."""
    return "\n".join([*_asked(results), "", *_found(results.rows), "", *_table(results.rows)]) + "\n"


def _asked(results: KeepResults) -> list[str]:
    return [
        "# Keeping what was right",
        "",
        f"`{results.command}` wrote this page.",
        "",
        "A score that learns a new domain moves rewards everywhere, on prompts too that the reward model already",
        "serves well. `qbrm fit --keep SOURCE` takes prompts and responses, without labels, on which the order of",
        "rewards is to stay. What does that cost on the new domain?",
        "",
        f"Scenario `shift`, means over {results.seeds} seeds: the reward model learned the larger domain, scores are",
        f"trained on the other ({results.prompts:,} training prompts in all), and the old domain's prompts are kept.",
        "Three things keep an order: a penalty on corrections of kept responses, with its weight; a gate that fades",
        "the correction where embeddings are unlike those of the new domain (density gate, which needs nothing to",
        "keep); and one that weighs their density against that of the kept responses (two-sided gate). See",
        "[Mathematics](mathematics.md#keeping-an-order-qbrmfittingkeeping).",
    ]


def _found(rows: Sequence[KeepRow]) -> list[str]:
    shown = [row for row in rows if row.score == BASE or _ends(row) or row.gate == DENSITY]
    return [
        f"![Accuracy on the new domain against what is kept on the old one]({PICTURE})",
        "",
        f"On validation pairs, {weight_by_validation(rows):g} is the greatest weight with which every score, with a",
        "two-sided gate, has nine tenths of the gain that it has with nothing to keep. The default is",
        f"{DEFAULT_WEIGHT:g}, beside a two-sided gate.",
        "",
        *(f"- `{row.score}`{_way(row)}: {_words(row)}" for row in shown),
    ]


def _ends(row: KeepRow) -> bool:
    """Whether a row is without any penalty, or the default."""
    return not row.weight or (row.gate == TWO_SIDED and row.weight == DEFAULT_WEIGHT)


def _way(row: KeepRow) -> str:
    if row.score == BASE:
        return ""
    gate = {NO_GATE: "no gate", DENSITY: "density gate", TWO_SIDED: "two-sided gate"}[row.gate]
    return f", {gate}, weight {row.weight:g}" if row.weight else f", {gate}, no penalty"


def _words(row: KeepRow) -> str:
    new, old, order = (100 * share[0] for share in (row.new, row.old, row.order))
    return f"{new:.1f}% right on the new domain, {old:.1f}% on the old, {order:.1f}% of the old order"


def _table(rows: Sequence[KeepRow]) -> list[str]:
    lines = [
        "Pairs decided right on the test, and pairs of the old domain's test prompts whose order is that of the base",
        "rewards, with 95% intervals by prompt; on the right, accuracy on validation pairs. The base's on the old",
        "domain is a little too good there, since these pairs chose its epoch.",
        "",
        "| score | gate | weight | new domain | old domain | order kept | validation: new | old |",
        "| :-- | :-- | --: | --: | --: | --: | --: | --: |",
    ]
    for row in sorted(rows, key=lambda row: (row.score != BASE, row.score, GATES.index(row.gate), row.weight)):
        of_test = " | ".join(percent_interval(*numbers) for numbers in (row.new, row.old, row.order))
        validation = f"{100 * row.validation_new:.1f} | {100 * row.validation_old:.1f}"
        gate, weight = ("-", "-") if row.score == BASE else (row.gate, f"{row.weight:g}")
        lines.append(f"| {row.score} | {gate} | {weight} | {of_test} | {validation} |")
    return lines
