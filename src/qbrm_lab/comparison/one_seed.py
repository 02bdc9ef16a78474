"""One seed of a comparison: reward model, methods, outcomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from qbrm.cli.console import Reporter
from qbrm.features import write_features
from qbrm.features.pair_list import write_training_pairs
from qbrm.fitting import Training
from qbrm.fitting.committee import MEMBER_SEEDS
from qbrm.fitting.trainer import Epoch
from qbrm.fitting.trunk import fit_trunk
from qbrm.model.energy_reward_model import EnergyRewardModel
from qbrm.model.model_card import Provenance
from qbrm.preferences import PreferenceSet, SetName
from qbrm.preferences.digest import prompt_digests
from qbrm.reward_models import Embedded, RewardModel
from qbrm.reward_models.base import direction_dim, head_dim
from qbrm.reward_models.encoder_reward_model import EncoderRewardModel
from qbrm.reward_models.trunk import Trunk
from qbrm_lab.comparison.densities import density_rows
from qbrm_lab.comparison.evaluate import outcomes, refine_tests
from qbrm_lab.comparison.metrics_log import MetricsLog, MetricsLogs, TensorBoardLog, WandbLog
from qbrm_lab.comparison.records import Records
from qbrm_lab.comparison.sampling import with_sampling
from qbrm_lab.comparison.settings import ComparisonSettings
from qbrm_lab.comparison.uncertainty import with_deviations
from qbrm_lab.comparison.verdicts import references
from qbrm_lab.evaluation.outcomes import is_correct
from qbrm_lab.methods import folder_name
from qbrm_lab.methods.base import BRADLEY_TERRY, Fitted, Method, Rewards, Task
from qbrm_lab.methods.energy import EnergyMethod
from qbrm_lab.responses import Features, Responses
from qbrm_lab.results import as_json
from qbrm_lab.results.facts import UntrainedKept
from qbrm_lab.scenarios import Roles

SETS: tuple[SetName, ...] = ("pairwise", "bon")


class SeedRun(NamedTuple):
    """Everything that one seed of a comparison works with.

    Attributes:
        roles: which preferences are for what.
        responses: the rows of all tables.
        model: the reward model, or the encoder that one is trained on.
        embedded: what `model` gave for every response.
        fine_tuned: whether `model` was trained on the roles' preferences for the reward model.
    """

    settings: ComparisonSettings
    scenario: str
    seed: int
    roles: Roles
    responses: Responses
    model: RewardModel
    embedded: Embedded
    reporter: Reporter
    fine_tuned: bool = False

    @property
    def label(self) -> str:
        """Names the files of this seed."""
        return f"{self.scenario}-seed-{self.seed}"

    @property
    def may_share_out(self) -> bool:
        """Whether the rewards of training pairs are as good as those of others: not if the model learned from them."""
        came_trained = self.embedded.reward is not None and not self.fine_tuned
        return came_trained or self.roles.are_apart

    def folder(self, method: str) -> Path:
        """Where a method's training state and metrics go."""
        return self.settings.out / "training" / folder_name(method) / self.label


def run_seed(run: SeedRun, methods: Mapping[str, Method], records: Records) -> None:
    """Train the reward model if it needs it, then every method; evaluate and record."""
    reward_model, features = _reward_model_features(run, records)
    pairs = run.responses.pairs(run.roles.refinement, features.embedding, features.reward)
    validation = run.responses.pairs(run.roles.validation, features.embedding, features.reward)
    untrained = Task(pairs, validation, features, run.seed, None, measure=lambda _: {}, on_epoch=lambda _: None)
    for name, known in references(untrained).items():
        refined = refine_tests(known, features, records.tests)
        records.add_reference(name, [outcomes(known, features, refined, test) for test in records.tests])
    for name, method in methods.items():
        with _Watch(run, name) as watch:
            task = replace(
                untrained,
                checkpoint=run.folder(name) / "checkpoint.safetensors",
                measure=lambda rewards: _accuracies(run, run.roles.validation, features, rewards),
                on_epoch=watch.on_epoch,
                member=partial(_member, run) if run.embedded.reward is None else None,
                head_dim=head_dim(reward_model),
                prompt=run.responses.prompt if run.may_share_out else None,
            )
            fitted = method.fit(task)
        _evaluate(run, name, fitted, features, records)
        if fitted.score is not None:
            provenance = _provenance(run, name, method, records)
            prompts = prompt_digests(prompt for _, part in _parts(run) for prompt in part.prompt_ids)
            model = EnergyRewardModel(reward_model, fitted.score, fitted.refinement, provenance, prompts)
            model.save_pretrained(run.settings.out / "models" / f"{folder_name(name)}-{run.label}")


