"""``qbrm evaluate``: read, embed, refine, score, report."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from typing_extensions import Unpack

from qbrm.benchmarks.evaluate import BenchmarkResult, evaluate
from qbrm.benchmarks.report import print_results, write_results
from qbrm.benchmarks.source import BenchmarkSource, read_benchmark
from qbrm.cli.console import Reporter
from qbrm.cli.options import command_line
from qbrm.cli.preferences import cut_facts, report_left_out
from qbrm.durable import one_writer
from qbrm.features import FeatureTable
from qbrm.model.energy_reward_model import EnergyRewardModel
from qbrm.model.training_prompts import read_training_prompts
from qbrm.preferences.digest import prompt_digests
from qbrm.reward_models import LoadOptions


def evaluate_model(
    model: str,
    sources: Sequence[str],
    out: Path | None,
    seed: int,
    *,
    skip_bad: bool = False,
    **options: Unpack[LoadOptions],
) -> None:
    """Evaluate a saved model on benchmarks, print their tables and write them, by default to a folder named after it.

    Model and options are those of `EnergyRewardModel.from_pretrained`, sources those of `read_benchmark`.

    Raises:
        InputError: if the model, a source or the folder is not usable.
    """
    reporter = Reporter()
    folder = out or Path("runs/evaluation", _folder_name(model))
    benchmarks = [_read(source, reporter, skip_bad=skip_bad) for source in sources]
    refined = EnergyRewardModel.from_pretrained(model, **options)
    with one_writer(folder):
        features = folder / "features"
        with reporter.progress("features") as advance:
            results = evaluate(refined, benchmarks, features, seed=seed, progress=advance)
        table = FeatureTable.without_checking(features)
        identity = str(refined.reward_model.identity)
        reporter.fact("features", f"{len(table):,} responses", *cut_facts(table), identity, f"kept in {features}")
        results = [_with_trained_on(result, Path(model)) for result in results]
        print_results(results, reporter.console)
        reporter.fact("results", *map(str, write_results(results, model, command_line(), folder)))


def _folder_name(model: str) -> str:
    """Tells models apart that lie in different places under one name."""
    path = Path(model).resolve()
    place = str(path) if path.is_dir() else model
    return f"{path.name}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"


def _with_trained_on(result: BenchmarkResult, folder: Path) -> BenchmarkResult:
    known = read_training_prompts(folder)
    if known is None:
        return result
    return result._replace(trained_on=int(np.isin(prompt_digests(result.prompts), known).sum()))


def _read(source: str, reporter: Reporter, *, skip_bad: bool) -> BenchmarkSource:
    reporter.status(f"reading {source}")
    try:
        benchmark = read_benchmark(source, skip_bad=skip_bad)
    finally:
        reporter.status(None)
    prompts = len({item.prompt_id for item in benchmark.items})
    reporter.fact(source, benchmark.benchmark.title, f"{len(benchmark.items):,} items", f"{prompts:,} prompts")
    report_left_out(benchmark.left_out, reporter)
    return benchmark
