"""The whole comparison: features, training, refinement, evaluation."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from qbrm.cli.console import Reporter
from qbrm.cli.preferences import report_preferences
from qbrm.errors import InputError
from qbrm.evaluation import PromptBootstrap
from qbrm.features import FeatureTable, build_features
from qbrm.preferences import PreferenceSet
from qbrm.reward_models import Embedded, RewardModel, load_reward_model
from qbrm_lab.comparison.evaluate import EvaluationSet, PartOfTest
from qbrm_lab.comparison.metrics_log import import_wandb
from qbrm_lab.comparison.one_seed import SETS, SeedRun, run_seed
from qbrm_lab.comparison.records import Records, results_of
from qbrm_lab.comparison.settings import ComparisonSettings
from qbrm_lab.comparison.side_by_side import each_seed
from qbrm_lab.comparison.sources import Sources, read_sources
from qbrm_lab.comparison.verdicts import judged_pairs
from qbrm_lab.methods.base import Method
from qbrm_lab.responses import Responses
from qbrm_lab.results import Fact, Results
from qbrm_lab.results.facts import FeaturesEmbedded, RunTime
from qbrm_lab.scenarios import SCENARIOS, VARIANTS, Roles, by_domain, same


class Prepared(NamedTuple):
    """What all scenarios, seeds and methods of a comparison share.

    Attributes:
        responses: the rows of all tables.
        model: the reward model, or the encoder that one is trained on.
        embedded: what `model` gave for every response.
        features: how the features came about.
        fine_tuned: whether `model` was trained on what the first seed's roles have for the reward model. Those roles
            then hold for all seeds, so that no score is refined or tested on what the model has seen.
        all_refine: whether all training preferences refine and validate in a scenario for whose sake `model` was
            trained on others.
    """

    settings: ComparisonSettings
    sources: Sources
    responses: Responses
    model: RewardModel
    embedded: Embedded
    features: FeaturesEmbedded
    fine_tuned: bool = False
    all_refine: bool = False


def compare(settings: ComparisonSettings, reporter: Reporter) -> Results:
    """Compare methods on held-out preferences.

    Features and training states are kept in `settings.out`; the same call continues where an earlier one stopped.

    Raises:
        InputError: if something given is not usable.
        TrainingError: if a training cannot go on.
    """
    start = time.perf_counter()
    methods = settings.selected_methods()
    if settings.wandb:
        import_wandb()
    prepared = prepare(settings, reporter)
    records = [run_scenario(prepared, name, methods, reporter) for name in SCENARIOS[settings.scenario]]
    seeds = f"{settings.seeds} seed{'s' * (settings.seeds > 1)}"
    reporter.fact("training", *_training_times(records), seeds)
    for fact in (fact for of_scenario in records for fact in of_scenario.facts):
        reporter.fact("note", fact.sentence)
    facts: list[Fact] = [prepared.features, RunTime(seconds=time.perf_counter() - start)]
    return results_of([part.tables() for part in records], settings.command, prepared.sources, facts)


def prepare(settings: ComparisonSettings, reporter: Reporter, sources: Sources | None = None) -> Prepared:
    """Read the preferences, unless `sources` has them, and embed all their responses.

    Raises:
        InputError: if something given is not usable.
    """
    sources = sources or read_sources(settings)
    _describe(sources, reporter)
    model = load_reward_model(settings.reward_model, **settings.reward_model_options)
    everything = [sources.train, *sources.tests.values()]
    responses = Responses(everything)
    table, features = embed(model, everything, settings.out / "features", reporter)
    return Prepared(settings, sources, responses, model, table.rows(responses.keys), features)


def run_scenario(prepared: Prepared, scenario: str, methods: Mapping[str, Method], reporter: Reporter) -> Records:
    """Run all seeds and methods of one scenario.

    Raises:
        InputError: if the scenario is not for such a reward model.
        TrainingError: if a training cannot go on.
        WorkerError: if a process that runs a seed is killed.
    """
    settings = prepared.settings
    records = _no_records(prepared, scenario)
    seeds = range(settings.seed, settings.seed + settings.seeds)
    run = partial(_run_seed, prepared, scenario, methods)
    for of_seed in each_seed(run, seeds, settings.workers, reporter, scenario):
        records.extend(of_seed)
    return records


def _run_seed(
    prepared: Prepared, scenario: str, methods: Mapping[str, Method], seed: int, reporter: Reporter
) -> Records:
    settings, sources, responses, model, embedded, _, fine_tuned, all_refine = prepared
    if all_refine:
        share_out = same if scenario in SCENARIOS else VARIANTS[scenario].share_out
    else:
        share_out = VARIANTS[scenario].share_out if fine_tuned else _split(scenario, embedded.reward is not None)
    roles = share_out(sources.train, settings.seed if fine_tuned else seed)
    records = _no_records(prepared, scenario)
    run = SeedRun(settings, scenario, seed, roles, responses, model, embedded, reporter, fine_tuned)
    run_seed(run, methods, records)
    return records


def _no_records(prepared: Prepared, scenario: str) -> Records:
    """The tests of a scenario, before anything is measured on them."""
    tests = {PartOfTest(name): test for name, test in prepared.sources.tests.items()}
    if scenario == "shift":
        for name, test in prepared.sources.tests.items():
            tests |= {PartOfTest(name, domain): part for domain, part in by_domain(test).items()}
    sets = [
        EvaluationSet(part, set_name, items, PromptBootstrap(items, prepared.settings.seed))
        for part, test in tests.items()
        for set_name in SETS
        if (items := prepared.responses.items(test, set_name)) is not None
    ]
    prompt = prepared.responses.prompt.numpy()
    return Records(scenario, sets, judged_pairs(sets, prompt, prepared.settings.seed))


def _split(scenario: str, model_is_trained: bool) -> Callable[[PreferenceSet, int], Roles]:
    """How a scenario shares out the training preferences; a reward model that came trained needs none of them."""
    if model_is_trained and scenario == "noise":
        raise InputError(
            "scenario noise trains the reward model with wrong labels; expected the embedded reward model."
        )
    if model_is_trained and scenario == "fresh":
        return same
    return VARIANTS[scenario].share_out


def _describe(sources: Sources, reporter: Reporter) -> None:
    train = sources.train
    report_preferences(train, reporter, f"{len(train.categories)} categories", "training and validation")
    for name, test in sources.tests.items():
        report_preferences(test, reporter, f"test, held out of {name}" if sources.held_out else "test", name=name)


def embed(
    model: RewardModel, sets: Sequence[PreferenceSet], folder: Path, reporter: Reporter
) -> tuple[FeatureTable, FeaturesEmbedded]:
    """Embed all responses of several preference sets that `folder` does not have yet."""
    union = PreferenceSet("all sources", tuple(preference for part in sets for preference in part))
    start, counts = time.perf_counter(), [0]

    def follow(done: int, total: int) -> None:
        counts.append(done)
        advance(done, total)

    with reporter.progress("features") as advance:
        table = build_features(model, union, folder, follow)
    fact = FeaturesEmbedded(
        responses=len(union.responses()),
        identity=model.identity.title,
        embedded_now=counts[-1] - counts[1] if len(counts) > 1 else 0,
        seconds=time.perf_counter() - start,
        folder=str(folder),
        cut=table.cut,
    )
    reporter.fact("features", *fact.columns)
    return table, fact


def _training_times(records: Sequence[Records]) -> list[str]:
    seconds: dict[str, float] = {}
    for timing in (timing for of_scenario in records for timing in of_scenario.timings):
        if timing.stage == "train":
            seconds[timing.method] = seconds.get(timing.method, 0.0) + timing.seconds
    return [f"{method} {spent:.0f} s" for method, spent in seconds.items()]
