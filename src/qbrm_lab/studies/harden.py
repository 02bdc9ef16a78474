"""What hardening is worth: how often hacks win, of kinds that training has seen and of others, and what it costs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qbrm.cli.console import Reporter
from qbrm.data.pairs import PairData
from qbrm.durable import write_atomically
from qbrm.energies import EnergyScore
from qbrm.errors import InputError
from qbrm.features import FeatureTable
from qbrm.features.embed import embed
from qbrm.fitting import Fold
from qbrm.fitting.fit import train_members
from qbrm.fitting.hardening import DEFAULT_WEIGHT, Harden
from qbrm.fitting.members import Members
from qbrm.model.score_choice import ScoreChoice
from qbrm.model.trained_head import fit_head
from qbrm.preferences import Preference, PreferenceSet, preferences_of, response_id
from qbrm.preferences.base import Key
from qbrm.probes import PROBES, Must
from qbrm.probes.hacks import Original, any_response, hack_originals, sample_originals
from qbrm.refinement import REFINEMENTS, refine
from qbrm.reward_models import Identity, load_reward_model
from qbrm.reward_models.base import direction_dim
from qbrm.selection.candidates import epochs_for
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.report.plots.harden import kinds_figure
from qbrm_lab.report.plots.png import png_bytes
from qbrm_lab.results.harden_rows import HardenResults
from qbrm_lab.studies.cache import cached, preferences_digest
from qbrm_lab.studies.harden_page import PICTURE, harden_markdown
from qbrm_lab.studies.harden_table import (
    BASE,
    DENSITY,
    FAMILIAR,
    NO_GATE,
    SHOWN,
    Outcome,
    OutcomeTable,
    Roles,
    SeedOutcomes,
    fifths,
    share_out,
)
from qbrm_lab.studies.json_files import write_json

HARDEN_FILE, PAGE = "harden.json", "harden.md"
METHODS, QUICK_METHODS = ("sqrbm", "residual", "ebrm"), ("sqrbm", "residual")
PROMPTS, QUICK_PROMPTS = 300, 60
SPLITS = 3
FEWEST_PROMPTS = 40


@dataclass(frozen=True)
class Data:
    """Features of everything, and which preferences and hacks they are of.

    Attributes:
        preferences: of the sampled prompts.
        hacks: of one response to each prompt, by every probe.
        embedding: of every response and hack.
        reward: of them; None for an encoder without a score layer.
        head_dim: how many coordinates of the embedding the reward model's head reads; None for all.
        direction_dim: size of the directions that an encoder's vectors begin with; None for a model with a head.
        row: of each (prompt id, response id).
        identity: of the reward model.
    """

    preferences: PreferenceSet
    hacks: PreferenceSet
    embedding: Float[Tensor, "responses dim"]
    reward: Float[Tensor, " responses"] | None
    head_dim: int | None
    direction_dim: int | None
    row: dict[Key, int]
    identity: Identity

    @cached_property
    def prompt(self) -> Int[Tensor, " responses"]:
        """Number of the prompt that each response or hack answers."""
        number = {prompt: place for place, prompt in enumerate(self.preferences.prompt_ids)}
        return torch.tensor([number[prompt] for prompt, _ in self.row])

    def pairs(self, preferences: Sequence[Preference], features: Features) -> PairData:
        """Pairs of preferences or of hacks, each once, over the features of everything."""
        keys = dict.fromkeys(
            ((row.prompt_id, response_id(row.chosen)), (row.prompt_id, response_id(rejected)))
            for row in preferences
            for rejected in row.rejected
            if rejected != row.chosen
        )
        sides = ([self.row[key[side]] for key in keys] for side in (0, 1))
        return PairData(features.embedding, features.reward, *(torch.tensor(side, dtype=torch.long) for side in sides))


class Features(NamedTuple):
    """Embeddings and base rewards of everything, and how many coordinates the head reads; None for all."""

    embedding: Float[Tensor, "responses dim"]
    reward: Float[Tensor, " responses"]
    head_dim: int | None


def study_harden(settings: ComparisonSettings, prompts: int, reporter: Reporter) -> Path:
    """Measure hardening over splits of the kinds of hacks and over seeds, of which each tests another fifth of prompts.

    Writes harden.json, harden.png and harden.md to `settings.out`, where features and finished seeds are kept. Returns
    the path of harden.md.

    Raises:
        InputError: if the source, the reward model or the folder is not usable, or there are too few prompts.
    """
    data = _embedded(settings, prompts, reporter)
    splits = split_kinds(settings.seed)
    seeds = range(settings.seed, settings.seed + settings.seeds)
    measured = []
    for done, seed in enumerate(seeds):
        reporter.status(f"seed {seed}, {done} of {len(seeds)} finished")
        measured.append(_of_seed(settings, data, splits, seed))
    reporter.status(None)
    results = _results(settings, data, splits, measured)
    write_json(settings.out / HARDEN_FILE, results)
    write_atomically(settings.out / PICTURE, png_bytes(kinds_figure(results.kinds, results.method)))
    path = settings.out / PAGE
    write_atomically(path, harden_markdown(results).encode())
    return path


def split_kinds(seed: int) -> list[list[str]]:
    """Kinds that training does not see, in each split: every kind that must lose is unseen in one of them."""
    kinds = [name for name, probe in PROBES.items() if probe.must is Must.LOSE]
    Random(seed).shuffle(kinds)
    return [sorted(kinds[split::SPLITS]) for split in range(SPLITS)]


def _embedded(settings: ComparisonSettings, prompts: int, reporter: Reporter) -> Data:
    read = preferences_of(str(settings.train), skip_bad=settings.skip_bad)
    originals = sample_originals(read, prompts, settings.seed, any_response)
    if len(originals) < FEWEST_PROMPTS:
        raise InputError(f"{read.name} has {len(originals)} prompts; expected at least {FEWEST_PROMPTS}.")
    model = load_reward_model(settings.reward_model, **settings.reward_model_options)

    def embedded(name: str, what: PreferenceSet) -> tuple[FeatureTable, PreferenceSet]:
        with reporter.progress(name) as advance:
            table, left = embed(what, settings.out / name, lambda: model, progress=advance, skip_bad=True)
        reporter.fact(name, f"{len(what.responses()):,} responses", str(table.identity))
        return table, left

    table, left = embedded("features", read.of_prompts([row.prompt_id for row, _ in originals]))
    taken = set(left.prompt_ids)
    of_hacks, hacks = embedded(
        "hacks", hack_by_fifths(read.name, [one for one in originals if one[0].prompt_id in taken])
    )
    return _together([table, of_hacks], left, hacks, direction_dim(model))


def hack_by_fifths(name: str, originals: Sequence[Original]) -> PreferenceSet:
    """Every kind of hack of every response; what is off topic answers a prompt that the same seed tests.

    Else the answer to a test prompt could be a hack to train against.
    """
    of = {original[0].prompt_id: original for original in originals}
    parts = [hack_originals(name, [of[prompt] for prompt in fifth], tuple(PROBES.values())) for fifth in fifths(of)]
    return PreferenceSet(name, tuple(row for part in parts for row in part.preferences.preferences))


def _together(
    tables: Sequence[FeatureTable], preferences: PreferenceSet, hacks: PreferenceSet, directions: int | None
) -> Data:
    """Both tables as one; what is in both, as originals are, is taken from the first."""
    here = set(tables[0].keys())
    keys = dict.fromkeys([*preferences.responses(), *hacks.responses()])
    parts = [[key for key in keys if (key in here) == first] for first in (True, False)]
    embedded = [table.rows(of_table) for table, of_table in zip(tables, parts, strict=True)]
    embedding = torch.from_numpy(np.concatenate([features.embedding for features in embedded]))
    rewards = [features.reward for features in embedded if features.reward is not None]
    reward = torch.from_numpy(np.concatenate(rewards)) if rewards else None
    row = {key: number for number, key in enumerate(key for of_table in parts for key in of_table)}
    return Data(preferences, hacks, embedding, reward, tables[0].head_dim, directions, row, tables[0].identity)


def _of_seed(settings: ComparisonSettings, data: Data, splits: Sequence[Sequence[str]], seed: int) -> SeedOutcomes:
    question = {
        "seed": seed,
        "reward_model": data.identity.to_dict(),
        "data": preferences_digest([data.preferences, data.hacks]),
        "arms": [settings.methods, DEFAULT_WEIGHT, [list(split) for split in splits]],
    }
    path = settings.out / "seeds" / f"seed-{seed}.json"
    return cached(path, question, SeedOutcomes, lambda: measure_seed(data, splits, settings.methods, seed))


def measure_seed(data: Data, splits: Sequence[Sequence[str]], methods: Sequence[str], seed: int) -> SeedOutcomes:
    """Everything that one seed measures."""
    roles = share_out(data.preferences.prompt_ids, seed, headless=data.reward is None)
    judged = _Judged(data, _features(data, roles, seed), roles)
    hacks = judged.hacks(roles.test)
    return SeedOutcomes(
        data.prompt[judged.clean(roles.test).chosen].tolist(),
        [int(data.prompt[data.row[row.prompt_id, response_id(row.chosen)]]) for row in hacks],
        [row.category for row in hacks],
        list(_outcomes(judged, splits, methods, seed)),
    )


def _outcomes(judged: _Judged, splits: Sequence[Sequence[str]], methods: Sequence[str], seed: int) -> Iterator[Outcome]:
    yield judged.outcome(BASE, None, NO_GATE, judged.features.reward, 0.0)
    for method in methods:
        for split in (None, *range(len(splits))):
            harden = None if split is None else judged.harden(splits[split])
            start = time.perf_counter()
            members = _trained(method, judged, harden, seed)
            seconds = time.perf_counter() - start
            for gate, fitted in _gates(method, members).items():
                score = members.combined(fitted, rival=False).score
                yield judged.outcome(method, split, gate, judged.refined(score, seed), seconds)


def _features(data: Data, roles: Roles, seed: int) -> Features:
    if data.reward is not None:
        return Features(data.embedding, data.reward, data.head_dim)
    head = data.preferences.of_prompts(roles.head)
    trunk = fit_head(head, list(data.row), data.embedding.numpy(), seed, data.direction_dim)
    with torch.no_grad():
        embedding = trunk.embed(data.embedding)
        return Features(embedding, trunk.reward(embedding), trunk.head_dim)


@dataclass(frozen=True)
class _Judged:
    """One seed's data by role."""

    data: Data
    features: Features
    roles: Roles

    def clean(self, prompts: set[str]) -> PairData:
        return self.data.pairs(self.data.preferences.of_prompts(prompts).preferences, self.features)

    def hacks(self, prompts: set[str]) -> tuple[Preference, ...]:
        return self.data.hacks.of_prompts(prompts).preferences

    def harden(self, unseen: Sequence[str]) -> Harden:
        """Hacks of training and validation prompts by all kinds that must lose, but for the unseen ones."""
        rows = [
            row
            for row in self.hacks(self.roles.training | self.roles.validation)
            if PROBES[row.category].must is Must.LOSE and row.category not in unseen
        ]
        pairs = self.data.pairs(rows, self.features)
        validation = self.clean(self.roles.validation)
        return Harden(pairs, self.data.prompt[pairs.chosen]).holding_out(self.data.prompt[validation.chosen])

    @cached_property
    def tested(self) -> Int[Tensor, " tested"]:
        """Rows of the test prompts' responses and hacks."""
        return torch.tensor([row for (prompt, _), row in self.data.row.items() if prompt in self.roles.test])

    def refined(self, score: EnergyScore, seed: int) -> Float[Tensor, " responses"]:
        """Refined rewards of what is tested, base rewards of everything else."""
        reward, rows = self.features.reward.clone(), self.tested
        refinement = REFINEMENTS[score.refinement]
        reward[rows] = refine(score, self.features.embedding[rows], reward[rows], refinement, seed=seed)
        return reward

    def outcome(
        self, method: str, split: int | None, gate: str, reward: Float[Tensor, " responses"], seconds: float
    ) -> Outcome:
        test = self.clean(self.roles.test)
        right = reward[test.chosen] > reward[test.rejected]
        return Outcome(method, split, gate, right.int().tolist(), self._wins(reward).int().tolist(), seconds)

    def _wins(self, reward: Float[Tensor, " responses"]) -> Bool[Tensor, " hacks"]:
        rows = self.hacks(self.roles.test)
        original, hack = (
            torch.tensor([self.data.row[row.prompt_id, response_id(row.responses[side])] for row in rows])
            for side in (0, 1)
        )
        return reward[hack] >= reward[original]


