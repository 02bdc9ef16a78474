"""How far a refinement may go: the greatest strength that is shown not to make the reward model worse."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int

STRENGTHS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
# Accuracy that may be lost, and the probability with which more than that may be.
MARGIN, LEVEL = 0.01, 0.05
# The variance of a prompt's difference as the first bets assume it, as if so many prompts had shown it.
PRIOR_PROMPTS, PRIOR_VARIANCE = 10, 0.05
LARGEST_SHARE = 0.9


class Guarantee(NamedTuple):
    """A strength, and what was shown of it.

    Attributes:
        strength: the greatest for which "worse than the base by more than `margin`" was rejected at `level`; zero if
            that was rejected for none.
        prompts: prompts that it was shown on.
        margin: accuracy that may be lost, averaged over prompts.
        level: probability of a strength that loses more.
        cross_fitted: whether each prompt was judged by a score that other prompts trained, and the final score is
            another, trained on all; else the final score was judged, on prompts that did not train it.
    """

    strength: float
    prompts: int
    margin: float = MARGIN
    level: float = LEVEL
    cross_fitted: bool = False


def greatest_safe_strength(
    difference: Callable[[float], Float64[np.ndarray, " prompts"]], strengths: Sequence[float] = STRENGTHS
) -> float:
    r"""The greatest strength whose loss of accuracy is shown to be no more than the margin.

    For each strength s, the hypothesis that s loses more than the margin,

    .. math:: H_s: \mathbb{E}[d_s] \le -m,

    is tested on d_s, the accuracy on a prompt's pairs with strength s less that of the base, prompt by prompt. The
    greatest strength is tested first, with half of the level: a large gain shows there on few prompts. The others
    follow with the other half, in ascending order up to the first that is not rejected. Then the probability that any
    true H_s is rejected is at most the level, whatever the score and the distribution of prompts are: fixed-sequence
    testing with two starts, section 2.2 of Angelopoulos et al. (2021), Learn then Test, arXiv 2110.01052.

    Prompts must be independent draws from the distribution that the guarantee is about, and must have had no part in
    training; nothing is said of prompts from elsewhere, of single categories, or of the loss on one sample of prompts.

    Args:
        difference: d_s of all prompts in one order, each in [-1, 1], given s.
        strengths: in ascending order; the first is taken if nothing is rejected.
    """

    def shown(strength: float) -> bool:
        return shown_positive(difference(strength) + MARGIN, lowest=MARGIN - 1, level=LEVEL / 2)

    none, *partial, whole = strengths
    if shown(whole):
        return whole
    return max(itertools.takewhile(shown, partial), default=none)


def shown_positive(values: Float64[np.ndarray, " n"], lowest: float, level: float) -> bool:
    r"""Whether "the mean is zero or less" is rejected, for independent values of which none is below `lowest` < 0.

    .. math:: \max_t \prod_{i \le t} (1 + \lambda_i x_i) \ge \frac1\alpha, \qquad
              \lambda_i = \min\Bigl(\sqrt{\frac{2 \log(1 / \alpha)}{n\,\hat\sigma^2_{i-1}}}, \frac{c}{|x_{\min}|}\Bigr)

    A gambler who bets a share of a fortune on each value in turn, knowing the earlier ones, does not expect to win if
    the mean is not positive, and multiplies the fortune by 1 / alpha with probability alpha at most (Ville's
    inequality). Valid for any number of values, with no approximation: Waudby-Smith & Ramdas (2023), J. R. Statist.
    Soc. B 86, 1, section 3.1 has the bets.
    """
    count = np.arange(len(values))
    squares = np.concatenate([[0.0], np.cumsum(values**2)[:-1]])
    variance = (PRIOR_PROMPTS * PRIOR_VARIANCE + squares) / (PRIOR_PROMPTS + count)
    bet = np.minimum(np.sqrt(2 * np.log(1 / level) / (len(values) * variance)), LARGEST_SHARE / abs(lowest))
    fortune = np.cumsum(np.log1p(bet * values))
    return bool(fortune.max(initial=0.0) >= -np.log(level))


def accuracy_by_prompt(
    right: Float64[np.ndarray, " pairs"], prompt: Int[np.ndarray, " pairs"]
) -> Float64[np.ndarray, " prompts"]:
    """Mean over the pairs of each prompt, in ascending order of the prompts' numbers."""
    _, place = np.unique(prompt, return_inverse=True)
    mean: Float64[np.ndarray, " prompts"] = np.bincount(place, right) / np.bincount(place)
    return mean
