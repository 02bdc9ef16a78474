"""Reward models of a language model, each with the preferences that it has not seen and what it gets right."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from qbrm.cli.console import Reporter
from qbrm.evaluation import PromptBootstrap
from qbrm.evaluation.bootstrap import TestPairs
from qbrm.features import build_features
from qbrm.preferences import Preference, PreferenceSet, read_preferences, split_by_prompt
from qbrm.preferences.labels import UNCATEGORISED
from qbrm.reward_models import load_reward_model
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.preference_lines import write_preferences
from qbrm_lab.responses import Responses
from qbrm_lab.reward_models.preference_training import (
    RewardTraining,
    TextPair,
    learned_pairs,
    train_reward_model,
)
from qbrm_lab.reward_models.smollm2 import smollm2_folder
from qbrm_lab.scenarios import FLIPPED_SHARE, by_domain
from qbrm_lab.studies.best_of_n.candidates import Candidates, read_candidate_files
from qbrm_lab.studies.best_of_n.gold_pairs import LEAST_DIFFERENCE
from qbrm_lab.studies.json_files import write_json

TABLE = "reward_models.json"
LANGUAGE_MODEL, TEST, REFINE, LEARNED = "smollm2", "test.jsonl", "refine.jsonl", "learned.jsonl"
TEST_SHARE = 0.2
MOST_TEST_PROMPTS = 150
MAX_LENGTH = 512
PAIRS_PER_PROMPT = 4
QUICK_PAIRS, QUICK_TEST_PROMPTS = 64, 20


class Shares(NamedTuple):
    """What a reward model learns from, and what is left to refine it with; None if it may have seen everything."""

    learned: PreferenceSet
    left: PreferenceSet | None


@dataclass(frozen=True)
class Recipe:
    """What one reward model is trained on; `flipped` is the share of its pairs whose label is wrong."""

    words: str
    share_out: Callable[[PreferenceSet, int], Shares]
    flipped: float = 0.0


class Lesson(NamedTuple):
    """What one reward model is trained on, in words and in pairs, and what it is measured on."""

    name: str
    words: str
    pairs: list[TextPair]
    test: PreferenceSet


@dataclass(frozen=True)
class RewardModelRow:
    """One reward model: pairs offered to its training, and its accuracy on test pairs with a 95% interval."""

    name: str
    trained_on: str
    pairs: int
    test_prompts: int
    test_pairs: int
    accuracy: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class RewardModelRows:
    """Content of reward_models.json."""

    command: str
    rows: list[RewardModelRow]


def _half(pool: PreferenceSet, seed: int) -> Shares:
    return Shares(*split_by_prompt(pool, 0.5, seed))


def _largest_domain(pool: PreferenceSet, seed: int) -> Shares:
    known, *others = by_domain(pool).values()
    return Shares(known, PreferenceSet(pool.name, tuple(preference for part in others for preference in part)))


RECIPES: Mapping[str, Recipe] = {
    "half": Recipe("half of the prompts", _half),
    "domain": Recipe("the largest domain", _largest_domain),
    "noise": Recipe("half of the prompts, a quarter of the labels wrong", _half, FLIPPED_SHARE),
    "all": Recipe("all prompts", lambda pool, seed: Shares(pool, None)),
}


def study_reward_models(
    settings: ComparisonSettings, quick: bool, reporter: Reporter, candidates: Sequence[Path] = ()
) -> Path:
    """Train reward models on SmolLM2, and measure each on prompts that none of them has seen.

    Writes to `settings.out`: `test.jsonl`, a fifth of the prompts; for every recipe a folder that any command takes as
    `--reward-model`, with `learned.jsonl`, the pairs that trained it, and `refine.jsonl`, the preferences that it has
    not seen, inside if there are any; and reward_models.json. The same call continues after the last checkpoint.

    Args:
        settings: the preferences, `settings.out` and the seed.
        quick: a few pairs, to see that all works.
        reporter: shows progress.
        candidates: files of candidates with gold; on each a reward model is trained that stands in for its judge.

    Returns:
        The path of reward_models.json.

    Raises:
        InputError: if the source is not usable, the package that ships SmolLM2 is missing, or `settings.out` cannot be
            written.
    """
    out, seed = settings.out, settings.seed
    training = RewardTraining(pairs=QUICK_PAIRS) if quick else RewardTraining()
    most = QUICK_TEST_PROMPTS if quick else MOST_TEST_PROMPTS
    pool, test = split_by_prompt(read_preferences(settings.train, skip_bad=settings.skip_bad), TEST_SHARE, seed)
    write_preferences(out / TEST, test)
    base = smollm2_folder(out / LANGUAGE_MODEL)
    lessons = []
    for name, recipe in RECIPES.items():
        shares = recipe.share_out(pool, seed)
        if shares.left is not None:
            write_preferences(out / name / REFINE, shares.left)
        lessons.append(Lesson(name, recipe.words, _text_pairs(shares.learned, recipe.flipped, seed), test))
    lessons += [_of_judge(file, seed) for file in read_candidate_files(candidates)]
    rows = []
    for lesson in lessons:
        with reporter.progress(lesson.name) as advance:
            folder = train_reward_model(base, lesson.pairs, out / lesson.name, training, seed, advance)
        write_preferences(folder / LEARNED, _as_preferences(learned_pairs(base, lesson.pairs, training), lesson.name))
        row = _measured(lesson, folder, _some(lesson.test, most, seed), reporter)
        rows.append(replace(row, pairs=min(len(lesson.pairs), training.pairs)))
        reporter.fact(lesson.name, lesson.words, f"accuracy {100 * row.accuracy:.1f}%")
        write_json(out / TABLE, RewardModelRows(settings.command, rows))
    return out / TABLE


def gold_preferences(candidates: Candidates, seed: int) -> PreferenceSet:
    """At most `PAIRS_PER_PROMPT` random pairs of candidates to each prompt whose gold differs by half or more."""
    generator = random.Random(seed)
    preferences: list[Preference] = []
    for pool in candidates.pools:
        texts = pool.responses.responses
        pairs = [
            replace(pool.responses, chosen=texts[better], rejected=(texts[worse],), set="pairwise")
            for better, worse in permutations(range(len(texts)), 2)
            if pool.gold[better] - pool.gold[worse] >= LEAST_DIFFERENCE and texts[better] != texts[worse]
        ]
        preferences += generator.sample(pairs, min(PAIRS_PER_PROMPT, len(pairs)))
    return PreferenceSet(candidates.name, tuple(preferences))


def _of_judge(file: Candidates, seed: int) -> Lesson:
    learned, test = file.split(TEST_SHARE, seed)
    name = f"gold-{file.name.split('.')[0]}"
    pairs = _text_pairs(gold_preferences(learned, seed), 0.0, seed)
    return Lesson(
        name, f"candidates of {file.name} whose gold differs by half or more", pairs, gold_preferences(test, seed)
    )


def _text_pairs(preferences: PreferenceSet, flipped: float, seed: int) -> list[TextPair]:
    """All pairs in a random order, a share of them with the better response second."""
    generator = random.Random(seed)
    pairs = [TextPair(item.prompt, item.chosen, rejected) for item in preferences for rejected in item.rejected]
    generator.shuffle(pairs)
    return [
        pair._replace(chosen=pair.rejected, rejected=pair.chosen) if generator.random() < flipped else pair
        for pair in pairs
    ]


def _as_preferences(pairs: Sequence[TextPair], name: str) -> PreferenceSet:
    return PreferenceSet(
        name,
        tuple(
            Preference(str(number), pair.prompt, pair.chosen, (pair.rejected,), UNCATEGORISED, "pairwise")
            for number, pair in enumerate(pairs)
        ),
    )


def _some(preferences: PreferenceSet, most: int, seed: int) -> PreferenceSet:
    """The pairwise preferences of as many prompts at random."""
    prompts = sorted(preferences.prompt_ids)
    random.Random(seed).shuffle(prompts)
    taken: Sequence[Preference] = preferences.of_prompts(prompts[:most]).preferences
    return PreferenceSet(preferences.name, tuple(item for item in taken if item.set == "pairwise") or tuple(taken))


def _measured(lesson: Lesson, folder: Path, test: PreferenceSet, reporter: Reporter) -> RewardModelRow:
    model = load_reward_model(str(folder), max_length=MAX_LENGTH)
    with reporter.progress(f"{lesson.name}, test") as advance:
        table = build_features(model, test, folder / "features", advance)
    responses = Responses([test])
    embedded = table.rows(responses.keys)
    assert embedded.reward is not None
    pairs = responses.pairs(test, torch.from_numpy(embedded.embedding), torch.from_numpy(embedded.reward))
    right = (pairs.reward[pairs.chosen] > pairs.reward[pairs.rejected]).double().numpy()
    prompt = np.unique(responses.prompt[pairs.chosen].numpy(), return_inverse=True)[1]
    low, high = PromptBootstrap(TestPairs(prompt)).intervals(right)["all"]
    mean = float(right.mean())
    return RewardModelRow(lesson.name, lesson.words, 0, len(test.prompt_ids), len(right), mean, low, high)
