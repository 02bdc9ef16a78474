"""What keeping an old domain's order costs on a new one: by penalties of growing weight, and by gates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from qbrm.cli.console import Reporter
from qbrm.data.pairs import PairData
from qbrm.durable import write_atomically
from qbrm.energies import EnergyScore
from qbrm.evaluation import PromptBootstrap
from qbrm.evaluation.bootstrap import TestPairs
from qbrm.fitting import Fold
from qbrm.fitting.fit import train_members
from qbrm.fitting.keeping import PAIRS_PER_STEP, SMALLEST_SCALE, Keep
from qbrm.fitting.members import Members
from qbrm.fitting.trunk import fit_trunk
from qbrm.preferences import PreferenceSet
from qbrm.refinement import REFINEMENTS, refine
from qbrm.reward_models.base import direction_dim
from qbrm.selection.candidates import Family
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.comparison.compare import Prepared, prepare
from qbrm_lab.comparison.side_by_side import each_seed
from qbrm_lab.comparison.sources import check_domains, read_sources
from qbrm_lab.report.plots.keep import frontier_figure
from qbrm_lab.report.plots.png import png_bytes
from qbrm_lab.results.study_rows import KeepResults, KeepRow
from qbrm_lab.scenarios import VARIANTS, by_domain
from qbrm_lab.studies.cache import cached, of_seed
from qbrm_lab.studies.json_files import write_json
from qbrm_lab.studies.keep_page import BASE, DENSITY, NO_GATE, PICTURE, TWO_SIDED, keep_markdown

KEEP_FILE = "keep.json"
SCENARIO = "shift"
SCORES = ("sqrbm", "residual")
WEIGHTS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


@dataclass(frozen=True)
class Outcome:
    """One seed's score, kept in one way: shares of validation pairs, and one or zero for every test pair."""

    score: str
    weight: float
    gate: str
    validation_new: float
    validation_old: float
    new: list[int]
    old: list[int]
    order: list[int]


@dataclass(frozen=True)
class Domains:
    """The pairs of one seed, all over the same responses.

    Attributes:
        training: of the new domain, with `validation`.
        keep: of the old domain, whose labels the scores do not see.
        test_new: test pairs of the new domain.
        test_old: those of the old one.
    """

    training: PairData
    validation: PairData
    keep: Keep
    test_new: PairData
    test_old: PairData


def study_keep(settings: ComparisonSettings, reporter: Reporter, prompts: int | None = None) -> Path:
    """Measure the frontier between the gain on a new domain and what is kept on the old one.

    In the scenario ``shift``: the reward model learned the largest domain, whose prompts are to be kept, and scores are
    trained on the others. Writes keep.json, keep.png and keep.md to `settings.out`, where finished seeds are kept.
    Takes so many random prompts of the source, or all. Other arguments and errors are those of
    :func:`~qbrm_lab.studies.everything.study_everything`. Returns the path of keep.md.
    """
    sources = read_sources(settings, prompts)
    check_domains(sources)
    prepared = prepare(settings, reporter, sources)
    seeds = range(settings.seed, settings.seed + settings.seeds)
    outcomes = each_seed(partial(_of_seed, prepared), seeds, settings.workers, reporter, "keep")
    rows = _rows(prepared, list(outcomes))
    results = KeepResults(settings.command, settings.seeds, len(prepared.sources.train.prompt_ids), rows)
    write_json(settings.out / KEEP_FILE, results)
    write_atomically(settings.out / PICTURE, png_bytes(frontier_figure(rows)))
    path = settings.out / "keep.md"
    write_atomically(path, keep_markdown(results).encode())
    return path


def _of_seed(prepared: Prepared, seed: int, reporter: Reporter) -> list[Outcome]:
    question = {**of_seed(prepared, seed), "arms": [SCORES, WEIGHTS, PAIRS_PER_STEP, SMALLEST_SCALE]}
    path = prepared.settings.out / "keep" / f"seed-{seed}.json"
    reporter.status(f"keep, seed {seed}")
    outcomes = cached(path, question, list[Outcome], lambda: list(_outcomes(domains_of(prepared, seed), seed)))
    reporter.status(None)
    return outcomes


def domains_of(prepared: Prepared, seed: int) -> Domains:
    """Train the reward model on the old domain, and give the pairs of both with its features."""
    responses, vectors = prepared.responses, torch.from_numpy(prepared.embedded.embedding)
    roles = VARIANTS[SCENARIO].share_out(prepared.sources.train, seed)
    nothing = torch.zeros(len(vectors))
    known = [responses.pairs(part, vectors, nothing) for part in (roles.reward_model, roles.reward_model_validation)]
    trunk, _ = fit_trunk(known[0], known[1], seed, direction_dim=direction_dim(prepared.model))
    with torch.no_grad():
        embedding = trunk.embed(vectors)
        reward = trunk.reward(embedding)

    def pairs(part: PreferenceSet) -> PairData:
        return responses.pairs(part, embedding, reward)

    keep = Keep(pairs(roles.reward_model), pairs(roles.reward_model_validation))
    new, old = test_domains(prepared)
    return Domains(pairs(roles.refinement), pairs(roles.validation), keep, pairs(new), pairs(old))


