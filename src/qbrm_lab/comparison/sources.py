"""The preferences of a comparison, read and checked."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from qbrm.errors import InputError
from qbrm.preferences import PreferenceSet, check_disjoint, preferences_of, split_by_prompt
from qbrm_lab.comparison.settings import ComparisonSettings
from qbrm_lab.scenarios import by_domain

TEST_SHARE = 0.2


class Sources(NamedTuple):
    """Preferences to train on and to test on, by name.

    Attributes:
        train: to train on.
        tests: to test on.
        held_out: whether the test was split off the former.
    """

    train: PreferenceSet
    tests: dict[str, PreferenceSet]
    held_out: bool


def sampled(preferences: PreferenceSet, prompts: int | None, seed: int) -> PreferenceSet:
    """A random sample of so many prompts, with all that belongs to them; everything if there are no more."""
    total = len(preferences.prompt_ids)
    return (
        preferences if prompts is None or prompts >= total else split_by_prompt(preferences, prompts / total, seed)[1]
    )


def read_sources(settings: ComparisonSettings, prompts: int | None = None) -> Sources:
    """Read the training source and the tests; hold out prompts if there is no test.

    The held-out prompts depend on `settings.seed` alone, so that all seeds of a run are tested on the same ones.

    Args:
        settings: the sources and the seed.
        prompts: so many random prompts of the training source, before any are held out; None for all.

    Raises:
        InputError: if a source is not usable, two tests share a name, or train and test share a prompt.
    """
    train = sampled(preferences_of(settings.train, skip_bad=settings.skip_bad), prompts, settings.seed)
    # One prompt each for the reward model, the refinement and validation, and one for the test.
    _check_enough(train, 3 if settings.tests else 4)
    if not settings.tests:
        kept, held_out = split_by_prompt(train, TEST_SHARE, settings.seed)
        # What was left out is said of the source once, beside the part to train on.
        return Sources(replace(kept, left_out=train.left_out), {train.name: held_out}, held_out=True)
    tests: dict[str, PreferenceSet] = {}
    for source in settings.tests:
        test = preferences_of(source, skip_bad=settings.skip_bad)
        if test.name in tests:
            raise InputError(f"--test names {test.name!r} twice; expected sources with different names.")
        check_disjoint(train, test)
        tests[test.name] = test
    return Sources(train, tests, held_out=False)


def _check_enough(train: PreferenceSet, least: int) -> None:
    if len(train.prompt_ids) < least:
        raise InputError(f"{train.name} has {len(train.prompt_ids)} prompts; expected at least {least} to share out.")


def check_domains(sources: Sources) -> None:
    """Refuse preferences and a test without the first domain, which a reward model learns, and another one.

    Raises:
        InputError: naming the source and its domains.
    """
    first = next(iter(by_domain(sources.train)))
    for part in (sources.train, next(iter(sources.tests.values()))):
        domains = list(by_domain(part))
        if first not in domains or len(domains) == 1:
            raise InputError(
                f"{part.name} has the domains {', '.join(domains)}; expected {first} and at least one other, as the "
                "categories Helpfulness/Chat and Harmlessness/S1 begin with."
            )
