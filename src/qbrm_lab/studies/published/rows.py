"""The tables of the study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

# A share with its 95% interval by prompt, or a difference of two.
Share: TypeAlias = tuple[float, float, float]

OURS, PUBLISHED, RESTARTS = "ours", "published", "restarts alone"


@dataclass(frozen=True, kw_only=True)
class AgreementRow:
    """Accuracy by one code, at one deviation of the base rewards and from one start of the ascent; mean over seeds.

    `code` is ``ours``, ``published`` or ``restarts alone``; `restarted` is the share of responses that do not start at
    their base reward; `over_base` is paired.
    """

    deviation: float
    start: str
    code: str
    restarted: float
    accuracy: Share
    over_base: Share


@dataclass(frozen=True, kw_only=True)
class DifferenceRow:
    """Accuracy by our code less that by the published code, paired by prompt; mean over seeds."""

    deviation: float
    start: str
    difference: Share


@dataclass(frozen=True, kw_only=True)
class SameWeights:
    """The published network after its training, and ours with its weights: how far they are apart.

    Attributes:
        deviation: of the base rewards.
        value: greatest difference of f over test responses and rewards.
        value_size: greatest |f| among them.
        loss: of NCE+, with the same noise.
        loss_difference: ours less that.
        refined: share of test responses whose refined rewards, from r0, differ by less than a thousandth.
        refined_difference: greatest difference of refined rewards.
    """

    deviation: float
    value: float
    value_size: float
    loss: float
    loss_difference: float
    refined: float
    refined_difference: float


@dataclass(frozen=True, kw_only=True)
class SituationRow:
    """A method on the domain that the reward model was not trained for; mean over seeds.

    `refined_on` is ``same``: the preferences of the domain that the reward model learned, as published; or ``target``:
    preferences of the domain it is tested on. `nll` is the log-loss.
    """

    refined_on: str
    method: str
    accuracy: Share
    over_base: Share
    nll: float


@dataclass(frozen=True, kw_only=True)
class PublishedResults:
    """Content of published.json."""

    command: str
    reward_model: str
    trained: bool
    seeds: int
    epochs: int
    noise_samples: int
    train_prompts: int
    train_pairs: int
    agreed_pairs: int
    test_prompts: int
    test_pairs: int
    base: Share
    agreement: list[AgreementRow]
    differences: list[DifferenceRow]
    same_weights: list[SameWeights]
    domains: list[str]
    target_prompts: int
    target_pairs: int
    situation: list[SituationRow]
