"""Which preferences train the reward model, and which the score that refines it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from qbrm.errors import InputError

# What reads preferences is imported where it is used: `--help` lists the scenarios and does not wait for it.
if TYPE_CHECKING:
    from qbrm.preferences import Preference, PreferenceSet

VALIDATION_SHARE = 0.125
FLIPPED_SHARE = 0.25
FEW_PAIRS = (50, 200, 1000)
FEW_VALIDATION_SHARE = 0.2


class Roles(NamedTuple):
    """Training preferences by what they are for; no prompt is both trained on and validated with.

    Attributes:
        reward_model: trains the embedded reward model (one that is already trained ignores it).
        reward_model_validation: chooses the epoch of that training.
        refinement: trains the scores.
        validation: chooses their epochs and calibrates them.
        flipped: share of the reward model's pairs, for training and validation, whose label is flipped.
    """

    reward_model: PreferenceSet
    reward_model_validation: PreferenceSet
    refinement: PreferenceSet
    validation: PreferenceSet
    flipped: float = 0.0

    @property
    def are_apart(self) -> bool:
        """Whether no prompt both trains the reward model and refines it."""
        return set(self.reward_model.prompt_ids).isdisjoint(self.refinement.prompt_ids)


@dataclass(frozen=True)
class Scenario:
    """One way to share out the training preferences; `share_out` gives those of a seed their roles."""

    name: str
    words: str
    share_out: Callable[[PreferenceSet, int], Roles]


def same(train: PreferenceSet, seed: int) -> Roles:
    """Everything for both; a part validates both."""
    from qbrm.preferences import split_by_prompt

    kept, validation = split_by_prompt(train, VALIDATION_SHARE, seed)
    return Roles(kept, validation, kept, validation)


def fresh(train: PreferenceSet, seed: int) -> Roles:
    """Half of the prompts for the reward model, half for the score."""
    from qbrm.preferences import split_by_prompt

    kept, validation = split_by_prompt(train, VALIDATION_SHARE, seed)
    reward_model, refinement = split_by_prompt(kept, 0.5, seed)
    return Roles(reward_model, validation, refinement, validation)


def noise(train: PreferenceSet, seed: int) -> Roles:
    """As :func:`fresh`, with a quarter of the reward model's labels flipped."""
    return fresh(train, seed)._replace(flipped=FLIPPED_SHARE)


def shift(train: PreferenceSet, seed: int) -> Roles:
    """The largest domain for the reward model, the others for the score.

    Raises:
        InputError: if there is one domain only.
    """
    from qbrm.preferences import PreferenceSet, split_by_prompt

    known, *others = by_domain(train).values()
    if not others:
        raise InputError(
            f"{train.name}: the scenario shift needs two domains; expected categories such as Helpfulness/Chat and "
            f"Harmlessness/S1, and all begin with {domain(train.preferences[0])!r}."
        )
    new = PreferenceSet(train.name, tuple(preference for part in others for preference in part))
    reward_model, reward_model_validation = split_by_prompt(known, VALIDATION_SHARE, seed)
    refinement, validation = split_by_prompt(new, VALIDATION_SHARE, seed)
    return Roles(reward_model, reward_model_validation, refinement, validation)


def small(train: PreferenceSet, seed: int, pairs: int) -> Roles:
    """As :func:`fresh`, with at most `pairs` pairs for the score, a fifth of them for validation."""
    roles = fresh(train, seed)
    held_out = round(FEW_VALIDATION_SHARE * pairs)
    few = _few_pairs(roles.refinement, pairs - held_out, seed)
    return roles._replace(refinement=few, validation=_few_pairs(roles.validation, held_out, seed))


def domain(preference: Preference) -> str:
    """What a category begins with: Helpfulness of Helpfulness/Chat."""
    return preference.category.split("/")[0]


def by_domain(preferences: PreferenceSet) -> Mapping[str, PreferenceSet]:
    """Preferences by domain, the one with most prompts first; a prompt in several counts for the first by name."""
    domain_of: dict[str, str] = {}
    for preference in preferences:
        known = domain_of.setdefault(preference.prompt_id, domain(preference))
        domain_of[preference.prompt_id] = min(known, domain(preference))
    prompts: dict[str, list[str]] = {}
    for prompt_id, name in domain_of.items():
        prompts.setdefault(name, []).append(prompt_id)
    names = sorted(prompts, key=lambda name: (-len(prompts[name]), name))
    return {name: preferences.of_prompts(prompts[name]) for name in names}


def _few_pairs(preferences: PreferenceSet, pairs: int, seed: int) -> PreferenceSet:
    """Preferences in an order that the seed decides, as many as give at most `pairs` pairs."""
    from qbrm.preferences import PreferenceSet, training_pairs

    taken: list[Preference] = []
    count = 0
    for preference in sorted(preferences, key=lambda p: hashlib.sha256(f"{seed} {p.prompt_id}".encode()).digest()):
        more = len(training_pairs([*taken, preference]))
        if more <= pairs:
            taken.append(preference)
            count = more
        if count == pairs:
            break
    return PreferenceSet(preferences.name, tuple(taken))


_SMALL = "As `fresh`, with at most {} pairs to refine with: a fifth of them validate, no prompt on both sides."
_ALL = (
    Scenario("same", "The paper's protocol: reward model and score see the same preferences.", same),
    Scenario(
        "fresh",
        "The score sees preferences from the same domain that the reward model has not seen: half of the prompts each.",
        fresh,
    ),
    Scenario("shift", "The reward model knows the largest domain, the score is trained on the others.", shift),
    Scenario(
        "noise", "As `fresh`, but a quarter of the labels that the reward model is trained with are wrong.", noise
    ),
    *(Scenario(f"small-{pairs}", _SMALL.format(pairs), partial(small, pairs=pairs)) for pairs in FEW_PAIRS),
)
VARIANTS: dict[str, Scenario] = {scenario.name: scenario for scenario in _ALL}
# What a comparison is asked for, and the variants that it runs.
SCENARIOS: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in ("same", "fresh", "shift", "noise")},
    "small": tuple(name for name in VARIANTS if name.startswith("small-")),
}
