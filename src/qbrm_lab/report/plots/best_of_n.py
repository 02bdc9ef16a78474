"""Gold of the chosen candidate against n."""
from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from qbrm_lab.report.plots.appearance import new_figure
from qbrm_lab.results.study_rows import BestOfNRow


def best_of_n_figure(rows: Sequence[BestOfNRow]) -> Figure:
    return new_figure(3)
