"""Over-optimisation: the gold reward of the best of n responses by a proxy."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import Self

from qbrm.cli.console import Reporter
from qbrm.data.pairs import PairData
from qbrm.errors import InputError, check_known
from qbrm.features import FeatureTable
from qbrm.fitting.committee import MEMBER_SEEDS
from qbrm.fitting.trunk import fit_trunk
from qbrm.preferences import PreferenceSet, check_disjoint
from qbrm.reward_models.trunk import Trunk
from qbrm_lab.comparison.side_by_side import each_seed
from qbrm_lab.methods import folder_name
from qbrm_lab.methods.base import Rewards, Task
from qbrm_lab.responses import Features, Responses
from qbrm_lab.results.facts import TrainingFact
from qbrm_lab.results.study_rows import CurveRow, PeakRow
from qbrm_lab.scenarios import FLIPPED_SHARE, VARIANTS, Roles
from qbrm_lab.studies.cache import cached, preferences_digest, settings_of
from qbrm_lab.studies.over_optimisation.gold_curves import Curves, curve_rows, curves_of, peak_rows
from qbrm_lab.studies.over_optimisation.proxies import PROXIES
from qbrm_lab.studies.over_optimisation.simulation import Data, Simulation, features_of

SIZES = 41


@dataclass(frozen=True)
class OverOptimisationSettings:
    """How over-optimisation is measured.

    Attributes:
        scenario: one of `VARIANTS`. In ``same``, validation may keep a refinement at the base reward, where it starts.
        methods: names in `PROXIES`.
        seeds: seed the world, the split of the training prompts, the wrong labels, all training and the candidates.
        prompts: number of held-out prompts that candidates are drawn for; EBRM's ascent takes most of the time.
        pool: number of candidates per prompt, and the largest n.
        workers: processes that run seeds side by side, one thread each; None: this process runs them all.
    """

    scenario: str = "fresh"
    methods: tuple[str, ...] = tuple(PROXIES)
    seeds: tuple[int, ...] = (0, 1, 2)
    prompts: int = 5
    pool: int = 10_000
    workers: int | None = None


@dataclass(frozen=True)
class OverOptimisation:
    """What was measured; gold is in deviations of the pool from its mean.

    The method ``gold`` chooses by gold itself: no proxy does better.

    Attributes:
        scenario: as in the settings.
        rows: gold and proxy reward against n.
        peaks: one row per method.
        facts: facts on the trainings, such as a chosen z.
    """

    scenario: str
    rows: list[CurveRow]
    peaks: list[PeakRow]
    facts: list[TrainingFact] = field(default_factory=list)


@dataclass(frozen=True)
class SeedResult:
    """One seed's curves as JSON can hold them, and the facts of its trainings."""

    n: list[int]
    gold: dict[str, list[list[float]]]
    proxy: dict[str, list[list[float]]]
    facts: list[TrainingFact]

    @classmethod
    def of(cls, curves: Curves, facts: list[TrainingFact]) -> Self:
        """Curves as lists."""
        gold, proxy = ({name: curve.tolist() for name, curve in part.items()} for part in (curves.gold, curves.proxy))
        return cls(list(curves.n), gold, proxy, facts)

    @property
    def curves(self) -> Curves:
        """The curves as arrays."""
        gold, proxy = ({name: np.array(curve) for name, curve in part.items()} for part in (self.gold, self.proxy))
        return Curves(tuple(self.n), gold, proxy)


def over_optimisation(
    train: PreferenceSet,
    test: PreferenceSet,
    table: FeatureTable,
    out: Path,
    reporter: Reporter,
    settings: OverOptimisationSettings | None = None,
) -> OverOptimisation:
    """Best-of-n against a gold reward, by proxies that learned from preferences of which a quarter is wrong.

    A random function of the encoder's vectors is the gold reward. It labels the training pairs, a quarter of the labels
    are flipped, and reward model, ensembles and scores learn from them. Each then picks the best of n candidates drawn
    around held-out prompts, and gold says what the pick is worth; see
    :func:`~qbrm_lab.evaluation.best_of_n.best_of_n`. Gao et al. (2023), arXiv 2210.10760; with wrong labels and
    ensembles, Coste et al. (2024), arXiv 2310.02743.

    Training states and finished seeds are kept in `out`; the same call continues where an earlier one stopped.

    Args:
        train: preferences to train on.
        test: held-out preferences.
        table: the encoder's vectors of all their responses.
        out: folder for what is kept.
        reporter: shows progress.
        settings: how; None for the defaults.

    Raises:
        InputError: if a name is unknown, the table comes from a trained reward model, prompts are on both sides, or
            there are too few held-out prompts.
    """
    settings = settings or OverOptimisationSettings()
    data = _data(train, test, table, settings)
    label = f"over-optimisation, {settings.scenario}"
    run = partial(_seed_result, data, settings, out, label)
    results = list(each_seed(run, settings.seeds, settings.workers, reporter, label))
    reporter.status(None)
    curves = {seed: result.curves for seed, result in zip(settings.seeds, results, strict=True)}
    facts = [fact for result in results for fact in result.facts]
    return OverOptimisation(settings.scenario, curve_rows(curves), peak_rows(curves), facts)


