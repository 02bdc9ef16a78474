"""Intervals by resampling prompts: items that share a prompt are not independent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from jaxtyping import Float, Float64, Int

RESAMPLES = 2000
LEVEL = 0.95
AT_ONCE = 200

Interval = tuple[float, float]
ByCategory: TypeAlias = Float64[np.ndarray, "resamples categories"]


class Grouped(Protocol):
    """Items on prompts, in categories: the input of the bootstrap."""

    @property
    def prompt(self) -> Int[np.ndarray, " items"]:
        """Index of each item's prompt."""

    @property
    def category(self) -> Int[np.ndarray, " items"]:
        """Index of each item's category."""

    @property
    def prompts(self) -> int:
        """Number of prompts."""

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the categories."""


class PromptBootstrap:
    """Percentile intervals of accuracies and of their differences (Efron & Tibshirani, 1993, chapters 8 and 13).

    All methods see the same resamples of the prompts, so a difference of two methods' values is a paired one.

    Args:
        items: the items of one set of a test.
        seed: of the resampling.
    """

    def __init__(self, items: Grouped, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        self._items = items
        share = np.full(items.prompts, 1 / items.prompts)
        self._weights = generator.multinomial(items.prompts, share, size=RESAMPLES).astype(np.float64)
        self._counts = self._weights @ self._per_prompt(np.ones(len(items.prompt)))

    def _per_prompt(self, value: Float[np.ndarray, " items"]) -> Float64[np.ndarray, "prompts categories"]:
        total = np.zeros((self._items.prompts, len(self._items.categories)))
        np.add.at(total, (self._items.prompt, self._items.category), value)
        return total

    def intervals(self, value: Float[np.ndarray, " items"]) -> dict[str, Interval]:
        """Intervals of the items' mean value: by category, over all (``all``), and over categories (``macro``)."""
        totals = self._weights @ self._per_prompt(value)
        by_category = self._divided(totals)
        samples = {
            "all": totals.sum(1) / self._counts.sum(1),
            "macro": np.nanmean(by_category, axis=1),
            **{name: by_category[:, index] for index, name in enumerate(self._items.categories)},
        }
        return {name: interval(sample) for name, sample in samples.items()}

    def means(self, value: Float[np.ndarray, " items"]) -> ByCategory:
        """Mean value by category in each resample; NaN where a resample has no item of a category."""
        return self._divided(self._weights @ self._per_prompt(value))

    def samples(
        self,
        statistic: Callable[[Float64[np.ndarray, "some values"]], Float64[np.ndarray, " some"]],
        prompt: Int[np.ndarray, " values"],
    ) -> Float64[np.ndarray, " resamples"]:
        """A statistic of values on prompts, in each resample.

        Args:
            statistic: of some resamples, given how often each of them has each value.
            prompt: index of each value's prompt.
        """
        parts = range(0, RESAMPLES, AT_ONCE)
        return np.concatenate([statistic(self._weights[start : start + AT_ONCE, prompt]) for start in parts])

    def _divided(self, totals: ByCategory) -> ByCategory:
        means: ByCategory = np.full_like(totals, np.nan)
        np.divide(totals, self._counts, out=means, where=self._counts > 0)
        return means


@dataclass(frozen=True)
class TestPairs:
    """The prompts of test pairs or other trials, for paired intervals: one category for :class:`PromptBootstrap`."""

    prompt: Int[np.ndarray, " pairs"]

    @property
    def prompts(self) -> int:
        """Number of prompts."""
        return int(self.prompt.max()) + 1

    @property
    def category(self) -> Int[np.ndarray, " pairs"]:
        """All pairs are of one category."""
        return np.zeros(len(self.prompt), dtype=np.int64)

    @property
    def categories(self) -> tuple[str, ...]:
        """Its name."""
        return ("test",)


def interval(sample: Float64[np.ndarray, " resamples"]) -> Interval:
    """The central `LEVEL` of the resamples; NaN is left out."""
    low, high = np.nanpercentile(sample, (50 * (1 - LEVEL), 50 * (1 + LEVEL)))
    return float(low), float(high)


def means(items: Grouped, value: Float[np.ndarray, " items"]) -> dict[str, float]:
    """Mean value by category, over all items (``all``) and over categories (``macro``)."""
    count = np.bincount(items.category, minlength=len(items.categories))
    by_category = np.bincount(items.category, value, len(items.categories)) / count
    return {
        "all": float(value.mean()),
        "macro": float(by_category.mean()),
        **{name: float(by_category[index]) for index, name in enumerate(items.categories)},
    }
