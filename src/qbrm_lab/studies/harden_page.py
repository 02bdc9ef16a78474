"""The page of the study of hardening: what it asked, and two tables."""

from __future__ import annotations

from collections.abc import Iterator

from qbrm.tables.numbers import ABSENT, percent_interval, points_interval
from qbrm_lab.results.harden_rows import HardenResults, HardenRow, KindRow

PICTURE = "harden.png"


def harden_markdown(results: HardenResults) -> str:
    """The page, generated from the results alone."""
    return "\n".join([*_asked(results), "", *_arms(results), "", *_kinds(results)]) + "\n"


def _asked(results: HardenResults) -> Iterator[str]:
    yield "# Hardening"
    yield ""
    yield f"`{results.command}` wrote this page."
    yield ""
    yield f"{results.prompts:,} prompts with {results.pairs:,} pairs, rewards of `{results.reward_model}`. Each of"
    yield f"{results.seeds} seeds tests another fifth of the prompts. The kinds of hacks that must lose are split in"
    yield f"{len(results.splits)}: in each split, training sees hacks of all but a third of the kinds. Rates are shares"
    yield "of hacks whose reward is not below that of the response that they were made of, in percent, with 95%"
    yield "intervals by prompt. Chance is 50; a reward model that gives both the same reward has 100, as a tie is a"
    yield "win."


def _arms(results: HardenResults) -> Iterator[str]:
    headings = "score hardened gate seen-kinds unseen-kinds must-not-gain accuracy over-not-hardened training"
    yield "| " + " | ".join(heading.replace("-", " ") for heading in headings.split()) + " |"
    yield "| :-- | :-- | :-- | --: | --: | --: | --: | --: | --: |"
    for row in results.rows:
        yield "| " + " | ".join(_arm(row)) + " |"


def _arm(row: HardenRow) -> list[str]:
    rates = [percent_interval(*share) if share else ABSENT for share in (row.seen, row.unseen, row.not_gain)]
    over = points_interval(*row.over_plain) if row.over_plain else ABSENT
    seconds = ABSENT if not row.seconds else f"{row.seconds:.1f} s"
    hardened = "yes" if row.hardened else "no"
    return [row.method, hardened, row.gate, *rates, percent_interval(*row.accuracy), over, seconds]


def _kinds(results: HardenResults) -> Iterator[str]:
    yield f"By kind, with `{results.method}` and no gate:"
    yield ""
    yield f"![How often hacks of each kind win]({PICTURE})"
    yield ""
    yield "| probe | must | n | base | not hardened | hardened, kind seen | hardened, kind unseen |"
    yield "| :-- | :-- | --: | --: | --: | --: | --: |"
    for row in results.kinds:
        yield "| " + " | ".join(_kind(row)) + " |"


def _kind(row: KindRow) -> list[str]:
    shares = (row.base, row.plain, row.seen, row.unseen)
    rates = [percent_interval(*share) if share else ABSENT for share in shares]
    return [row.probe, row.must.replace("-", " "), f"{row.n:,}", *rates]