def test_domains(prepared: Prepared) -> tuple[PreferenceSet, PreferenceSet]:
    """The test preferences of the new domains, and those of the old one."""
    test = next(iter(prepared.sources.tests.values()))
    old = by_domain(test)[next(iter(by_domain(prepared.sources.train)))]
    return test.of_prompts(set(test.prompt_ids) - set(old.prompt_ids)), old


def _outcomes(domains: Domains, seed: int) -> Iterator[Outcome]:
    reward = domains.training.reward
    yield _outcome(domains, BASE, 0.0, NO_GATE, reward)
    for score in SCORES:
        for weight in WEIGHTS:
            members = _trained(domains, score, weight, seed)
            ways = {NO_GATE: None, TWO_SIDED: members.gate()}
            if not weight:
                ways[DENSITY] = _knowing_one_side(members).gate()
            for gate, module in ways.items():
                refined = _refined(members.combined(module).score, domains.training)
                yield _outcome(domains, score, weight, gate, refined)


def _trained(domains: Domains, score: str, weight: float, seed: int) -> Members[EnergyScore]:
    family = Family(score)
    settings = family.settings(domains.training.n_pairs)
    fold = Fold(domains.training, domains.validation, seed, keep=replace(domains.keep, weight=weight))
    return train_members(lambda: family.build(domains.training.dim), fold, settings).members


def _knowing_one_side(members: Members[EnergyScore]) -> Members[EnergyScore]:
    return replace(members, folds=[replace(fold, keep=None) for fold in members.folds])


def _refined(score: EnergyScore, pairs: PairData) -> Float[Tensor, " responses"]:
    return refine(score, pairs.embedding, pairs.reward, REFINEMENTS[score.refinement])


def _outcome(domains: Domains, score: str, weight: float, gate: str, reward: Float[Tensor, " responses"]) -> Outcome:
    base = domains.training.reward
    order = _margin(domains.test_old, reward).sign() == _margin(domains.test_old, base).sign()
    return Outcome(
        score,
        weight,
        gate,
        validation_new=_right(domains.validation, reward).double().mean().item(),
        validation_old=_right(domains.keep.held_out, reward).double().mean().item(),
        new=_right(domains.test_new, reward).int().tolist(),
        old=_right(domains.test_old, reward).int().tolist(),
        order=order.int().tolist(),
    )


def _right(pairs: PairData, reward: Float[Tensor, " responses"]) -> Tensor:
    return _margin(pairs, reward) > 0


def _margin(pairs: PairData, reward: Float[Tensor, " responses"]) -> Float[Tensor, " pairs"]:
    return reward[pairs.chosen] - reward[pairs.rejected]


def _rows(prepared: Prepared, seeds: Sequence[Sequence[Outcome]]) -> list[KeepRow]:
    """Means over seeds, which share their test pairs, with intervals by prompt."""
    nothing = torch.zeros(len(prepared.responses.keys))
    prompts = [
        prepared.responses.prompt[prepared.responses.pairs(part, nothing[:, None], nothing).chosen].numpy()
        for part in test_domains(prepared)
    ]
    seed = prepared.settings.seed
    new, old = (PromptBootstrap(TestPairs(np.unique(of, return_inverse=True)[1]), seed) for of in prompts)
    rows = []
    for same in zip(*seeds, strict=True):
        arm: Any = {name: getattr(same[0], name) for name in ("score", "weight", "gate")}
        validation: Any = {
            name: float(np.mean([getattr(outcome, name) for outcome in same]))
            for name in ("validation_new", "validation_old")
        }
        tested = (
            (new, [outcome.new for outcome in same]),
            (old, [outcome.old for outcome in same]),
            (old, [outcome.order for outcome in same]),
        )
        of_new, of_old, order = (_share(bootstrap, np.array(values)) for bootstrap, values in tested)
        rows.append(KeepRow(**arm, **validation, new=of_new, old=of_old, order=order))
    return rows


def _share(bootstrap: PromptBootstrap, values: Int[np.ndarray, "seeds pairs"]) -> tuple[float, float, float]:
    mean = values.mean(0)
    return float(mean.mean()), *bootstrap.intervals(mean)["all"]