def _data(train: PreferenceSet, test: PreferenceSet, table: FeatureTable, settings: OverOptimisationSettings) -> Data:
    check_known("scenario", settings.scenario, VARIANTS)
    for name in settings.methods:
        check_known("method", name, PROXIES)
    if table.has_reward:
        raise InputError(
            f"features in {table.folder} come from {table.identity}, which came trained; over-optimisation trains its "
            "own reward model on wrong labels; expected features of an encoder without a score layer."
        )
    check_disjoint(train, test)
    responses = Responses([train, test])
    return Data(train, test, responses, torch.from_numpy(table.rows(responses.keys).embedding))


def _seed_result(
    data: Data, settings: OverOptimisationSettings, out: Path, label: str, seed: int, reporter: Reporter
) -> SeedResult:
    """What an earlier call with the same question left, else what the seed gives now."""
    reporter.status(f"{label}, seed {seed}")
    path = out / f"over-optimisation-{settings.scenario}-seed-{seed}.json"
    question = _question(data, settings, seed)
    return cached(path, question, SeedResult, lambda: SeedResult.of(*_run_seed(data, settings, seed, out)))


def _question(data: Data, settings: OverOptimisationSettings, seed: int) -> dict[str, Any]:
    """All that a seed's curves depend on."""
    return {
        "scenario": settings.scenario,
        "seed": seed,
        "methods": {name: settings_of(PROXIES[name]) for name in settings.methods},
        "candidates": [settings.prompts, settings.pool],
        "data": preferences_digest([data.train, data.test]),
        "vectors": hashlib.sha256(data.vector.numpy().tobytes()).hexdigest(),
    }


def _run_seed(
    data: Data, settings: OverOptimisationSettings, seed: int, out: Path
) -> tuple[Curves, list[TrainingFact]]:
    judge = Simulation(data, settings.prompts, settings.pool, seed)
    folder = out / "training" / f"simulation-{settings.scenario}-seed-{seed}"
    teacher = _Teacher(data, VARIANTS[settings.scenario].share_out(data.train, seed), judge, seed, folder)
    trunk = teacher.reward_model(0)
    fitted = {name: PROXIES[name].fit(teacher.task(trunk, name)) for name in settings.methods}
    pools = judge.pools(fitted, trunk)
    sizes = sizes_up_to(min(len(pool.gold) for pool in pools))
    return curves_of(pools, sizes), [fact for proxy in fitted.values() for fact in proxy.facts]


class _Teacher:
    """Gives proxies their preferences: the simulated judge's labels, a quarter of them flipped.

    Args:
        data: preferences and vectors.
        roles: which preferences are for what.
        judge: says which response is better.
        seed: seeds the wrong labels and all training.
        folder: where training states are kept.
    """

    def __init__(self, data: Data, roles: Roles, judge: Simulation, seed: int, folder: Path) -> None:
        self._data, self._roles, self._judge, self._seed, self._folder = data, roles, judge, seed, folder

    def _pairs(self, part: PreferenceSet, features: Features) -> PairData:
        pairs = self._data.responses.pairs(part, features.embedding, features.reward)
        return self._judge.label(pairs).with_flipped_labels(FLIPPED_SHARE, self._seed)

    def reward_model(self, member: int) -> Trunk:
        """Reward model number 0, the compared one, or another that differs in its seed."""
        vector = self._data.vector
        blank = Features(vector, torch.zeros(len(vector)), self._data.responses.length)
        parts = self._roles.reward_model, self._roles.reward_model_validation
        pairs, validation = (self._pairs(part, blank) for part in parts)
        checkpoint = self._folder / f"base-{member}" / "checkpoint.safetensors"
        seed = self._seed + MEMBER_SEEDS * member
        # Vectors of simulated candidates are no directions.
        trunk, _ = fit_trunk(pairs, validation, seed, direction_dim=None, checkpoint=checkpoint)
        return trunk

    def task(self, trunk: Trunk, method: str) -> Task:
        """What a method is fitted to."""
        features = features_of(trunk, self._data.vector)
        return Task(
            self._pairs(self._roles.refinement, features),
            self._pairs(self._roles.validation, features),
            features,
            self._seed,
            self._folder / folder_name(method) / "checkpoint.safetensors",
            measure=lambda rewards: {},
            on_epoch=lambda epoch: None,
            member=self._member,
            head_dim=trunk.head_dim,
            prompt=self._data.responses.prompt if self._roles.are_apart else None,
        )

    def _member(self, index: int) -> Rewards:
        trunk = self.reward_model(index)

        def rewards(features: Features) -> Float[Tensor, " responses"]:
            assert features.vector is not None
            return features_of(trunk, features.vector).reward

        return rewards


def sizes_up_to(pool: int) -> tuple[int, ...]:
    """Numbers of responses to choose from: 1 to the whole pool, evenly spaced in log n."""
    return tuple(int(n) for n in np.unique(np.geomspace(1, pool, SIZES).round()))
