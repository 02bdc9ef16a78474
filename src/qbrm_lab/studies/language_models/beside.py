"""What other studies of the same reward models have left beside this one, in short."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from qbrm.tables.numbers import percent, percent_interval, points_interval
from qbrm_lab.methods import family_of
from qbrm_lab.results.harden_rows import HardenResults, HardenRow
from qbrm_lab.results.policy_rows import PolicyResults
from qbrm_lab.results.rows import CANCELLED
from qbrm_lab.results.study_rows import BestOfNSummary
from qbrm_lab.studies.best_of_n.one_seed import GOLD, LONGEST, RANDOM
from qbrm_lab.studies.best_of_n.page import REFERENCES, at_largest
from qbrm_lab.studies.best_of_n.page import found as found_by_gold
from qbrm_lab.studies.best_of_n.study import SUMMARY_FILE
from qbrm_lab.studies.best_of_n.worth import BASE
from qbrm_lab.studies.grpo import TABLE as GRPO_FILE
from qbrm_lab.studies.grpo_page import found as found_of_policies
from qbrm_lab.studies.harden import HARDEN_FILE
from qbrm_lab.studies.harden_table import NO_GATE, SHOWN
from qbrm_lab.studies.json_files import read_json
from qbrm_lab.studies.page.verdicts import listed
from qbrm_lab.studies.published.page import agreed, explained, gained
from qbrm_lab.studies.published.rows import PublishedResults
from qbrm_lab.studies.published.study import RESULTS_FILE as PUBLISHED_FILE

PUBLISHED, BEST_OF_N, HARDEN, GRPO = "published", "best-of-n", "harden", "grpo"
# Studies that have a page of their own in the documentation, which follows from the same run.
OWN_PAGES = (PUBLISHED, HARDEN, GRPO)
MOST_SEEN, MOST_UNSEEN, MOST_OFF_TOPIC, MOST_LOST = 0.10, 0.25, 0.15, 0.005


class Section(NamedTuple):
    """One study: its heading, and what it found with a link to its own page."""

    title: str
    text: str


class Target(NamedTuple):
    """What was wanted, what was measured, and whether that is met."""

    words: str
    measured: str
    met: bool


def sections_of(folder: Path) -> Iterator[Section]:
    """A section for every study whose results are in a folder of its name.

    Raises:
        InputError: if a file is not what its name says.
    """
    if (folder / PUBLISHED / PUBLISHED_FILE).exists():
        yield Section("Like for like with the published EBRM", _published(folder / PUBLISHED / PUBLISHED_FILE))
    summaries = _summaries(folder)
    if summaries:
        yield Section("Best-of-n, judged by GPT-4", "\n\n".join(map(_best_of_n, summaries)))
    if (folder / HARDEN / HARDEN_FILE).exists():
        yield Section("Hacks, and hardening against them", _hardened(_harden(folder)))
    if (folder / GRPO / GRPO_FILE).exists():
        yield Section("Policies trained on the rewards", _policies(read_json(folder / GRPO / GRPO_FILE, PolicyResults)))


def targets_of(folder: Path) -> list[Target]:
    """What hardening was to reach, if it has been measured."""
    if not (folder / HARDEN / HARDEN_FILE).exists():
        return []
    results = _harden(folder)
    row = _judged(results)
    bounds = [("hacks of kinds that training has seen", MOST_SEEN, row.seen)]
    bounds += [("hacks of kinds that it has not seen", MOST_UNSEEN, row.unseen)]
    bounds += [
        ("hardened too, answers to other prompts, a kind that it has seen,", MOST_OFF_TOPIC, kind.seen)
        for kind in results.kinds
        if kind.probe == "off-topic" and kind.seen
    ]
    targets = [
        Target(f"{words} win at most {100 * most:.0f}%", f"{percent_interval(*rate)}%", rate[0] <= most)
        for words, most, rate in bounds
    ]
    lost = f"{points_interval(*row.over_plain)} points"
    words = f"hardening changes a refined score's accuracy on clean pairs by no less than -{100 * MOST_LOST:.1f} points"
    return [*targets, Target(words, lost, row.over_plain[0] >= -MOST_LOST)]


def unmeasured(folder: Path) -> Iterator[str]:
    """What was asked of these reward models and no study beside this one has measured."""
    yield "EBRM with the paper's 768 noise samples (`ebrm:published`)"
    hardened = _harden(folder).rows if (folder / HARDEN / HARDEN_FILE).exists() else []
    if all(row.method != "ebrm" for row in hardened):
        yield "EBRM under hardening"
    yield "best-of-n and couplings on the answers of other policies ([on the small encoder they were](candidates.md))"
    if not (folder / GRPO / GRPO_FILE).exists():
        yield "policies that are trained on refined rewards"


def chosen_by_gold(folder: Path) -> str:
    """What refining is worth where GPT-4 judges the choice among n, in a sentence; empty if that was not measured."""
    told = [_chosen(summary, file.name) for summary in _summaries(folder) for file in summary.files]
    return f"Where GPT-4 judges which answer a reward chooses: {'; '.join(told)}." if told else ""


def _chosen(summary: BestOfNSummary, file: str) -> str:
    last = at_largest([row for row in summary.rows if row.file == file])
    refined = [row for name, row in last.items() if family_of(name) not in REFERENCES and not name.endswith(GOLD)]
    above = sum(row.over_base_low > CANCELLED for row in refined)
    best = max(refined, key=lambda row: row.gold)
    return (
        f"of {best.n} answers (`{file.partition('.')[0]}`), the base chooses one worth {last[BASE].gold:.3f}, chance "
        f"{last[RANDOM].gold:.3f}, the best of {len(refined)} ways to read rewards refined on preferences "
        f"{best.gold:.3f}, the longest answer {last[LONGEST].gold:.3f}, and {above} of those ways are above the base "
        "beyond the interval"
    )


def _summaries(folder: Path) -> list[BestOfNSummary]:
    paths = sorted((folder / BEST_OF_N).glob(f"*/{SUMMARY_FILE}"))
    return [read_json(path, BestOfNSummary) for path in paths]


def _published(path: Path) -> str:
    results = read_json(path, PublishedResults)
    seeds = f"{results.seeds} seed{'s' * (results.seeds > 1)}"
    told = [
        f"The published code and ours, on the same features of {results.reward_model} and the same split ({seeds}). "
        f"{agreed(results.differences)} {explained(results.agreement)}",
        "The paper gains over a base that is near chance. Where the reward model was trained on another domain:",
        "\n".join(f"- {gained(row)}" for row in results.situation if row.method.startswith("ebrm")),
        "[Like for like](published.md) has the tables.",
    ]
    return "\n\n".join(told)


def _best_of_n(summary: BestOfNSummary) -> str:
    told = [
        f"Reward model `{summary.reward_model}`, refined on {summary.train_prompts:,} prompts of `{summary.train}`."
    ]
    for file in summary.files:
        rows = [row for row in summary.rows if row.file == file.name]
        told.append(f"`{file.name.partition('.')[0]}`, {file.prompts:,} prompts: {' '.join(found_by_gold(rows))}")
    return "\n\n".join([*told, "[Best-of-n with gold](best-of-n.md) has the curves."])


def _harden(folder: Path) -> HardenResults:
    return read_json(folder / HARDEN / HARDEN_FILE, HardenResults)


def _judged(results: HardenResults) -> HardenRow:
    return next(row for row in results.rows if (row.method, row.hardened, row.gate) == (SHOWN, True, NO_GATE))


def _hardened(results: HardenResults) -> str:
    base = next(row for row in results.rows if not row.hardened)
    plain = next(row for row in results.rows if (row.method, row.hardened, row.gate) == (SHOWN, False, NO_GATE))
    row = _judged(results)
    seen, unseen = percent_interval(*row.seen), percent_interval(*row.unseen)
    accuracies, formatting = (
        listed(percent(getattr(one, measure)[0]) for one in (base, plain, row)) for measure in ("accuracy", "not_gain")
    )
    rivals = [row for row in results.rows if row.hardened and row.gate == NO_GATE and row.method != SHOWN]
    return (
        f"{results.prompts:,} prompts, rewards of `{results.reward_model}`, {results.seeds} seeds, "
        f"{len(results.splits)} splits of the kinds of hacks. Hacks that must lose win {percent_interval(*base.seen)}% "
        f"of the time by the {base.method} rewards and {percent_interval(*plain.seen)}% by `{plain.method}`; hardened, "
        f"{seen}% of hacks of kinds that training has seen and {unseen}% of others. Accuracy on clean pairs is "
        f"{accuracies}%. Hacks that only look different, such as headings, win {formatting}% of the time. "
        f"{' '.join(map(_rival, rivals))} [Hardening](harden.md) has every score and kind."
    )


def _rival(row: HardenRow) -> str:
    rates = f"{percent_interval(*row.seen)}% and {percent_interval(*row.unseen)}%"
    return f"`{row.method}`, hardened, lets {rates} win, at an accuracy of {percent(row.accuracy[0])}%."


def _policies(results: PolicyResults) -> str:
    told = [
        f"{results.seeds} seed{'s' * (results.seeds > 1)}, {results.steps} updates of {results.policy} by GRPO on "
        "each kind of rewards.",
        "\n".join(found_of_policies(results)),
        "[Policies](grpo.md) has the plots and every measure.",
    ]
    return "\n\n".join(told)
