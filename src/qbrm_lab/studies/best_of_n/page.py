"""page"""
from __future__ import annotations

from typing import NamedTuple

from qbrm_lab.results.study_rows import BestOfNSummary


class Run(NamedTuple):
    summary: BestOfNSummary
    folder: str = ""


def picture_name(file: str) -> str:
    return f"best-of-n-{file.partition('.')[0]}.png"


def best_of_n_markdown(runs: list[Run]) -> str:
    return "\n"
