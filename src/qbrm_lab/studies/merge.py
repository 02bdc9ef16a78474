"""Machines that learned two domains apart, merged: against means of scores, and one machine that saw both."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from qbrm.cli.console import Reporter
from qbrm.data.pairs import PairData
from qbrm.durable import write_atomically
from qbrm.energies import EnergyScore, Product
from qbrm.energies.boltzmann import BoltzmannScore
from qbrm.energies.density import density
from qbrm.evaluation import PromptBootstrap
from qbrm.evaluation.bootstrap import TestPairs
from qbrm.evaluation.verdict import Predictions
from qbrm.fitting import Fold
from qbrm.fitting.calibration import SMALLEST_PROBABILITY, calibrate
from qbrm.fitting.fit import train_members
from qbrm.fitting.members import Members
from qbrm.fitting.trunk import fit_trunk
from qbrm.model.merge import weights_by_validation
from qbrm.model.predictions import of_base, of_score
from qbrm.preferences import PreferenceSet, split_by_prompt
from qbrm.reward_models.base import direction_dim
from qbrm.selection.candidates import Family
from qbrm.selection.cross_validation import tempered_base
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.comparison.compare import Prepared, prepare
from qbrm_lab.comparison.side_by_side import each_seed
from qbrm_lab.comparison.sources import check_domains, read_sources
from qbrm_lab.results.study_rows import MergeResults, MergeRow
from qbrm_lab.scenarios import VALIDATION_SHARE, VARIANTS, by_domain
from qbrm_lab.studies.cache import cached, of_seed
from qbrm_lab.studies.json_files import write_json
from qbrm_lab.studies.keep import test_domains
from qbrm_lab.studies.merge_page import BOTH, MEAN, RESIDUAL, merge_markdown

MERGE_FILE = "merge.json"
SCENARIO = "shift"
SCORES = ("sqrbm", RESIDUAL)


class Predicted(NamedTuple):
    """One for every test pair that is decided right, and the log-loss of each."""

    right: Float64[np.ndarray, " pairs"]
    nll: Float64[np.ndarray, " pairs"]


@dataclass(frozen=True)
class Outcome:
    """One seed's scores, combined in one way, on the test pairs of the known domain and then of the new one."""

    way: str
    score: str
    joint: bool
    right: list[int]
    nll: list[float]


class Part(NamedTuple):
    """Pairs of one domain that train a machine and validate it."""

    training: PairData
    validation: PairData


@dataclass(frozen=True)
class Domains:
    """The pairs of one seed, all over the same responses: of the domain that the reward model learned, and of the new.

    `test` has the known domain's test pairs first.
    """

    known: Part
    new: Part
    test: PairData

    @property
    def both(self) -> Part:
        """What no merged machine sees: the pairs of both domains together."""
        return Part(*(a.with_pairs_of(b) for a, b in zip(self.known, self.new, strict=True)))


def study_merge(settings: ComparisonSettings, reporter: Reporter, prompts: int | None = None) -> Path:
    """Merge a machine of the known domain with one of the new domain, in the scenario ``shift``.

    The reward model learns from half of the known domain's prompts; the other half trains that domain's machine. Writes
    merge.json and merge.md to `settings.out`, where finished seeds are kept. Takes so many random
    prompts of the source, or all. Other arguments and errors are those of
    :func:`~qbrm_lab.studies.everything.study_everything`. Returns the path of merge.md.
    """
    sources = read_sources(settings, prompts)
    check_domains(sources)
    prepared = prepare(settings, reporter, sources)
    seeds = range(settings.seed, settings.seed + settings.seeds)
    outcomes = each_seed(partial(_of_seed, prepared), seeds, settings.workers, reporter, "merge")
    known, *others = by_domain(prepared.sources.train)
    results = MergeResults(
        settings.command,
        settings.seeds,
        (known, " and ".join(others)),
        len(prepared.sources.train.prompt_ids),
        _rows(prepared, list(outcomes)),
    )
    write_json(settings.out / MERGE_FILE, results)
    path = settings.out / "merge.md"
    write_atomically(path, merge_markdown(results).encode())
    return path


