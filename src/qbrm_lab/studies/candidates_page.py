"""The page of the study of candidates: what it asked, a table for each source, what the couplings became."""

from __future__ import annotations

import math
from collections.abc import Sequence

from qbrm_lab.results.study_rows import CandidatesResults, CandidatesRow, CandidatesSource, Estimate

BASE, REFINED, LONGEST, MACHINE = "base", "refined", "longest", "machine"
POINTWISE, SMOOTHING, CENTROID = "pointwise", "smoothing", "centroid"
# How each is called in the results, and in the table.
METHODS = {
    BASE: "base reward",
    REFINED: "refined reward",
    LONGEST: "the longest",
    POINTWISE: "reward and length",
    SMOOTHING: "reward smoothed over candidates, and length",
    CENTROID: "reward, length, similarity to the centroid and to the others",
    MACHINE: "machine across candidates",
}


def candidates_markdown(results: CandidatesResults) -> str:
    """The page, generated from the results alone."""
    lines = [*_asked(results), "", *_in_short(results)]
    for source in results.sources:
        rows = [row for row in results.rows if row.source == source.name]
        lines += ["", *_source(source), "", *_found(rows), "", *_table(rows), "", *_parameters(source)]
    return "\n".join(lines) + "\n"


def _asked(results: CandidatesResults) -> list[str]:
    seeds = f"{results.seeds} seed{'s' * (results.seeds > 1)}"
    return [
        "# What coupling candidates buys",
        "",
        f"`{results.command}` wrote this page.",
        "",
        "Candidates for one prompt are there together, and rewards of similar ones err alike. Does it pay to couple",
        "them, with one spin each, beyond what each candidate's own features tell?",
        "[Mathematics](mathematics.md#across-the-candidates-of-a-prompt-qbrmenergiescandidates) has the machine,",
        "[Choosing](choose.md) how to use it.",
        "",
        f"Reward model {results.reward_model}, refined by `rbm`; {seeds}, each of which tests another fifth",
        "of every source's prompts. The machine and its rivals are fitted by the same likelihood, that of the best",
        "candidate, to prompts that trained no reward. Intervals are 95%, by prompt, and paired. Of preferences, the",
        "value is the share of sets whose chosen response is above all rejected ones; of files, the mean gold value of",
        "the chosen candidate.",
    ]


def _in_short(results: CandidatesResults) -> list[str]:
    """Whether couplings chose better candidates than the same machine without them."""
    lines = []
    for source in results.sources:
        row = next(row for row in results.rows if (row.source, row.method) == (source.name, POINTWISE))
        over = row.behind_machine
        if over is not None:
            lines.append(f"- {source.name}: couplings over none, {_signed(over)}, {_verdict(over)}.")
    return lines


def _source(source: CandidatesSource) -> list[str]:
    return [
        f"## {source.name}",
        "",
        f"{source.sets:,} sets on {source.prompts:,} prompts, {source.candidates:.3g} candidates each. A random",
        f"candidate is worth {source.random:.3f}, the best {source.best:.3f}.",
    ]


def _found(rows: Sequence[CandidatesRow]) -> list[str]:
    """What the machine does over each rival that was fitted to the same sets, in words."""
    by_method = {row.method: row for row in rows}
    lines = []
    for method in (POINTWISE, SMOOTHING, CENTROID):
        behind, loss = by_method[method].behind_machine, by_method[method].loss_over_machine
        if behind is not None and loss is not None:
            value, log_loss = f"value {_signed(behind)}, {_verdict(behind)}", f"log-loss {_signed(_negative(loss), 4)}"
            less = _verdict(loss)
            lines.append(f"- The machine over {METHODS[method]}: {value}; {log_loss}, {less}.")
    return lines


def _verdict(difference: Estimate) -> str:
    if difference.ci_low > 0:
        return "better beyond the interval"
    return "worse beyond the interval" if difference.ci_high < 0 else "within its interval"


def _table(rows: Sequence[CandidatesRow]) -> list[str]:
    lines = [
        "| chosen by | value | over refined | machine over it | log-loss |",
        "| :-- | --: | --: | --: | --: |",
    ]
    for row in rows:
        cells = [
            METHODS[row.method],
            f"{row.gold.mean:.3f} [{row.gold.ci_low:.3f}, {row.gold.ci_high:.3f}]",
            *("-" if part is None else _signed(part) for part in (row.over_refined, row.behind_machine)),
            "-" if row.log_loss is None else f"{row.log_loss:.4f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _signed(difference: Estimate, digits: int = 3) -> str:
    mean, low, high = (f"{part:+.{digits}f}" for part in (difference.mean, difference.ci_low, difference.ci_high))
    return f"{mean} [{low}, {high}]"


def _negative(difference: Estimate) -> Estimate:
    return Estimate(-difference.mean, -difference.ci_high, -difference.ci_low)


def _parameters(source: CandidatesSource) -> list[str]:
    value = source.parameters
    return [
        f"The machine's parameters, as means over seeds: beta {math.exp(value['log_slope']):.2f}, t"
        f" {value['threshold']:+.2f}, gamma {value['longer']:+.2f},",
        f"a {value['together']:+.2f} (between all candidates), b {value['alike']:+.2f} (between similar ones), kappa"
        f" {math.exp(value['log_sharpness']):.2f}.",
    ]
