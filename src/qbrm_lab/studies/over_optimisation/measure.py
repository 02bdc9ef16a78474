"""Over-optimisation: what the harder choice by a proxy is worth in gold."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import TypedDict

from qbrm.cli.console import Reporter
from qbrm.data.pairs import PairData
from qbrm.errors import InputError, check_known
from qbrm.features import FeatureTable
from qbrm.fitting.committee import MEMBER_SEEDS
from qbrm.fitting.trunk import fit_trunk
from qbrm.preferences import PreferenceSet, check_disjoint
from qbrm.reward_models.trunk import Trunk
from qbrm_lab.comparison.side_by_side import each_seed
from qbrm_lab.methods import Task
from qbrm_lab.methods.base import Rewards
from qbrm_lab.responses import Features, Responses
from qbrm_lab.scenarios import FLIPPED_SHARE, VARIANTS, Roles
from qbrm_lab.studies.cache import cached, code_digest, preferences_digest, setting_of
from qbrm_lab.studies.over_optimisation.gold_curves import CurveRow, Curves, PeakRow, curve_rows, curves_of, peak_rows
from qbrm_lab.studies.over_optimisation.judges import Data, Judge, Labels, Simulation, features_of
from qbrm_lab.studies.over_optimisation.proxies import PROXIES

GoldFrom = Literal["simulation", "labels"]

SIZES = 41


@dataclass(frozen=True)
class OverOptimisationSettings:
    """How over-optimisation is measured.

    Attributes:
        gold_from: ``simulation``: a random function of the encoder's vectors is the gold reward, labels all training
            pairs and judges candidates drawn around held-out prompts. ``labels``: people's own labels train, and the
            winner among a held-out best-of-n's responses is worth one if it is the chosen one, else zero.
        scenario: one of `VARIANTS`; ``fresh`` gives the scores pairs that the reward model has not seen, so
            they know more labels than base and its ensembles; ``same``, the paper's protocol, gives them no others, and
            validation may then keep a refinement as it starts, at the base reward.
        methods: names in `PROXIES`.
        seeds: of the world, the split of the training prompts, the wrong labels, all training and the candidates.
        prompts: held-out prompts that candidates are drawn for; EBRM's ascent sets the price.
        pool: candidates for each of them, and the largest n.
        workers: processes that run seeds side by side, one thread each; None: this process runs them all.
    """

    gold_from: GoldFrom = "simulation"
    scenario: str = "fresh"
    methods: tuple[str, ...] = tuple(PROXIES)
    seeds: tuple[int, ...] = (0, 1, 2)
    prompts: int = 5
    pool: int = 10_000
    workers: int | None = None


class OverOptimisation(TypedDict):
    """What came out.

    `rows` has gold and proxy reward against n, `peaks` one row per method, `notes` facts such as a chosen z. Simulated
    gold is in deviations of the pool from its mean, gold from labels is a share of right choices. The method ``gold``
    chooses by gold itself: no proxy does better.
    """

    gold_from: GoldFrom
    scenario: str
    rows: list[CurveRow]
    peaks: list[PeakRow]
    notes: list[str]


def over_optimisation(
    train: PreferenceSet,
    test: PreferenceSet,
    table: FeatureTable,
    out: Path,
    reporter: Reporter,
    settings: OverOptimisationSettings | None = None,
) -> OverOptimisation:
    """Best-of-n against a gold reward, by proxies that learned from preferences of which a quarter is wrong.

    A gold reward labels the training pairs, a quarter of the labels are turned round, and reward model, ensembles and
    scores learn from what is left. Each then picks the best of n candidates, and gold says what the pick is worth; see
    :func:`~qbrm_lab.evaluation.best_of_n.best_of_n`. Gao et al. (2023), arXiv 2210.10760; with wrong labels and
    ensembles, Coste et al. (2024), arXiv 2310.02743.

    Training states and finished seeds are kept in `out`; the same call continues where an earlier one stopped.

    Args:
        train: preferences to train on.
        test: held-out preferences.
        table: the encoder's vectors of all their responses.
        out: folder for what is kept.
        reporter: told what is going on.
        settings: how; None for the defaults.

    Raises:
        InputError: if a name is unknown, the table comes from a trained reward model, prompts are on both sides, or
            there are too few held-out prompts.
    """
    settings = settings or OverOptimisationSettings()
    data = _data(train, test, table, settings)
    found: dict[int, Curves] = {}
    notes: list[str] = []
    label = f"over-optimisation, gold from {settings.gold_from}, {settings.scenario}"
    curves = each_seed(partial(_curves, data, settings, out, label), settings.seeds, settings.workers, reporter, label)
    for seed, (of_seed, noted) in zip(settings.seeds, curves, strict=True):
        found[seed] = of_seed
        notes += noted
    reporter.status(None)
    return OverOptimisation(
        gold_from=settings.gold_from,
        scenario=settings.scenario,
        rows=curve_rows(found),
        peaks=peak_rows(found),
        notes=notes,
    )


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


def _curves(
    data: Data, settings: OverOptimisationSettings, out: Path, label: str, seed: int, reporter: Reporter
) -> tuple[Curves, list[str]]:
    reporter.status(f"{label}, seed {seed}")
    return _kept(out, _asked(data, settings, seed), partial(_run_seed, data, settings, seed, out))


def _asked(data: Data, settings: OverOptimisationSettings, seed: int) -> dict[str, Any]:
    """All that a seed's curves depend on."""
    return {
        "gold_from": settings.gold_from,
        "scenario": settings.scenario,
        "seed": seed,
        "methods": {name: setting_of(PROXIES[name]) for name in settings.methods},
        "candidates": [settings.prompts, settings.pool] if settings.gold_from == "simulation" else [],
        "data": preferences_digest([data.train, data.test]),
        "vectors": hashlib.sha256(data.vector.numpy().tobytes()).hexdigest(),
        "code": code_digest(),
    }


