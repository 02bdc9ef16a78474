"""The page of the study: what it asked, how, and what came out, a section for every reward model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from qbrm.tables.numbers import count
from qbrm_lab.methods import family_of
from qbrm_lab.results.rows import CANCELLED
from qbrm_lab.results.study_rows import BestOfNRow, BestOfNSummary, CandidateFile
from qbrm_lab.studies.best_of_n.gold_pairs import LEAST_DIFFERENCE
from qbrm_lab.studies.best_of_n.one_seed import GOLD, LONGEST, ORACLE, RANDOM
from qbrm_lab.studies.best_of_n.worth import BASE

# The version of the studies from which on validation pairs train no member; what the page says of runs before it.
VALIDATED_APART = 3
NOT_APART = (
    "These numbers are of an earlier version of the code: in rows of `members=5`, beta and z of `pessimistic` and",
    "`lcb` and the units of `worst` and `uncertainty` were chosen with pairs that had trained four of the five",
    "members, and the embedded default had no relevance term. The code has changed since.",
)
REFERENCES = (RANDOM, LONGEST, BASE, ORACLE)


class Run(NamedTuple):
    """One run of the study: its summary, and the folder of its pictures as the page links to it; empty for its own."""

    summary: BestOfNSummary
    folder: str = ""


def picture_name(file: str) -> str:
    """The plot of one file of candidates."""
    return f"best-of-n-{file.partition('.')[0]}.png"


def best_of_n_markdown(runs: Sequence[Run]) -> str:
    """The page, generated from the results alone."""
    sections = [line for run in runs for line in _section(run)]
    return "\n".join([*_opening(), "", *sections]).rstrip() + "\n"


def _opening() -> list[str]:
    return [
        "# Best-of-n with gold",
        "",
        "A common use of a reward model is to draw n answers to a prompt and keep the one with the highest",
        "reward. This page asks what the kept answer is worth to a judge that was not trained here: GPT-4, whose",
        "opinion is called *gold*, from 0 (it prefers a fixed rival's answer) to 1 (it prefers this one). A",
        "reward that only looks good falls back as n grows; a good one keeps climbing. A random choice stays",
        "level, the longest answer is what every reward has to beat, and the oracle, which sees gold, is as far",
        "as anybody can get.",
        "",
        "## How it is measured",
        "",
        "A run has one or two files of candidates, answers to the prompts of AlpacaEval. In `tulu` they are samples of",
        "one policy, Tulu-2-13B-DPO, and gold is GPT-4-turbo's probability of preferring them to GPT-3.5-turbo's",
        "answer (from the history of the repository reward-bench; Lambert et al., 2024). In `policies` they are",
        "the answers of up to 56 policies, and the rival is GPT-4-turbo itself (from the results in the",
        "repository alpaca_eval; Li et al., 2023; Dubois et al., 2024). Both repositories are under the Apache",
        "licence 2.0.",
        "",
        "The number at n is the expected gold of the winner among n candidates drawn from the prompt's: over all",
        "draws, not a sample of them. The last n is all candidates. Half of the prompts test, in every seed",
        "another half. Intervals are 95%, by prompt; differences from the base are paired. They do not cover",
        "other trainings.",
        "",
        "A refinement learns from preferences of another data set or, where its name ends in `@gold`, from gold",
        f"of the file's other half: pairs of candidates to a prompt whose gold differs by {LEAST_DIFFERENCE:g} or",
        "more. What stands behind a refinement's name says how its reward is read off p(r | e). Nothing: its own",
        "way, the mode, for `ebrm` the ascent. `mean`. `pessimistic`: -beta log E exp(-r / beta). `lcb`: the mean",
        "less z deviations. Validation pairs choose beta and z. `worst` and `uncertainty`: of five members, the",
        "least of their rewards, and their mean less half their variance. Members differ in their seed.",
        "`base:length`: the base less what a local regression expects of an answer of its length.",
        "[Comparing](compare.md#methods) has the methods.",
    ]


def _section(run: Run) -> Iterator[str]:
    summary = run.summary
    came = "which came with its score layer" if summary.trained else "with a score layer trained on half of them"
    taken = _of(summary.train_prompts, summary.train_of_prompts)
    seeds = f"{summary.seeds} seed{'s' * (summary.seeds > 1)}"
    yield from (
        f"## {summary.reward_model}",
        "",
        f"`{summary.command}`",
        "",
        f"Preferences: `{summary.train}`, {taken} prompts, {summary.train_pairs:,} pairs. The reward model is",
        f"`{summary.reward_model}`, {came}. Means over {seeds}.",
        "",
    )
    if summary.version < VALIDATED_APART:
        yield from (*NOT_APART, "")
    for file in summary.files:
        yield from _file(run, file)
    yield from _levels(summary)


def _file(run: Run, file: CandidateFile) -> Iterator[str]:
    rows = [row for row in run.summary.rows if row.file == file.name]
    sizes = sorted({row.n for row in rows})
    picture = f"{run.folder}/{picture_name(file.name)}" if run.folder else picture_name(file.name)
    yield from (
        f"### {file.name.partition('.')[0]}",
        "",
        f"{_of(file.prompts, file.of_prompts)} prompts with {file.candidates:,} candidates. In each seed "
        f"{file.test_prompts} prompts test, and the others give {file.gold_pairs:,} pairs of gold.",
        "",
        *found(rows),
        "",
        f"![Gold of the chosen candidate over n, by family of methods and what they were trained on]({picture})",
        "",
        *_table(rows, sizes),
        "",
    )


def at_largest(rows: Sequence[BestOfNRow]) -> dict[str, BestOfNRow]:
    """By method, the rows of one file of candidates at its largest n."""
    largest = max(row.n for row in rows)
    return {row.method: row for row in rows if row.n == largest}


def found(rows: Sequence[BestOfNRow]) -> Iterator[str]:
    """What the largest n says of one file of candidates, made from the numbers."""
    last = at_largest(rows)
    largest = last[BASE].n
    base = last[BASE]
    known = ", ".join(f"{name} {last[name].gold:.3f}" for name in REFERENCES if name in last)
    gap = last[ORACLE].gold - last[RANDOM].gold
    share = (base.gold - last[RANDOM].gold) / gap if gap else 0.0
    yield f"Among {largest}: {known}. The base takes {share:.0%} of the way from random to oracle."
    for words, own in (
        ("Trained on preferences", [row for row in last.values() if not row.method.endswith(GOLD)]),
        ("Trained on gold", [row for row in last.values() if row.method.endswith(GOLD)]),
    ):
        rows = [row for row in own if family_of(row.method) not in REFERENCES]
        if not rows:
            continue
        above = [row for row in rows if row.over_base_low > CANCELLED]
        below = [row for row in rows if row.over_base_high < -CANCELLED]
        best = max(rows, key=lambda row: row.gold)
        longer = sum(row.gold > last[LONGEST].gold for row in rows)
        yield (
            f"{words}: {len(above)} of {len(rows)} readings are above the base by more than the interval, "
            f"{len(below)} below. "
            "The highest, which is flattered by being the highest, is "
            f"`{best.method}`, {best.gold:.3f}, over the base {_over(best)}. "
            f"{longer} of {len(rows)} choose better than length."
        )
    yield f"Choosing the longest is {_over(last[LONGEST])} over the base."


def _table(rows: Sequence[BestOfNRow], sizes: Sequence[int]) -> Iterator[str]:
    shown = sizes[1:]
    heads = " | ".join(f"n = {n}" for n in shown)
    yield f"| method | {heads} | over base at {shown[-1]} |"
    yield f"| :-- | {' | '.join('--:' for _ in shown)} | --: |"
    for method in _ordered(dict.fromkeys(row.method for row in rows)):
        by_n = {row.n: row for row in rows if row.method == method}
        cells = " | ".join(f"{by_n[n].gold:.3f}" for n in shown)
        over = "-" if method == BASE else _over(by_n[shown[-1]])
        yield f"| {method} | {cells} | {over} |"


def _ordered(methods: Sequence[str] | dict[str, None]) -> list[str]:
    """References first, then what preferences trained, then what gold trained; else as they come."""
    return sorted(methods, key=lambda name: (name not in REFERENCES, name.endswith(GOLD)))


def _over(row: BestOfNRow) -> str:
    return f"{row.over_base:+.3f} [{row.over_base_low:+.3f}, {row.over_base_high:+.3f}]"


def _levels(summary: BestOfNSummary) -> Iterator[str]:
    """What validation chose, seeds in order."""
    chosen: dict[tuple[str, str], dict[int, float]] = {}
    for level in summary.levels:
        # What preferences trained is the same whichever file it chooses for.
        file = level.file.partition(".")[0] if level.method.endswith(GOLD) else ""
        chosen.setdefault((level.method, file), {})[level.seed] = level.level
    if not chosen:
        return
    yield from (
        "What validation chose, by seed: beta of `pessimistic` in deviations of the base reward (large is the mean),",
        "z of `lcb` (0 is the mean).",
        "",
        "| method | pairs of | chosen |",
        "| :-- | :-- | :-- |",
    )
    for (method, file), of_seed in chosen.items():
        yield f"| {method} | {file or summary.train} | {', '.join(f'{of_seed[seed]:g}' for seed in sorted(of_seed))} |"
    yield ""


def _of(taken: int, whole: int) -> str:
    return count(taken) if taken == whole else f"{count(taken)} of {count(whole)}"
