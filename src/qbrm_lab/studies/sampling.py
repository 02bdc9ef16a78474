"""What sampling the hidden spins costs and buys: accuracy against size, sampler by sampler, and error against time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from qbrm.cli.console import Reporter
from qbrm.durable import write_atomically
from qbrm.energies import CoupledBoltzmannMachine
from qbrm.features import FeatureTable
from qbrm.model.energy_reward_model import EnergyRewardModel
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.comparison.compare import Prepared, prepare, run_scenario
from qbrm_lab.comparison.records import results_of
from qbrm_lab.methods import METHODS, EnergyMethod, Method
from qbrm_lab.methods.energy import EVALUATION_SAMPLES
from qbrm_lab.report.plots.gallery import png_bytes
from qbrm_lab.report.plots.sampling import error_figure, size_figure
from qbrm_lab.report.results import Results, write_results
from qbrm_lab.studies.sampler_error import SamplerErrorRow, sampler_errors

SCENARIO = "fresh"
EXACT_SUM = "sum over all states"
CLOSED_FORM = "closed form"
PROBLEMS = 32


class Variant(NamedTuple):
    """A Boltzmann score of one size, and how its hidden units are summed over.

    Attributes:
        score: its name in `METHODS`.
        hidden: hidden units M.
        sampler: its name in `SAMPLERS`; None for no sampling.
    """

    score: str
    hidden: int
    sampler: str | None = None

    @property
    def name(self) -> str:
        """What it is called in results and folders."""
        return "-".join([self.score, str(self.hidden), *([self.sampler] if self.sampler else [])])

    @property
    def means(self) -> str:
        """How the hidden units are summed over, in words."""
        return self.sampler or (EXACT_SUM if self.score == "qbm" else CLOSED_FORM)

    def method(self, epochs: int) -> Method:
        """The compared method."""
        method = METHODS[self.score]
        assert isinstance(method, EnergyMethod)
        settings = replace(method.settings, epochs=epochs)
        return replace(method, hidden=self.hidden, sampler=self.sampler, settings=settings)


MEASURED_ON = Variant("qbm", 12)
VARIANTS = (
    *(Variant(score, hidden) for score in ("rbm", "sqrbm") for hidden in (12, 16, 32, 64, 128)),
    MEASURED_ON,
    Variant("qbm", 16, "exact"),
    *(Variant("qbm", hidden, "gibbs") for hidden in (12, 16, 32, 64, 128)),
    *(Variant("qbm", 12, sampler) for sampler in ("annealing", "kaiwu-gibbs", "descent")),
)


def study_sampling(settings: ComparisonSettings, reporter: Reporter) -> Path:
    """Train the same score with every sampler and size, and set each sampler against enumeration.

    Writes results.json (as a comparison does), sampling.json, two plots and sampling.md to `settings.out`. Features and
    training states are kept there: the same call continues where an earlier one stopped.

    Args:
        settings: source, folder, seeds and epochs; methods and samplers are the study's own.
        reporter: told what is going on.

    Returns:
        The path of sampling.md.

    Raises:
        InputError: if the source is not usable.
    """
    prepared = prepare(settings, reporter)
    methods: Mapping[str, Method] = {
        "base": METHODS["base"],
        **{variant.name: variant.method(settings.epochs) for variant in VARIANTS},
    }
    records = run_scenario(prepared, SCENARIO, methods, reporter)
    results = results_of([records], settings.command, prepared.sources, [prepared.note])
    write_results(results, settings.out)
    reporter.status("samplers against enumeration")
    errors = _errors(prepared)
    reporter.status(None)
    return _write(settings.out, results, errors)


def _errors(prepared: Prepared) -> list[SamplerErrorRow]:
    """On the hidden problems that the first seed's trained score has for test responses."""
    settings = prepared.settings
    label = f"{MEASURED_ON.name}-{SCENARIO}-seed-{settings.seed}"
    score = EnergyRewardModel.from_pretrained(settings.out / "models" / label).energy_score
    assert isinstance(score, CoupledBoltzmannMachine)
    test = next(iter(prepared.sources.tests.values()))
    keys = list(test.responses())[:: max(1, len(test.responses()) // PROBLEMS)][:PROBLEMS]
    embedded = FeatureTable.open(settings.out / "features" / f"{SCENARIO}-seed-{settings.seed}").rows(keys)
    assert embedded.reward is not None
    with torch.no_grad():
        clamped = score.clamp(torch.from_numpy(embedded.embedding), torch.from_numpy(embedded.reward))
        return sampler_errors(score.hidden_problem(clamped), settings.seed)


def _write(folder: Path, results: Results, errors: list[SamplerErrorRow]) -> Path:
    scores = _scores(results)
    content = {"schema": 1, "scores": scores, "samplers": errors}
    write_atomically(folder / "sampling.json", (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    write_atomically(folder / "accuracy-by-size.png", png_bytes(size_figure(scores)))
    write_atomically(folder / "error-by-time.png", png_bytes(error_figure(errors)))
    path = folder / "sampling.md"
    write_atomically(path, sampling_markdown(scores, errors).encode())
    return path


def _scores(results: Results) -> list[dict[str, Any]]:
    """One row per variant: what it got right on both sets, how likely it thought it was, what it cost."""
    rows = []
    for variant in VARIANTS:
        pairwise, bon = (
            next(
                row
                for row in results["summary"]
                if (row["method"], row["set"], row["category"]) == (variant.name, name, "all")
            )
            for name in ("pairwise", "bon")
        )
        seconds = {
            stage: [
                timing["seconds"]
                for timing in results["timings"]
                if timing["method"] == variant.name and timing["stage"] == stage
            ]
            for stage in ("train", "refine")
        }
        rows.append(
            {
                "score": variant.score,
                "hidden": variant.hidden,
                "sampler": variant.means,
                "pairwise": [pairwise["accuracy"], pairwise["ci_low"], pairwise["ci_high"]],
                "bon": [bon["accuracy"], bon["ci_low"], bon["ci_high"]],
                "nll": pairwise["nll"],
                "sampling": pairwise.get("sampling"),
                "train_seconds": sum(seconds["train"]) / len(seconds["train"]),
                "refine_seconds": sum(seconds["refine"]) / len(seconds["refine"]),
            }
        )
    return rows


def sampling_markdown(scores: list[dict[str, Any]], errors: list[SamplerErrorRow]) -> str:
    """Both tables, as documents show them."""
    lines = [
        "| score | M | hidden units | pairwise | best-of-n | log-loss | effective states | train | refine test |",
        "| :-- | --: | :-- | --: | --: | --: | --: | --: | --: |",
        *map(_score_line, scores),
        "",
        "| sampler | effort | seconds | total variation | error of a mean | error of the energy |",
        "| :-- | --: | --: | --: | --: | --: |",
        *map(_error_line, errors),
    ]
    return "\n".join(lines) + "\n"


def _score_line(row: dict[str, Any]) -> str:
    sampling = row["sampling"]
    error = f" ±{100 * sampling['accuracy_error']:.1f}" if sampling else ""
    loss_error = f" ±{sampling['nll_error']:.4f}" if sampling else ""
    accuracies = [
        f"{100 * a:.1f} [{100 * low:.1f}, {100 * high:.1f}]" for a, low, high in (row["pairwise"], row["bon"])
    ]
    effective = f"{min(sampling['effective_samples'], EVALUATION_SAMPLES):.0f}" if sampling else "-"
    return (
        f"| {row['score']} | {row['hidden']} | {row['sampler']} | {accuracies[0]}{error} | {accuracies[1]} | "
        f"{row['nll']:.4f}{loss_error} | {effective} | {row['train_seconds']:.1f} s | {row['refine_seconds']:.2f} s |"
    )


def _error_line(row: SamplerErrorRow) -> str:
    effort = "-" if row["effort"] is None else str(row["effort"])
    return (
        f"| {row['sampler']} | {effort} | {row['seconds']:.3f} | {row['total_variation']:.3f} | "
        f"{row['mean_error']:.4f} | {row['energy_error']:.3f} |"
    )
