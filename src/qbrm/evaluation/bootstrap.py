"""Intervals by resampling prompts: items that share a prompt are not independent."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64

from qbrm.evaluation.outcomes import Items

RESAMPLES = 2000
LEVEL = 0.95

Interval = tuple[float, float]


class PromptBootstrap:
    """Percentile intervals of accuracies and of their differences (Efron & Tibshirani, 1993, chapters 8 and 13).

    All methods see the same resamples of the prompts, so a difference of two methods' values is a paired one.

    Args:
        items: the items of one set of a test.
        seed: of the resampling.
    """

    def __init__(self, items: Items, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        self._items = items
        self._weights = generator.multinomial(
            items.prompts, np.full(items.prompts, 1 / items.prompts), size=RESAMPLES
        ).astype(np.float64)
        self._counts = self._weights @ self._per_prompt(np.ones(len(items.prompt)))

    def _per_prompt(self, value: Float[np.ndarray, " items"]) -> Float64[np.ndarray, "prompts categories"]:
        total = np.zeros((self._items.prompts, len(self._items.categories)))
        np.add.at(total, (self._items.prompt, self._items.category), value)
        return total

    def intervals(self, value: Float[np.ndarray, " items"]) -> dict[str, Interval]:
        """Intervals of the mean value: by category, over all items (``all``), of the mean over categories (``macro``).

        Args:
            value: one number per item, such as being correct or the difference of two methods' being correct.
        """
        totals = self._weights @ self._per_prompt(value)
        with np.errstate(invalid="ignore"):
            by_category = np.where(self._counts > 0, totals / self._counts, np.nan)
        samples = {
            "all": totals.sum(1) / self._counts.sum(1),
            "macro": np.nanmean(by_category, axis=1),
            **{name: by_category[:, index] for index, name in enumerate(self._items.categories)},
        }
        tails = (50 * (1 - LEVEL), 50 * (1 + LEVEL))
        bounds = {name: np.nanpercentile(sample, tails) for name, sample in samples.items()}
        return {name: (float(low), float(high)) for name, (low, high) in bounds.items()}


def means(items: Items, value: Float[np.ndarray, " items"]) -> dict[str, float]:
    """Mean value by category, over all items (``all``) and over categories (``macro``)."""
    count = np.bincount(items.category, minlength=len(items.categories))
    by_category = np.bincount(items.category, value, len(items.categories)) / count
    return {
        "all": float(value.mean()),
        "macro": float(by_category.mean()),
        **{name: float(by_category[index]) for index, name in enumerate(items.categories)},
    }