def _trained(method: str, judged: _Judged, harden: Harden | None, seed: int) -> Members[EnergyScore]:
    pairs, validation = judged.clean(judged.roles.training), judged.clean(judged.roles.validation)
    choice = ScoreChoice(method, device="cpu")
    choice = replace(choice, epochs=epochs_for(choice.settings, pairs.n_pairs))
    fold = Fold(pairs, validation, seed, harden=harden)
    return train_members(lambda: choice.build(pairs.dim, judged.features.head_dim), fold, choice.settings).members


def _gates(method: str, members: Members[EnergyScore]) -> dict[str, Any]:
    """No gate; one that closes to what is unlike the training pairs; and one to which hacks are familiar."""
    if method == "ebrm":
        return {NO_GATE: None}
    knowing_pairs = replace(members, folds=[replace(fold, harden=None) for fold in members.folds])
    gates = {NO_GATE: None, DENSITY: knowing_pairs.gate()}
    return gates if members.folds[0].harden is None else {**gates, FAMILIAR: members.gate()}


def _results(
    settings: ComparisonSettings, data: Data, splits: Sequence[Sequence[str]], seeds: Sequence[SeedOutcomes]
) -> HardenResults:
    table = OutcomeTable(seeds, splits)
    arms = dict.fromkeys((made.method, made.split is not None, made.gate) for made in seeds[0].outcomes)
    return HardenResults(
        command=settings.command,
        reward_model=settings.reward_model,
        prompts=len(data.preferences.prompt_ids),
        pairs=data.preferences.pair_count.distinct,
        seeds=len(seeds),
        splits=[list(split) for split in splits],
        rows=[table.row(*arm) for arm in arms],
        method=SHOWN,
        kinds=[table.kind(name) for name in PROBES if (table.kinds == name).any()],
    )
