"""What sampling the hidden spins costs and buys: the time to an equal log-loss, sampler by sampler and size by size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64
from scipy.stats import t as student

from qbrm.cli.console import Reporter
from qbrm.durable import write_atomically
from qbrm.energies import CoupledBoltzmannMachine
from qbrm.evaluation import PromptBootstrap
from qbrm.evaluation.bootstrap import TestPairs
from qbrm.fitting import Fold, fit_score
from qbrm.fitting.trunk import fit_trunk
from qbrm.preferences import PreferenceSet
from qbrm.reward_models.base import direction_dim
from qbrm.selection.candidates import Family
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.comparison.compare import Prepared, prepare
from qbrm_lab.comparison.side_by_side import each_seed
from qbrm_lab.comparison.sources import read_sources
from qbrm_lab.report.plots.png import png_bytes
from qbrm_lab.report.plots.sampling import error_figure, gain_figure, time_figure
from qbrm_lab.results.study_rows import Estimate, OverSeeds, SamplerErrorRow, SamplingResults, SamplingRow
from qbrm_lab.scenarios import VARIANTS
from qbrm_lab.studies.cache import cached, of_seed
from qbrm_lab.studies.json_files import write_json
from qbrm_lab.studies.sampler_error import SamplerError, sampler_errors
from qbrm_lab.studies.sampler_training import (
    CLOSED_FORM,
    EXACT_SUM,
    MOST_SUMMED,
    SAMPLED,
    Look,
    Parts,
    Trained,
    Variant,
    train_against_clock,
)
from qbrm_lab.studies.sampling_page import sampling_markdown

SAMPLING_FILE, PAGE = "sampling.json", "sampling.md"
PLOTS = ("time-to-loss.png", "gain-by-size.png", "error-by-time.png")
SCENARIO = "fresh"
SHARE = 0.9  # of the closed form's gain on validation pairs: the log-loss that all are to reach
PROBLEMS = 8
PROMPTS, QUICK_PROMPTS = 700, 120
LEVEL = 0.95


@dataclass(frozen=True)
class Extent:
    """What is trained, and for how long.

    Attributes:
        sizes: hidden units of the machines that every sampler trains.
        between: hidden units of those that only the closed form and Gibbs chains train.
        budget: processor seconds for each training.
    """

    sizes: tuple[int, ...]
    between: tuple[int, ...]
    budget: float

    @property
    def variants(self) -> tuple[Variant, ...]:
        """In the order of the table."""
        plain = sorted({*self.sizes, *self.between})
        summed = [Variant(EXACT_SUM, hidden) for hidden in self.sizes if hidden <= MOST_SUMMED]
        drawn = [Variant(name, hidden) for name in SAMPLED for hidden in (plain if name == "gibbs" else self.sizes)]
        return *(Variant(CLOSED_FORM, hidden) for hidden in plain), *summed, *drawn


WHOLE = Extent(sizes=(12, 64, 256), between=(32, 128), budget=25.0)
QUICK = Extent(sizes=(12, 64), between=(), budget=3.0)


@dataclass(frozen=True)
class OfSeed:
    """All that one seed measured, its trainings in the order of the variants, and the pairs that it had."""

    pairs: tuple[int, int, int]
    trained: list[Trained]
    errors: list[SamplerError]


def study_sampling(settings: ComparisonSettings, prompts: int, extent: Extent, reporter: Reporter) -> Path:
    """Train machines of many sizes with every sampler against the clock, and compare samplers with enumeration.

    The yardstick is an equal log-loss: of each size, what nine tenths of the closed form's gain on validation pairs
    come to. Writes sampling.json, three plots and sampling.md to `settings.out`, where every finished training is kept.

    Args:
        settings: of the study; scenario and methods are the study's own.
        prompts: so many random prompts of the preferences, or all where there are no more.
        extent: which sizes, and how much time.
        reporter: shows progress.

    Returns:
        The path of sampling.md.

    Raises:
        InputError: if the preferences are not usable.
    """
    prepared = prepare(settings, reporter, read_sources(settings, prompts))
    seeds = range(settings.seed, settings.seed + settings.seeds)
    run = partial(_of_seed, prepared, extent)
    measured = list(each_seed(run, seeds, settings.workers, reporter, "sampling"))
    results = SamplingResults(
        command=settings.command,
        reward_model=prepared.model.identity.title,
        seeds=settings.seeds,
        prompts=sum(len(part.prompt_ids) for part in (prepared.sources.train, *prepared.sources.tests.values())),
        pairs=measured[0].pairs,
        epochs=settings.epochs,
        budget=extent.budget,
        share=SHARE,
        trainings=_rows(prepared, extent, [one.trained for one in measured]),
        errors=_error_rows([one.errors for one in measured]),
    )
    return _write(settings.out, results)


class _Seed:
    """One seed's pairs, with the features of the reward model that it trains; made when something is to be trained."""

    def __init__(self, prepared: Prepared, seed: int) -> None:
        self._prepared, self._seed = prepared, seed
        self._roles = VARIANTS[SCENARIO].share_out(prepared.sources.train, seed)

    @property
    def n_pairs(self) -> tuple[int, int, int]:
        parts = self._roles.refinement, self._roles.validation, self._test
        train, validation, test = (part.pair_count.distinct for part in parts)
        return train, validation, test

    @property
    def _test(self) -> PreferenceSet:
        return next(iter(self._prepared.sources.tests.values()))

    @cached_property
    def parts(self) -> Parts:
        responses, vectors = self._prepared.responses, torch.from_numpy(self._prepared.embedded.embedding)
        nothing = torch.zeros(len(vectors))
        taught = self._roles.reward_model, self._roles.reward_model_validation
        pairs, validation = (responses.pairs(part, vectors, nothing) for part in taught)
        trunk, _ = fit_trunk(pairs, validation, self._seed, direction_dim=direction_dim(self._prepared.model))
        with torch.no_grad():
            embedding = trunk.embed(vectors)
            reward = trunk.reward(embedding)
        parts = self._roles.refinement, self._roles.validation, self._test
        return Parts(*(responses.pairs(part, embedding, reward) for part in parts))

    def errors(self) -> list[SamplerError]:
        """On the hidden problems that a trained machine of the smallest size has for responses of the test."""
        training, validation, test = self.parts
        family = Family("qbm", hidden=MOST_SUMMED)
        fold = Fold(training, validation, self._seed)
        score = fit_score(lambda: family.build(training.dim), fold, family.settings(training.n_pairs)).score
        assert isinstance(score, CoupledBoltzmannMachine)
        rows = test.rows()
        rows = rows[:: max(1, len(rows) // PROBLEMS)][:PROBLEMS]
        with torch.no_grad():
            problem = score.hidden_problem(score.clamp(test.embedding[rows], test.reward[rows]))
            return sampler_errors(problem, self._seed)


def _of_seed(prepared: Prepared, extent: Extent, seed: int, reporter: Reporter) -> OfSeed:
    of, settings = _Seed(prepared, seed), prepared.settings
    folder = settings.out / "sampling" / f"seed-{seed}"
    asked = {**of_seed(prepared, seed), "epochs": settings.epochs, "budget": extent.budget}
    trained = []
    for number, variant in enumerate(extent.variants, start=1):
        reporter.status(
            f"sampling, seed {seed}, {number} of {len(extent.variants)}: {variant.means}, M = {variant.hidden}"
        )
        name = f"{variant.means}-{variant.hidden}.json".replace(",", "").replace(" ", "-")
        train = partial(_train, of, variant, settings.epochs, extent.budget, seed)
        trained.append(cached(folder / name, {**asked, "variant": variant}, Trained, train))
    reporter.status(f"sampling, seed {seed}: samplers against enumeration")
    errors = cached(folder / "errors.json", asked, list[SamplerError], of.errors)
    reporter.status(None)
    return OfSeed(of.n_pairs, trained, errors)


def _train(of: _Seed, variant: Variant, epochs: int, budget: float, seed: int) -> Trained:
    return train_against_clock(variant, of.parts, epochs, budget, seed)


def _write(folder: Path, results: SamplingResults) -> Path:
    write_json(folder / SAMPLING_FILE, results)
    figures = time_figure(results.trainings), gain_figure(results.trainings), error_figure(results.errors)
    for name, figure in zip(PLOTS, figures, strict=True):
        write_atomically(folder / name, png_bytes(figure))
    path = folder / PAGE
    write_atomically(path, sampling_markdown(results).encode())
    return path


def over_seeds(values: Sequence[float]) -> OverSeeds:
    """The geometric mean of positive numbers, and Student's interval on their logarithms."""
    logs = np.log(values)
    mean = float(logs.mean())
    if len(values) == 1:
        return OverSeeds(math.exp(mean), None, None)
    reach = float(student.ppf((1 + LEVEL) / 2, len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs)))
    return OverSeeds(math.exp(mean), math.exp(mean - reach), math.exp(mean + reach))


def _over_any(values: Sequence[float]) -> OverSeeds | None:
    return over_seeds(values) if values else None


def first_at(looks: Iterable[Look], reference: Sequence[Look]) -> Look | None:
    """The first look with `SHARE` of the gain in log-loss that another training made; None if there was none."""
    if not _improves(reference):
        return None
    start, best = reference[0].nll, min(look.nll for look in reference)
    target = start - SHARE * (start - best)
    return next((look for look in looks if look.nll <= target), None)


def _improves(looks: Sequence[Look]) -> bool:
    return min(look.nll for look in looks) < looks[0].nll


def _rows(prepared: Prepared, extent: Extent, seeds: Sequence[Sequence[Trained]]) -> list[SamplingRow]:
    by_variant = dict(zip(extent.variants, zip(*seeds, strict=True), strict=True))
    bootstrap = PromptBootstrap(TestPairs(_test_prompts(prepared)), prepared.settings.seed)
    return [_row(variant, by_variant, bootstrap) for variant in extent.variants]


def _row(variant: Variant, by_variant: Mapping[Variant, Sequence[Trained]], bootstrap: PromptBootstrap) -> SamplingRow:
    trained, closed = by_variant[variant], by_variant[Variant(CLOSED_FORM, variant.hidden)]
    reached = [first_at(one.looks, of_closed.looks) for one, of_closed in zip(trained, closed, strict=True)]
    reached_looks = [look for look in reached if look is not None]
    targets = sum(_improves(one.looks) for one in closed)
    whole_time = reached_looks if len(reached_looks) == targets else []
    last = [one.looks[-1] for one in trained if one.looks]
    whole = len(last) == len(trained)

    def estimate(values: Float64[np.ndarray, " pairs"]) -> Estimate:
        return Estimate(float(values.mean()), *bootstrap.intervals(values)["all"])

    nll = np.array([one.nll for one in trained]).mean(0) if whole else None
    return SamplingRow(
        means=variant.means,
        hidden=variant.hidden,
        step_seconds=_over_any([look.seconds / look.steps for look in last]),
        problem_seconds=_over_any([one.problem_seconds for one in trained if one.problem_seconds]),
        trained=len(last),
        cut=sum(one.cut for one in trained),
        targets=targets,
        reached=len(reached_looks),
        seconds=_over_any([look.seconds for look in whole_time]),
        problems=_over_any([look.problems for look in whole_time]),
        nll=None if nll is None else estimate(nll),
        nll_over=None if nll is None else estimate(nll - np.array([one.nll for one in closed]).mean(0)),
        accuracy=estimate(np.array([one.right for one in trained], float).mean(0)) if whole else None,
    )


def _test_prompts(prepared: Prepared) -> Float64[np.ndarray, " pairs"]:
    nothing = torch.zeros(len(prepared.responses.keys))
    test = next(iter(prepared.sources.tests.values()))
    rows = prepared.responses.pairs(test, nothing[:, None], nothing).chosen
    numbers: Float64[np.ndarray, " pairs"] = np.unique(prepared.responses.prompt[rows].numpy(), return_inverse=True)[1]
    return numbers


def _error_rows(seeds: Sequence[Sequence[SamplerError]]) -> list[SamplerErrorRow]:
    return [
        SamplerErrorRow(
            sampler=same[0].sampler,
            effort=same[0].effort,
            seconds=over_seeds([one.seconds for one in same]),
            total_variation=over_seeds([one.total_variation for one in same]),
            mean_error=over_seeds([one.mean_error for one in same]),
            energy_error=over_seeds([one.energy_error for one in same]),
        )
        for same in zip(*seeds, strict=True)
    ]
