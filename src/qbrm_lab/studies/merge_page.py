"""The page of the study of merging: what was asked, what came out, the table."""

from __future__ import annotations

from collections.abc import Sequence

from qbrm.tables.numbers import percent_interval
from qbrm_lab.results.study_rows import MergeResults, MergeRow

MEAN, BOTH, RESIDUAL = "mean of scores", "one trained on both", "residual"


def merge_markdown(results: MergeResults) -> str:
    """The page, generated from the results alone."""
    return "\n".join([*_asked(results), "", *_found(results.rows), "", *_table(results)]) + "\n"


def _asked(results: MergeResults) -> list[str]:
    known, new = results.domains
    return [
        "# Merging machines: what it gave",
        "",
        f"`{results.command}` wrote this page.",
        "",
        "Two machines refine one reward model, each trained on a domain that the other has not seen. Their product,",
        "the normalised geometric mean of their densities, is one machine: [`qbrm merge`](merge-models.md). Is it as",
        "good as one machine that was trained on both domains, and better than the mean of two scores?",
        "",
        f"Scenario `shift`, means over {results.seeds} seeds, {results.prompts:,} training prompts in all: the reward",
        f"model learned half of {known}; one machine is trained on the other half, one on {new}. Ways",
        "marked * saw both domains together, if only to set weights or a temperature. *Equal*, *familiarity* are the",
        "weights of the product, *validation* the constant ones of least log-loss on validation pairs of both domains;",
        "machines have a gate where it says so, and for weights by familiarity. The *mean of scores* is that of both",
        "machines' E[r | e], the *Gaussian product* multiplies normals with both machines' means and variances.",
    ]


def _found(rows: Sequence[MergeRow]) -> list[str]:
    merged = [row for row in rows if row.way.startswith("merged")]
    both = [row for row in rows if row.way == BOTH]
    return [
        f"On the test pairs of both domains, less the mean of two `{RESIDUAL}` scores:",
        "",
        *(f"- {_name(row)}: {_difference(row.over_mean, row.nll_over_mean)}" for row in [*merged, *both]),
        "",
        "Less one score of the same kind that was trained on both domains:",
        "",
        *(f"- {_name(row)}: {_difference(row.over_joint, row.nll_over_joint)}" for row in merged),
    ]


def _name(row: MergeRow) -> str:
    return f"`{row.score}`, {_way(row)}"


def _way(row: MergeRow) -> str:
    return f"{row.way}*" if row.joint else row.way


def _difference(accuracy: tuple[float, float, float], nll: tuple[float, float, float]) -> str:
    mean, low, high = (100 * value for value in accuracy)
    loss = "{:+.3f} [{:+.3f}, {:+.3f}]".format(*nll)
    return f"{mean:+.1f} points [{low:+.1f}, {high:+.1f}], log-loss {loss}"


def _table(results: MergeResults) -> list[str]:
    known, new = results.domains
    lines = [
        "Test pairs decided right in percent, and log-loss in nats on all of them, with 95% intervals by prompt:",
        "",
        f"| score | way | {known} | {new} | both | log-loss |",
        "| :-- | :-- | --: | --: | --: | --: |",
    ]
    for row in results.rows:
        shares = " | ".join(percent_interval(*share) for share in (row.known, row.new, row.both))
        loss = "{:.3f} [{:.3f}, {:.3f}]".format(*row.nll)
        lines.append(f"| {row.score} | {_way(row)} | {shares} | {loss} |")
    return lines