def _of_seed(prepared: Prepared, seed: int, reporter: Reporter) -> list[Outcome]:
    question = {**of_seed(prepared, seed), "study": ["merge", SCORES]}
    path = prepared.settings.out / "merge" / f"seed-{seed}.json"
    reporter.status(f"merge, seed {seed}")
    outcomes = cached(path, question, list[Outcome], lambda: list(_outcomes(_domains(prepared, seed), seed)))
    reporter.status(None)
    return outcomes


def _domains(prepared: Prepared, seed: int) -> Domains:
    """Train the reward model on half of the known domain, and give the pairs of both domains with its features."""
    responses, vectors = prepared.responses, torch.from_numpy(prepared.embedded.embedding)
    roles = VARIANTS[SCENARIO].share_out(prepared.sources.train, seed)
    taught, left = split_by_prompt(roles.reward_model, 0.5, seed)
    machine, validation = split_by_prompt(left, VALIDATION_SHARE, seed)
    nothing = torch.zeros(len(vectors))
    trunk, _ = fit_trunk(
        responses.pairs(taught, vectors, nothing),
        responses.pairs(roles.reward_model_validation, vectors, nothing),
        seed,
        direction_dim=direction_dim(prepared.model),
    )
    with torch.no_grad():
        embedding = trunk.embed(vectors)
        reward = trunk.reward(embedding)

    def pairs(part: PreferenceSet) -> PairData:
        return responses.pairs(part, embedding, reward)

    new, known = (pairs(part) for part in test_domains(prepared))
    return Domains(
        Part(pairs(machine), pairs(validation)),
        Part(pairs(roles.refinement), pairs(roles.validation)),
        known.with_pairs_of(new),
    )


def _outcomes(domains: Domains, seed: int) -> Iterator[Outcome]:
    test = domains.test

    def outcome(way: str, score: str, predicted: Predicted, *, joint: bool = False) -> Outcome:
        return Outcome(way, score, joint, predicted.right.astype(int).tolist(), predicted.nll.tolist())

    yield outcome("rewards as they are", "base", _of(of_base(test)))
    for name in SCORES:
        parts = {"known": domains.known, "new": domains.new, "both": domains.both}
        trained = {part: _trained(domains_part, name, seed) for part, domains_part in parts.items()}
        plain, gated = ({part: _machine(members, gate) for part, members in trained.items()} for gate in (False, True))
        for part, words in (("known", "known domain alone"), ("new", "new domain alone")):
            yield outcome(words, name, _of_machine(plain[part], test))
        apart = [plain["known"], plain["new"]]
        with_gates = [gated["known"], gated["new"]]
        yield outcome("merged, equal", name, _of_machine(_product(apart, [1.0, 1.0]), test))
        yield outcome("merged, equal, gates", name, _of_machine(_product(with_gates, [1.0, 1.0]), test))
        yield outcome("merged, familiarity", name, _of_machine(_product(with_gates, None), test))
        validated = _product(apart, [1.0, 1.0])
        validated.weights = weights_by_validation(validated, domains.both.validation)
        calibrate([validated], [domains.both.validation])
        yield outcome("merged, validation", name, _of_machine(validated, test), joint=True)
        yield outcome(MEAN, name, _mean_of_scores(apart, test))
        yield outcome("Gaussian product", name, _gaussian_product(apart, test))
        yield outcome(BOTH, name, _of_machine(plain["both"], test), joint=True)
    tempered = tempered_base(domains.both.validation, torch.device("cpu"))
    yield outcome("rewards with a temperature", "base", _of_machine(tempered, test), joint=True)


def _trained(part: Part, score: str, seed: int) -> Members[EnergyScore]:
    family = Family(score)
    fold = Fold(part.training, part.validation, seed)
    return train_members(lambda: family.build(part.training.dim), fold, family.settings(part.training.n_pairs)).members


def _machine(members: Members[EnergyScore], gate: bool) -> BoltzmannScore:
    """The machine after calibration, a copy, since gates are set in place."""
    known = members.gate() if gate else None
    score = members.combined(known).score
    assert isinstance(score, BoltzmannScore)
    score.set_gate(known)  # also where validation preferred the base: what it knows is its domain all the same
    return copy.deepcopy(score.eval())


def _product(machines: Sequence[BoltzmannScore], weights: Sequence[float] | None) -> Product:
    return Product(copy.deepcopy([*machines]), weights).eval()


