"""What a command says of the preferences that it has read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qbrm.cli.console import Reporter
from qbrm.features import FeatureTable
from qbrm.preferences import PairCount, PreferenceSet, preferences_of


def read_source(source: str | Path, reporter: Reporter, *, skip_bad: bool) -> PreferenceSet:
    """Read preferences, and print what they hold. Raises as `preferences_of`."""
    reporter.status(f"reading {source}")
    try:
        preferences = preferences_of(source, skip_bad=skip_bad)
    finally:
        reporter.status(None)
    report_preferences(preferences, reporter)
    return preferences


def report_preferences(preferences: PreferenceSet, reporter: Reporter, *more: str, name: str | None = None) -> None:
    """Print what preferences hold, and in a line of its own which rows of their source were left out.

    Args:
        preferences: what was read.
        reporter: prints.
        more: further facts for the first line.
        name: what to call them; None for their own name.
    """
    name = preferences.name if name is None else name
    prompts = f"{len(preferences.prompt_ids):,} prompts"
    reporter.fact(name, prompts, *pair_facts(preferences.pair_count), *more)
    report_left_out(preferences.left_out, reporter)


def report_responses(responses: PreferenceSet, reporter: Reporter) -> None:
    """Print what responses without labels hold, and which rows of their source were left out."""
    count = f"{len(responses.responses()):,} responses, whose order is to stay"
    reporter.fact(responses.name, f"{len(responses.prompt_ids):,} prompts", count)
    report_left_out(responses.left_out, reporter)


def pair_facts(count: PairCount) -> list[str]:
    """Pairs to train on, and those left out if there are any."""
    repeated = [f"{count.repeated:,} repeated left out"] if count.repeated else []
    equal = [f"{count.equal:,} of equal answers left out"] if count.equal else []
    return [f"{count.distinct:,} pairs", *repeated, *equal]


def cut_facts(table: FeatureTable) -> list[str]:
    """How many texts lost a part because they are longer than the reward model takes; nothing if none did."""
    return [f"{table.cut:,} cut to {table.identity.max_length:,} tokens"] if table.cut else []


def count_rows(number: int, which: str = "") -> str:
    """A number of rows in words."""
    return f"{number:,} {which}row{'s' * (number != 1)}"


def report_left_out(left_out: Mapping[str, int], reporter: Reporter) -> None:
    """Print how many rows were left out, by what is wrong with them; nothing if none were."""
    if left_out:
        kinds = [f"{count:,}: {kind}" for kind, count in left_out.items()]
        reporter.fact("left out", count_rows(sum(left_out.values()), "bad "), *kinds)


def report_refused(rows: int, reporter: Reporter) -> None:
    """Print how many rows were left out because the reward model cannot take their texts; nothing if none were."""
    if rows:
        reporter.fact("left out", f"{count_rows(rows)} that the reward model cannot take")
