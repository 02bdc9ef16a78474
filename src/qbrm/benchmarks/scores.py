"""The official table of a benchmark, for base and refined rewards, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float64, Int

from qbrm.benchmarks.base import Benchmark, BenchmarkItem, ItemRewards, Section
from qbrm.evaluation import PromptBootstrap, interval

# The first entry is the value itself, the others what each resample of the prompts gives.
Sample = Float64[np.ndarray, " one_and_resamples"]
Kind = Literal["section", "subset"]


class Estimate(NamedTuple):
    """A value and its 95% interval by bootstrap over prompts."""

    value: float
    low: float
    high: float


class Row(NamedTuple):
    """One line of a benchmark's table.

    Attributes:
        name: section or subset.
        kind: ``section`` for a line of the official table, ``subset`` for what it is made of.
        items: items that count in it.
        base: with the base rewards.
        refined: with the refined rewards.
        difference: refined less base, paired over prompts.
    """

    name: str
    kind: Kind
    items: int
    base: Estimate
    refined: Estimate
    difference: Estimate


class Judgements(NamedTuple):
    """Judgements as they are resampled, by index: `prompt` is the unit of resampling, `category` the group."""

    prompt: Int[np.ndarray, " judgements"]
    category: Int[np.ndarray, " judgements"]
    item: Int[np.ndarray, " judgements"]
    prompts: int
    categories: tuple[str, ...]


def score(
    benchmark: Benchmark,
    items: Sequence[BenchmarkItem],
    base: Sequence[ItemRewards],
    refined: Sequence[ItemRewards],
    seed: int = 0,
) -> list[Row]:
    """The official table of base and refined rewards, section by section, and the subsets it is made of.

    Sections of which the items hold nothing are left out, here and of the means that they are part of.
    """
    judged = benchmark.judge(items, base), benchmark.judge(items, refined)
    judgements = _judgements(benchmark, items, [(one.group, one.item) for one in judged[0]])
    bootstrap = PromptBootstrap(judgements, seed)
    samples = [
        official_means(benchmark.sections, _group_samples(judgements, bootstrap, [one.value for one in side]))
        for side in judged
    ]
    leaves = section_groups(benchmark.sections)

    def row(name: str, kind: Kind) -> Row:
        base, refined = (side[name] for side in samples)
        estimates = _estimate(base), _estimate(refined), _estimate(refined - base)
        return Row(name, kind, _count(judgements, leaves.get(name, frozenset({name}))), *estimates)

    sections = [section.name for section in benchmark.sections if section.name in samples[0]]
    subsets = [group for group in judgements.categories if group not in sections]
    return [row(name, "section") for name in sections] + [row(name, "subset") for name in subsets]


def official_means(sections: Sequence[Section], groups: Mapping[str, Sample]) -> dict[str, Sample]:
    """Means of groups and, from these, of the sections that can be made."""
    means = dict(groups)
    for section in sections:
        parts = {name: weight for name, weight in section.weights.items() if name in means}
        if parts and not (section.total and len(parts) < len(section.weights)):
            values = np.array([means[name] for name in parts])
            weights = np.array(list(parts.values()), dtype=float)[:, None]
            means[section.name] = (weights * values).sum(0) if section.total else _weighted_mean(values, weights)
    return means


def missing_parts(benchmark: Benchmark, rows: Sequence[Row]) -> list[str]:
    """What of the official table a source holds nothing of: whole sections, and groups of the others."""
    there, leaves = {row.name for row in rows}, section_groups(benchmark.sections)
    missing, covered = [], set[str]()
    for section in benchmark.sections:
        absent = leaves[section.name] - there
        if absent == leaves[section.name]:
            missing += [section.name] if section.name not in benchmark.optional else []
            covered |= absent
    named = [name for section in benchmark.sections for name in section.weights]
    rest = [name for name in dict.fromkeys(named) if name not in leaves and name not in there | covered]
    return list(dict.fromkeys(missing + rest))


def section_groups(sections: Sequence[Section]) -> dict[str, frozenset[str]]:
    """The groups that each section is made of in the end."""
    leaves: dict[str, frozenset[str]] = {}
    for section in sections:
        leaves[section.name] = frozenset().union(*(leaves.get(name, {name}) for name in section.weights))
    return leaves


def _judgements(benchmark: Benchmark, items: Sequence[BenchmarkItem], judged: Sequence[tuple[str, int]]) -> Judgements:
    clusters = [benchmark.cluster(items[item]) for _, item in judged]
    number = {cluster: index for index, cluster in enumerate(dict.fromkeys(clusters))}
    groups = {group: index for index, group in enumerate(dict.fromkeys(group for group, _ in judged))}
    return Judgements(
        prompt=np.array([number[cluster] for cluster in clusters]),
        category=np.array([groups[group] for group, _ in judged]),
        item=np.array([item for _, item in judged]),
        prompts=len(number),
        categories=tuple(groups),
    )


def _group_samples(judgements: Judgements, bootstrap: PromptBootstrap, values: Sequence[float]) -> dict[str, Sample]:
    value = np.array(values)
    totals = np.bincount(judgements.category, value, len(judgements.categories))
    exact = totals / np.bincount(judgements.category, minlength=len(judgements.categories))
    columns = np.concatenate([exact[None], bootstrap.means(value)]).T
    return dict(zip(judgements.categories, columns, strict=True))


def _weighted_mean(
    values: Float64[np.ndarray, "parts one_and_resamples"], weights: Float64[np.ndarray, "parts 1"]
) -> Sample:
    """Mean of the parts that are there; NaN where a resample has none."""
    there = np.where(np.isnan(values), 0, weights)
    total: Sample = there.sum(0)
    mean: Sample = np.full_like(total, np.nan)
    np.divide((there * np.nan_to_num(values)).sum(0), total, out=mean, where=total > 0)
    return mean


def _estimate(sample: Sample) -> Estimate:
    return Estimate(float(sample[0]), *interval(sample[1:]))


def _count(judgements: Judgements, groups: frozenset[str]) -> int:
    of_groups = [index for index, name in enumerate(judgements.categories) if name in groups]
    return len(np.unique(judgements.item[np.isin(judgements.category, of_groups)]))
