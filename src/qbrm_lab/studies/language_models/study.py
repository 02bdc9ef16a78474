"""Every scenario on reward models of a language model, with two embeddings of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from qbrm.cli.console import Reporter
from qbrm.preferences import read_preferences
from qbrm.reward_models import RewardModelOptions
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.comparison.compare import Prepared, prepare
from qbrm_lab.comparison.records import data_of, results_of
from qbrm_lab.comparison.sources import sampled
from qbrm_lab.preference_lines import write_preferences
from qbrm_lab.results import Fact, Tables, write_results
from qbrm_lab.studies.embeddings import narrowed
from qbrm_lab.studies.language_models.page import EMBEDDINGS, write_page
from qbrm_lab.studies.language_models.situations import situations_of
from qbrm_lab.studies.reward_models import MAX_LENGTH, TEST
from qbrm_lab.studies.scenarios import scenario_tables

PROMPTS, TEST_PROMPTS = 300, 150
QUICK_PROMPTS, QUICK_TEST_PROMPTS = 30, 20
TRAINED = (
    *("mlp", "residual", "residual:gate,members=5", "residual:members=5,worst", "residual:members=5,uncertainty"),
    *("gaussian", "quantile", "rbm", "sqrbm", "sqrbm:deep", "sqrbm:gate,members=5", "qbm"),
)
# What reads the score layer's input or none of the embedding is the same for every embedding, and is run once.
METHODS: Mapping[str, tuple[str, ...]] = {
    "last": ("length", "base", "base:tempered", "base:length", "ebrm", *TRAINED),
    "mean": ("base", "ebrm:whole", *TRAINED),
}
QUICK_TRAINED = ("mlp", "residual", "sqrbm", "sqrbm:gate,members=5")
QUICK_METHODS: Mapping[str, tuple[str, ...]] = {
    "last": ("length", "base", "ebrm", *QUICK_TRAINED),
    "mean": ("base", "ebrm:whole", *QUICK_TRAINED),
}
WIDEST = EMBEDDINGS[-1]


def study_language_models(settings: ComparisonSettings, quick: bool, reporter: Reporter) -> Path:
    """Refine reward models of a language model in every scenario, with the score layer's input and with more.

    Writes to `settings.out` a folder for each embedding with results.json, and results.md with its plots, the page of
    all. Samples of prompts, features and finished scenarios are kept there; the same call goes on from them. What other
    studies have left in folders of their names in it is on the page too.

    Args:
        settings: `settings.train` is the folder that the study `reward-models` wrote, where a scenario whose reward
            model is missing is left out; `settings.out`, seeds and how reward models are loaded. The methods are the
            study's own.
        quick: few prompts and methods.
        reporter: shows progress.

    Returns:
        The path of results.md.

    Raises:
        InputError: if the folder lacks what the scenario fresh needs, or something else is not usable.
        TrainingError: if a training cannot go on.
    """
    prompts, test_prompts = (QUICK_PROMPTS, QUICK_TEST_PROMPTS) if quick else (PROMPTS, TEST_PROMPTS)
    folder = settings.train
    situations = situations_of(folder)
    test = _sample(folder / TEST, settings.out / TEST, test_prompts, settings.seed)
    methods = QUICK_METHODS if quick else METHODS
    tables: dict[str, list[Tables]] = {name: [] for name in EMBEDDINGS}
    prepared: list[Prepared] = []
    for situation in situations:
        out = settings.out / situation.reward_model
        train = _sample(folder / situation.file, out / f"{situation.scenarios[0]}.jsonl", prompts, settings.seed)
        options: RewardModelOptions = {"max_length": MAX_LENGTH, **settings.reward_model_options, "embedding": WIDEST}
        asked = replace(
            settings,
            train=train,
            tests=(test,),
            out=out,
            reward_model=str(folder / situation.reward_model),
            reward_model_options=options,
        )
        prepared.append(prepare(asked, reporter)._replace(all_refine=True))
        for name in EMBEDDINGS:
            part = narrowed(prepared[-1], name, reporter)
            of_embedding = replace(part.settings, methods=methods[name]).selected_methods()
            tables[name] += [scenario_tables(part, one, of_embedding, reporter) for one in situation.scenarios]
    facts: list[Fact] = [part.features for part in prepared]
    data = [row for part in prepared for row in data_of(part.sources) if row.role == "train" or part is prepared[-1]]
    for name, of_scenarios in tables.items():
        results = results_of(of_scenarios, settings.command, prepared[0].sources, facts)
        write_results(replace(results, data=data), settings.out / name)
    return write_page(settings.out)


def _sample(source: Path, target: Path, prompts: int, seed: int) -> Path:
    """So many random prompts of a file, as a file of its own."""
    return write_preferences(target, sampled(read_preferences(source), prompts, seed))
