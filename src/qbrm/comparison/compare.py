"""The whole comparison: features, training, refinement, evaluation, report."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

from qbrm.comparison.evaluate import EvaluationSet
from qbrm.comparison.one_seed import SETS, SeedRun, run_seed
from qbrm.comparison.records import Records
from qbrm.comparison.responses import Responses
from qbrm.comparison.scenario import SCENARIOS, same
from qbrm.comparison.settings import ComparisonSettings
from qbrm.comparison.sources import Sources, read_sources
from qbrm.console import Reporter
from qbrm.evaluation import PromptBootstrap
from qbrm.features import FeatureTable, build_features
from qbrm.preferences import PreferenceSet, training_pairs
from qbrm.report import Results, write_report
from qbrm.reward_models import RewardModel, load_reward_model
from qbrm.training.metrics import import_wandb


def compare(settings: ComparisonSettings, reporter: Reporter) -> tuple[Results, Path]:
    """Compare methods on held-out preferences and write the report.

    Features and training states are kept in `settings.out`; the same call continues where an earlier one stopped.

    Args:
        settings: what to compare.
        reporter: told what is going on.

    Returns:
        The results, and the path of the HTML report.

    Raises:
        InputError: if something given is not usable.
        TrainingError: if a training cannot go on.
    """
    start = time.perf_counter()
    methods = settings.selected_methods()
    if settings.wandb:
        import_wandb()
    sources = read_sources(settings)
    _describe(sources, reporter)
    model = load_reward_model(settings.reward_model, **settings.reward_model_options)
    everything = [sources.train, *sources.tests.values()]
    responses = Responses(everything)
    table, embedding_note = _embed(model, everything, settings.out / "features", reporter)
    embedded = table.rows(responses.keys)
    records = Records(settings.scenario, _evaluation_sets(sources, responses, settings.seed))
    for seed in range(settings.seed, settings.seed + settings.seeds):
        roles = (SCENARIOS[settings.scenario] if embedded.reward is None else same)(sources.train, seed)
        run_seed(SeedRun(settings, seed, roles, responses, model, embedded, reporter), methods, records)
    reporter.fact("training", *_training_times(records), f"{settings.seeds} seed{'s' * (settings.seeds > 1)}")
    for note in records.notes:
        reporter.fact("note", note)
    records.notes += [embedding_note, f"whole run: {time.perf_counter() - start:.0f} s"]
    results = records.results(settings, sources)
    return results, write_report(results, settings.out)


def _describe(sources: Sources, reporter: Reporter) -> None:
    train = sources.train
    reporter.fact(
        train.name,
        f"{len(train.prompt_ids):,} prompts",
        f"{len(training_pairs(train)):,} pairs",
        f"{len(train.categories)} categories",
        "training and validation",
    )
    for name, test in sources.tests.items():
        origin = f"test, held out of {name}" if sources.held_out else "test"
        reporter.fact(name, f"{len(test.prompt_ids):,} prompts", f"{len(training_pairs(test)):,} pairs", origin)


def _embed(model: RewardModel, sets: list[PreferenceSet], folder: Path, reporter: Reporter) -> tuple[FeatureTable, str]:
    union = PreferenceSet("all sources", tuple(preference for part in sets for preference in part))
    start, counts = time.perf_counter(), [0]

    def follow(done: int, total: int) -> None:
        counts.append(done)
        advance(done, total)

    with warnings.catch_warnings(), reporter.progress("features") as advance:
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_: reporter.fact("features", str(message))
        table = build_features(model, union, folder, follow)
    seconds = time.perf_counter() - start
    embedded = counts[-1] - counts[1] if len(counts) > 1 else 0
    facts = (
        f"{len(union.responses()):,} responses",
        str(model.identity),
        f"{embedded:,} embedded now in {seconds:.0f} s (kept in {folder})",
    )
    reporter.fact("features", *facts)
    return table, "features: " + ", ".join(facts[::2])


def _evaluation_sets(sources: Sources, responses: Responses, seed: int) -> list[EvaluationSet]:
    found = [
        (name, set_name, responses.items(test, set_name)) for name, test in sources.tests.items() for set_name in SETS
    ]
    return [
        EvaluationSet(name, set_name, items, PromptBootstrap(items, seed))
        for name, set_name, items in found
        if items is not None
    ]


def _training_times(records: Records) -> list[str]:
    seconds: dict[str, float] = {}
    for timing in records.timings:
        if timing["stage"] == "train":
            seconds[timing["method"]] = seconds.get(timing["method"], 0.0) + timing["seconds"]
    return [f"{method} {spent:.0f} s" for method, spent in seconds.items()]
