"""What the study of best-of-n is asked to do, and what all of its seeds share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from qbrm.cli.console import Reporter
from qbrm.cli.preferences import report_preferences
from qbrm.errors import InputError
from qbrm.preferences import PreferenceSet, check_disjoint, preferences_of
from qbrm.reward_models import Embedded, RewardModel, load_reward_model
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.comparison.compare import embed
from qbrm_lab.comparison.sources import sampled
from qbrm_lab.methods import family_of
from qbrm_lab.methods.base import Method
from qbrm_lab.methods.catalogue import options_of
from qbrm_lab.responses import Responses
from qbrm_lab.studies.best_of_n.candidates import Candidates, read_candidate_files

METHODS = (
    *("base:length", "base:worst", "base:uncertainty"),
    *("residual", "residual:members=5", "residual:members=5,worst", "residual:members=5,uncertainty"),
    *("rbm", "sqrbm", "sqrbm:gate,members=5", "sqrbm:gate,members=5,worst", "sqrbm:gate,members=5,uncertainty"),
    "ebrm",
)
SLOW = ("ebrm",)
QUICK_PROMPTS = 40
# Ensembles of reward models that are trained again with other seeds: nothing of the pairs to refine with is in them.
TRAINED_AGAIN = ("mean", "worst", "uncertainty")
# One each for the reward model, for a refinement, for validation and, of candidates, for the test.
FEWEST_PROMPTS = 4


@dataclass(frozen=True)
class Asked:
    """What is asked beside what comparisons are asked.

    Attributes:
        candidates: files of candidates.
        prompts: how many random prompts of each file, or one number for all; empty for all prompts.
        train_prompts: how many random prompts of the preferences; None for all.
    """

    candidates: tuple[Path, ...]
    prompts: tuple[int, ...] = ()
    train_prompts: int | None = None

    def prompts_of(self, number: int) -> int | None:
        """How many prompts of file number 0, 1, ...; None for all."""
        return self.prompts[number if len(self.prompts) > 1 else 0] if self.prompts else None


class Prepared(NamedTuple):
    """What all seeds share.

    Attributes:
        whole: prompts that the preferences, and then each file, had before a sample was taken.
        train: preferences to train on.
        files: candidates.
        responses: the rows of the feature table.
        model: the reward model, or the encoder that one is trained on.
        embedded: what `model` gave for every response.
        methods: by name.
    """

    settings: ComparisonSettings
    whole: tuple[int, ...]
    train: PreferenceSet
    files: list[Candidates]
    responses: Responses
    model: RewardModel
    embedded: Embedded
    methods: Mapping[str, Method]

    @property
    def came_trained(self) -> bool:
        """Whether the reward model has a score layer of its own."""
        return self.embedded.reward is not None


def prepare(settings: ComparisonSettings, asked: Asked, reporter: Reporter) -> Prepared:
    """Read preferences and candidates, and embed all their responses.

    Raises:
        InputError: if something given is not usable.
    """
    methods = settings.selected_methods()
    if len(asked.prompts) not in (0, 1, len(asked.candidates)):
        raise InputError(
            f"--prompts has {len(asked.prompts)} numbers for {len(asked.candidates)} files of candidates; expected one "
            "for all or one for each."
        )
    read = read_candidate_files(asked.candidates)
    preferences = preferences_of(settings.train, skip_bad=settings.skip_bad)
    train = sampled(preferences, asked.train_prompts, settings.seed)
    files = [_sample(file, asked.prompts_of(number), settings.seed) for number, file in enumerate(read)]
    _check(train, files)
    _describe(train, files, read, reporter)
    model = load_reward_model(settings.reward_model, **settings.reward_model_options)
    sets = [train, *(file.preferences for file in files)]
    responses = Responses(sets)
    table, _ = embed(model, sets, settings.out / "features", reporter)
    embedded = table.rows(responses.keys)
    if embedded.reward is not None:
        methods = {name: method for name, method in methods.items() if not is_trained_again(name)}
    whole = tuple(len(part.prompt_ids) for part in (preferences, *(file.preferences for file in read)))
    return Prepared(settings, whole, train, files, responses, model, embedded, methods)


def is_trained_again(method: str) -> bool:
    """Whether a method trains more reward models, on what trained the first one."""
    return family_of(method) == "base" and any(option in options_of(method) for option in TRAINED_AGAIN)


def _sample(file: Candidates, prompts: int | None, seed: int) -> Candidates:
    return file.of_prompts(set(sampled(file.preferences, prompts, seed).prompt_ids))


def _check(train: PreferenceSet, files: list[Candidates]) -> None:
    if len(train.prompt_ids) < FEWEST_PROMPTS:
        raise InputError(f"{train.name} has {len(train.prompt_ids)} prompts; expected at least {FEWEST_PROMPTS}.")
    for file in files:
        prompts = len(file.preferences.prompt_ids)
        if prompts < FEWEST_PROMPTS:
            raise InputError(f"{file.name} has {prompts} prompts; expected at least {FEWEST_PROMPTS} to share out.")
        check_disjoint(train, file.preferences)


def _describe(train: PreferenceSet, files: list[Candidates], read: list[Candidates], reporter: Reporter) -> None:
    report_preferences(train, reporter, f"{len(train.categories)} categories", "training and validation")
    for file, whole in zip(files, read, strict=True):
        prompts, of_prompts = (len(part.preferences.prompt_ids) for part in (file, whole))
        taken = f"{prompts:,} prompts" if prompts == of_prompts else f"{prompts:,} of {of_prompts:,} prompts"
        reporter.fact(file.name, taken, f"{file.count:,} candidates", f"up to {file.largest} to a prompt")