def _kept(out: Path, asked: dict[str, Any], run: Callable[[], tuple[Curves, list[str]]]) -> tuple[Curves, list[str]]:
    """What an earlier call with the same question found, else what `run` finds."""

    def answer() -> dict[str, Any]:
        curves, notes = run()
        gold, proxy = ({name: curve.tolist() for name, curve in part.items()} for part in (curves.gold, curves.proxy))
        return {"n": curves.n, "gold": gold, "proxy": proxy, "notes": notes}

    path = out / f"over-optimisation-{asked['gold_from']}-{asked['scenario']}-seed-{asked['seed']}.json"
    known = cached(path, asked, answer)
    gold, proxy = ({name: np.array(curve) for name, curve in known[part].items()} for part in ("gold", "proxy"))
    return Curves(tuple(known["n"]), gold, proxy), known["notes"]


def _run_seed(data: Data, settings: OverOptimisationSettings, seed: int, out: Path) -> tuple[Curves, list[str]]:
    simulated = settings.gold_from == "simulation"
    judge = Simulation(data, settings.prompts, settings.pool, seed) if simulated else Labels(data)
    folder = out / "training" / f"{settings.gold_from}-{settings.scenario}-seed-{seed}"
    teacher = _Teacher(data, VARIANTS[settings.scenario](data.train, seed), judge, seed, folder)
    trunk = teacher.reward_model(0)
    fitted = {name: PROXIES[name].fit(teacher.task(trunk, name)) for name in settings.methods}
    pools = judge.pools(fitted, trunk)
    sizes = sizes_up_to(min(len(pool.gold) for pool in pools))
    return curves_of(pools, sizes), [note for each in fitted.values() for note in each.notes]


class _Teacher:
    """Gives proxies their preferences: a judge's labels, a quarter of them turned round.

    Args:
        data: preferences and vectors.
        roles: which preferences are for what.
        judge: says which response is better.
        seed: of the wrong labels and all training.
        folder: where training states are kept.
    """

    def __init__(self, data: Data, roles: Roles, judge: Judge, seed: int, folder: Path) -> None:
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
        trunk, _ = fit_trunk(pairs, validation, self._seed + MEMBER_SEEDS * member, checkpoint=checkpoint)
        return trunk

    def task(self, trunk: Trunk, method: str) -> Task:
        """What a method is fitted to."""
        features = features_of(trunk, self._data.vector)
        return Task(
            self._pairs(self._roles.refinement, features),
            self._pairs(self._roles.validation, features),
            features,
            self._seed,
            self._folder / method / "checkpoint.safetensors",
            measure=lambda rewards: {},
            on_epoch=lambda epoch: None,
            member=self._member,
            head_dim=trunk.size,
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