def _provenance(run: SeedRun, name: str, method: Method, records: Records) -> Provenance:
    """What the model card says: this seed's data, settings and results, and the base rewards' if they were compared."""
    data = [
        {"role": role, "name": part.name, "prompts": len(part.prompt_ids), "pairs": part.n_pairs}
        for role, part in _parts(run)
    ]
    if isinstance(method, EnergyMethod) and method.settings.members > 1 and run.may_share_out:
        for part in data[-2:]:
            part["role"] = f"trains and validates the {method.settings.members} members by turns"
    settings = {**(method.described() if isinstance(method, EnergyMethod) else {}), "seed": run.seed}
    results = [
        as_json(row)
        for row in records.rows
        if row.seed == run.seed and row.category == "all" and row.method in ("base", name)
    ]
    stored = {"command": run.settings.command, "data": data, "settings": settings, "results": results}
    return Provenance.from_dict(stored)


def _parts(run: SeedRun) -> list[tuple[str, PreferenceSet]]:
    """The preferences that a score owes something to, and what."""
    parts = [("trains the score", run.roles.refinement), ("chooses and calibrates", run.roles.validation)]
    if run.embedded.reward is None or run.fine_tuned:
        parts.insert(0, (f"trains the reward model ({run.scenario})", run.roles.reward_model))
    return parts


def _reward_model_features(run: SeedRun, records: Records) -> tuple[RewardModel, Features]:
    if run.embedded.reward is not None:
        if run.seed == run.settings.seed:
            # One table serves all seeds; the pairs beside it are the first one's.
            _write_pairs(run, run.settings.out / "features")
        return run.model, _features(run, run.embedded)
    vectors = torch.from_numpy(run.embedded.embedding)
    blank = Features(vectors, torch.zeros(len(vectors)), run.responses.length)
    with _Watch(run, "base") as watch:

        def measure(trunk: Trunk) -> dict[str, float]:
            rewards: Rewards = torch.no_grad()(lambda features: trunk(features.embedding, features.reward))
            return _accuracies(run, run.roles.reward_model_validation, blank, rewards)

        trunk, training = _fit_trunk(run, run.seed, "base", measure=measure, on_epoch=watch.on_epoch)
    records.add_training("base", run.seed, training, BRADLEY_TERRY)
    model = EncoderRewardModel(run.model, trunk)
    embedded = model.embed_vectors(run.embedded.embedding)
    assert embedded.reward is not None
    folder = run.settings.out / "features" / run.label
    write_features(folder, model.identity, run.responses.keys, embedded.embedding, embedded.reward)
    _write_pairs(run, folder)
    return model, _features(run, embedded)._replace(vector=vectors)


def _write_pairs(run: SeedRun, folder: Path) -> None:
    write_training_pairs(folder, run.roles.refinement)


def _fit_trunk(run: SeedRun, seed: int, name: str, **watched: Any) -> tuple[Trunk, Training]:
    """Train an embedded reward model on the pairs that are for it, labels flipped as the scenario asks."""
    vectors = torch.from_numpy(run.embedded.embedding)
    nothing = torch.zeros(len(vectors))
    parts = run.roles.reward_model, run.roles.reward_model_validation
    pairs, validation = (
        run.responses.pairs(part, vectors, nothing).with_flipped_labels(run.roles.flipped, run.seed) for part in parts
    )
    checkpoint, directions = run.folder(name) / "checkpoint.safetensors", direction_dim(run.model)
    return fit_trunk(pairs, validation, seed, direction_dim=directions, checkpoint=checkpoint, **watched)