def _of_machine(score: EnergyScore, test: PairData) -> Predicted:
    return _of(of_score(score, "mode", test))


def _of(predictions: Predictions) -> Predicted:
    margin, log_probability = predictions
    assert log_probability is not None
    return Predicted((margin > 0).astype(float), -log_probability)


@torch.no_grad()
def _moments(score: BoltzmannScore, test: PairData) -> tuple[Tensor, Tensor]:
    """Mean and variance of p(r | e) of every response, in the reward model's units."""
    parts = []
    for rows in torch.split(torch.arange(len(test.embedding)), score.chunk_rows):
        known = density(score, score.clamp(test.embedding[rows], test.reward[rows]))
        parts.append((score.from_standard(known.mean), (known.std * score.reward_scale).square()))
    mean, variance = (torch.cat(part) for part in zip(*parts, strict=True))
    return mean, variance


def _mean_of_scores(machines: Sequence[BoltzmannScore], test: PairData) -> Predicted:
    """What one would try first: the mean of both refined rewards, as wide as both are on average."""
    means, variances = zip(*(_moments(machine, test) for machine in machines), strict=True)
    return _normal(torch.stack(means).mean(0), torch.stack(variances).mean(0), test)


def _gaussian_product(machines: Sequence[BoltzmannScore], test: PairData) -> Predicted:
    """The product of normals with both machines' means and variances: their precisions add up."""
    means, variances = zip(*(_moments(machine, test) for machine in machines), strict=True)
    precision = torch.stack([1 / variance for variance in variances])
    mean = (precision * torch.stack(means)).sum(0) / precision.sum(0)
    return _normal(mean, 1 / precision.sum(0), test)


def _normal(mean: Tensor, variance: Tensor, test: PairData) -> Predicted:
    margin = (mean[test.chosen] - mean[test.rejected]).double()
    deviation = (variance[test.chosen] + variance[test.rejected]).double().sqrt()
    log_probability = torch.special.log_ndtr(margin / deviation).clamp_min(float(np.log(SMALLEST_PROBABILITY)))
    return Predicted((margin > 0).double().numpy(), -log_probability.numpy())


def _rows(prepared: Prepared, seeds: Sequence[Sequence[Outcome]]) -> list[MergeRow]:
    """Means over seeds, which share their test pairs, with intervals by prompt."""
    nothing = torch.zeros(len(prepared.responses.keys))
    new, known = (
        prepared.responses.prompt[prepared.responses.pairs(part, nothing[:, None], nothing).chosen].numpy()
        for part in test_domains(prepared)
    )
    seed, split = prepared.settings.seed, len(known)
    boots = {
        name: PromptBootstrap(TestPairs(np.unique(of, return_inverse=True)[1]), seed)
        for name, of in (("known", known), ("new", new), ("both", np.concatenate([known, new])))
    }
    by_arm = {
        (same[0].way, same[0].score, same[0].joint): Predicted(
            np.array([outcome.right for outcome in same], float).mean(0), np.array([o.nll for o in same]).mean(0)
        )
        for same in zip(*seeds, strict=True)
    }
    mean = by_arm[MEAN, RESIDUAL, False]
    joint = {name: by_arm[BOTH, name, True] for name in SCORES}
    return [
        _row(arm, predicted, mean, joint.get(arm[1], joint[RESIDUAL]), boots, split)
        for arm, predicted in by_arm.items()
    ]


def _row(
    arm: tuple[str, str, bool],
    predicted: Predicted,
    rival: Predicted,
    joint_rival: Predicted,
    boots: Mapping[str, PromptBootstrap],
    split: int,
) -> MergeRow:
    def share(name: str, value: Float64[np.ndarray, " pairs"]) -> tuple[float, float, float]:
        return float(value.mean()), *boots[name].intervals(value)["all"]

    way, score, joint = arm
    return MergeRow(
        way=way,
        score=score,
        joint=joint,
        known=share("known", predicted.right[:split]),
        new=share("new", predicted.right[split:]),
        both=share("both", predicted.right),
        nll=share("both", predicted.nll),
        over_mean=share("both", predicted.right - rival.right),
        nll_over_mean=share("both", predicted.nll - rival.nll),
        over_joint=share("both", predicted.right - joint_rival.right),
        nll_over_joint=share("both", predicted.nll - joint_rival.nll),
    )
