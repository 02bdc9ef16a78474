"""What each energy score's comparison with the base says, in a sentence."""

from __future__ import annotations

from qbrm.tables.grid import Grid, column
from qbrm_lab.report.parts import Part


def verdict_heading(part: Part) -> str:
    """What the verdicts of a part are about, as ``Verdicts, fresh · rmb, mean over 3 seeds``."""
    seeds = max(row.seeds for row in part.results.verdicts)
    return f"Verdicts, {part.title}" + (f", mean over {seeds} seeds" if seeds > 1 else "")


def verdict_grid(part: Part) -> Grid:
    """A sentence for each energy score."""
    rows = part.results.verdicts
    sentences = column("verdict", [row.verdict.judgement for row in rows])
    return Grid(verdict_heading(part), "method", tuple(row.method for row in rows), (sentences,))


def verdict_caution(part: Part) -> str:
    """How little few test pairs tell, of whatever method; empty for many pairs."""
    return part.results.verdicts[0].verdict.caution


def verdict_lines(part: Part) -> list[str]:
    """The same as lines, the methods' names aligned; none if nothing was judged."""
    if not part.results.verdicts:
        return []
    grid = verdict_grid(part)
    width = max(map(len, grid.labels))
    lines = [f"{method:<{width}}  {told}" for method, told in zip(grid.labels, grid.columns[0].cells, strict=True)]
    return [*lines, *filter(None, [verdict_caution(part)])]