def _member(run: SeedRun, index: int) -> Rewards:
    """Rewards of one more reward model, which differs in its seed only."""
    trunk, _ = _fit_trunk(run, run.seed + MEMBER_SEEDS * index, f"base-{index}")

    @torch.no_grad()
    def rewards(features: Features) -> torch.Tensor:
        assert features.vector is not None
        return trunk(features.vector, features.reward)  # type: ignore[no-any-return]

    return rewards


def _features(run: SeedRun, embedded: Embedded) -> Features:
    embedding, reward = (torch.from_numpy(np.ascontiguousarray(part)) for part in embedded)
    return Features(embedding, reward, run.responses.length)


def _accuracies(run: SeedRun, validation: PreferenceSet, features: Features, rewards: Rewards) -> dict[str, float]:
    """Accuracy on validation preferences, by set."""
    sets = {name: run.responses.items(validation, name) for name in SETS}
    present = {name: items for name, items in sets.items() if items is not None}
    parts = [part for items in present.values() for part in (items.pair_chosen, items.pair_rejected)]
    rows = np.unique(np.concatenate(parts))
    reward = np.full(len(features.reward), np.nan)
    reward[rows] = rewards(features.rows(torch.from_numpy(rows))).numpy()
    return {f"validation_{name}": float(is_correct(items, reward).mean()) for name, items in present.items()}


def _evaluate(run: SeedRun, name: str, fitted: Fitted, features: Features, records: Records) -> None:
    refined = refine_tests(fitted, features, records.tests)
    if fitted.training is not None:
        records.add_training(name, run.seed, fitted.training, fitted.objective)
        records.add_timing(name, run.seed, "refine", refined.seconds, refined.examples)
        if fitted.training.best == 0:
            records.add_facts([UntrainedKept(method=name, seed=run.seed)])
    of_tests = [outcomes(fitted, features, refined, test) for test in records.tests]
    for add in (with_sampling, with_deviations):
        of_tests = add(fitted, features, records.tests, of_tests)
    records.add_outcomes(name, run.seed, of_tests)
    records.add_facts(fitted.facts)
    if run.seed == run.settings.seed:
        label = {"scenario": records.scenario, "method": name, "seed": run.seed}
        for test in {test.part: test for test in reversed(records.tests)}.values():  # the first set of each part
            records.densities += density_rows(label, fitted, features, refined, test)


class _Watch:
    """Shows the epochs of one training and logs their metrics."""

    def __init__(self, run: SeedRun, method: str) -> None:
        self._run, self._method = run, method
        self._status = f"{run.scenario}, seed {run.seed}, {method}"
        self._logs: MetricsLogs | None = None

    def on_epoch(self, epoch: Epoch) -> None:
        self._logs = self._logs or MetricsLogs(*self._open())
        number = int(epoch["epoch"])
        self._logs.log(number, {name: value for name, value in epoch.items() if name != "epoch"})
        self._run.reporter.status(f"{self._status}, epoch {number}")

    def _open(self) -> list[MetricsLog]:
        folder, name = self._run.folder(self._method), f"{folder_name(self._method)}-{self._run.label}"
        logs: list[MetricsLog] = [TensorBoardLog(folder)]
        if self._run.settings.wandb:
            logs.append(WandbLog(self._run.settings.out / "wandb", name, {"method": self._method}))
        return logs

    def __enter__(self) -> _Watch:
        self._run.reporter.status(self._status)
        return self

    def __exit__(self, *error: object) -> None:
        self._run.reporter.status(None)
        if self._logs is not None:
            self._logs.__exit__()
