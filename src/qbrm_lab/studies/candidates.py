"""What coupling the candidates of a prompt buys: the machine across them beside pointwise rewards and its rivals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64

from qbrm.cli.console import Reporter
from qbrm.cli.preferences import report_preferences
from qbrm.durable import write_atomically
from qbrm.energies import EnergyScore
from qbrm.energies.candidates import Candidates
from qbrm.errors import InputError
from qbrm.evaluation import PromptBootstrap
from qbrm.evaluation.bootstrap import TestPairs
from qbrm.fitting import Fold, fit_score
from qbrm.fitting.trunk import fit_trunk
from qbrm.model.candidates import FEWEST_SETS, described, shares_of
from qbrm.preferences import PreferenceSet, check_disjoint, preferences_of, response_id, split_by_prompt
from qbrm.preferences.candidate_lists import CandidateList, as_preferences, read_candidates
from qbrm.reward_models import Embedded, RewardModel, load_reward_model
from qbrm.reward_models.base import direction_dim
from qbrm.selection.candidates import Family
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.comparison.compare import embed
from qbrm_lab.comparison.side_by_side import each_seed
from qbrm_lab.methods.candidates import LinearChoice, fit_rivals, machine
from qbrm_lab.responses import Responses
from qbrm_lab.results.study_rows import CandidatesResults, CandidatesRow, CandidatesSource, Estimate
from qbrm_lab.scenarios import VALIDATION_SHARE
from qbrm_lab.studies.cache import cached, preferences_digest
from qbrm_lab.studies.candidates_page import BASE, LONGEST, MACHINE, METHODS, REFINED, candidates_markdown
from qbrm_lab.studies.json_files import write_json

CANDIDATES_FILE, PAGE = "candidates.json", "candidates.md"
FOLDS = 5  # each prompt is tested by one seed
SETS_SHARE = 0.3  # of the training prompts, whose best-of-n sets the machine is fitted to and no score has seen
SCORE = Family("rbm")
FEWEST_FITTED = FEWEST_SETS - FEWEST_SETS // FOLDS
# Candidates of one file that are embedded, on a random sample of its prompts.
MOST_CANDIDATES, MOST_QUICK = 7000, 1000


class Prepared(NamedTuple):
    """What all seeds share.

    Attributes:
        train: preferences that train the reward model's head, the score, and with their best-of-n sets the machine.
        lists: candidates by source; those of the preferences first.
        embedded: what `model` gave for every response.
    """

    settings: ComparisonSettings
    train: PreferenceSet
    lists: dict[str, list[CandidateList]]
    responses: Responses
    model: RewardModel
    embedded: Embedded


@dataclass(frozen=True)
class Tested:
    """One seed's choices in the sets that it tests, in the order of their numbers.

    Attributes:
        source: where the sets are from.
        number: of each set among those of the source.
        gold: value of the chosen candidates, by method.
        log_loss: of the best candidate, by method.
        parameters: of the fitted machine.
    """

    source: str
    number: list[int]
    gold: dict[str, list[float]]
    log_loss: dict[str, list[float]]
    parameters: dict[str, float]


class Prompts(NamedTuple):
    """What one seed does with the prompts of the preferences: train a score, fit the machine, test it."""

    score: PreferenceSet
    sets: set[str]
    test: set[str]


def study_candidates(settings: ComparisonSettings, files: Sequence[Path], quick: bool, reporter: Reporter) -> Path:
    """Measure choosing among candidates, on files with gold values and on the best-of-n sets of the preferences.

    Every seed holds out another fifth of the prompts of each source. The others of the preferences train the reward
    model's head if it came without one, a score, and, on prompts of their own, the machine and its rivals; the others
    of a file train a machine and rivals for that file. Writes candidates.json and candidates.md to `settings.out`,
    where finished seeds are kept.

    Args:
        settings: of the study; scenarios and methods are the study's own.
        files: candidates with gold values.
        quick: take a sample of some 1,000 candidates of each file instead of 7,000.
        reporter: shows progress.

    Returns:
        The path of candidates.md.

    Raises:
        InputError: if a source is not usable.
    """
    prepared = _prepare(settings, files, MOST_QUICK if quick else MOST_CANDIDATES, reporter)
    seeds = range(settings.seed, settings.seed + settings.seeds)
    tested = list(each_seed(partial(_of_seed, prepared), seeds, settings.workers, reporter, "candidates"))
    by_source = [
        _measured(name, lists, [one for of_seed in tested for one in of_seed if one.source == name], settings.seed)
        for name, lists in prepared.lists.items()
    ]
    results = CandidatesResults(
        settings.command,
        settings.seeds,
        prepared.model.identity.title,
        [source for source, _ in by_source],
        [row for _, rows in by_source for row in rows],
    )
    write_json(settings.out / CANDIDATES_FILE, results)
    path = settings.out / PAGE
    write_atomically(path, candidates_markdown(results).encode())
    return path


def _prepare(settings: ComparisonSettings, files: Sequence[Path], most: int, reporter: Reporter) -> Prepared:
    train = preferences_of(settings.train, skip_bad=settings.skip_bad)
    report_preferences(train, reporter)
    lists = {}
    if any(preference.set == "bon" for preference in train):
        lists[train.name] = [one for one in read_candidates(train) if len(one.responses) > 1]
    for file in files:
        if file.name in lists:
            raise InputError(f"--candidates names {file.name!r} twice; expected sources with different names.")
        lists[file.name] = _sample(read_candidates(file), most)
        check_disjoint(train, as_preferences(lists[file.name], file.name))
        of_prompts = f"{len(lists[file.name])} prompts"
        reporter.fact(file.name, of_prompts, f"{sum(len(one.responses) for one in lists[file.name]):,} candidates")
    if not lists:
        raise InputError(f"{train.name} has no best-of-n sets; expected some, or files named by --candidates.")
    for name, of_source in lists.items():
        _check_enough(train, name, of_source, range(settings.seed, settings.seed + settings.seeds))
    model = load_reward_model(settings.reward_model, **settings.reward_model_options)
    sets = [train, *(as_preferences(of_file, name) for name, of_file in lists.items() if name != train.name)]
    responses = Responses(sets)
    table, _ = embed(model, sets, settings.out / "features", reporter)
    return Prepared(settings, train, lists, responses, model, table.rows(responses.keys))


def _check_enough(train: PreferenceSet, name: str, lists: Sequence[CandidateList], seeds: Sequence[int]) -> None:
    for seed in seeds:
        fitted_to, tested = _numbers(train, name, lists, seed)
        if len(fitted_to) < FEWEST_FITTED or not tested:
            raise InputError(
                f"{name} has {len(lists)} sets of two or more candidates, {len(fitted_to)} of them to fit to and "
                f"{len(tested)} to test in seed {seed}; expected at least {FEWEST_FITTED} and 1."
            )


def _sample(lists: Sequence[CandidateList], most: int) -> list[CandidateList]:
    """Lists in the order of their prompts' hashes, until they have more than `most` candidates."""
    several = sorted((one for one in lists if len(one.responses) > 1), key=lambda one: one.prompt_id)
    total = np.cumsum([len(one.responses) for one in several])
    return several[: max(FEWEST_SETS, int((total <= most).sum()))]


def _of_seed(prepared: Prepared, seed: int, reporter: Reporter) -> list[Tested]:
    files = {name: as_preferences(lists, name) for name, lists in prepared.lists.items()}
    question = {
        "seed": seed,
        "reward_model": prepared.model.identity.to_dict(),
        "data": preferences_digest([prepared.train, *files.values()]),
        "gold": {name: [one.gold for one in lists] for name, lists in prepared.lists.items()},
    }
    path = prepared.settings.out / "candidates" / f"seed-{seed}.json"
    reporter.status(f"candidates, seed {seed}")
    tested = cached(path, question, list[Tested], lambda: list(_tested(prepared, seed)))
    reporter.status(None)
    return tested


def _tested(prepared: Prepared, seed: int) -> Iterator[Tested]:
    score, embedding, reward = _fitted_score(prepared, _prompts(prepared.train, seed).score, seed)
    keys = {key: row for row, key in enumerate(prepared.responses.keys)}
    for name, lists in prepared.lists.items():
        rows = [[keys[one.prompt_id, response_id(text)] for text in one.responses] for one in lists]
        sets = [
            described(score, score.refinement, embedding[of_set], reward[of_set], one.responses)
            for of_set, one in zip(rows, lists, strict=True)
        ]
        train, test = _numbers(prepared.train, name, lists, seed)
        base = [reward[rows[number]].double() for number in test]
        yield _outcome(name, lists, sets, base, train, test, seed)


def _prompts(train: PreferenceSet, seed: int) -> Prompts:
    test = _fold(sorted(train.prompt_ids), seed)
    score, sets = split_by_prompt(train.of_prompts(set(train.prompt_ids) - test), SETS_SHARE, seed)
    return Prompts(score, set(sets.prompt_ids), test)


def _numbers(train: PreferenceSet, name: str, lists: Sequence[CandidateList], seed: int) -> tuple[list[int], ...]:
    """Numbers of a source's sets that the machine is fitted to, and of those that a seed tests."""
    if name == train.name:
        _, fitted_to, tested = _prompts(train, seed)
    else:
        known = sorted({one.prompt_id for one in lists})
        tested = _fold(known, seed)
        fitted_to = set(known) - tested
    numbers = range(len(lists))
    return tuple([number for number in numbers if lists[number].prompt_id in part] for part in (fitted_to, tested))


def _fold(prompts: Sequence[str], seed: int) -> set[str]:
    """The prompts that a seed tests: every fifth in the order of their hashes."""
    return set(prompts[seed % FOLDS :: FOLDS])


def _fitted_score(
    prepared: Prepared, preferences: PreferenceSet, seed: int
) -> tuple[EnergyScore, Float[torch.Tensor, "responses dim"], Float[torch.Tensor, " responses"]]:
    """A score, with embeddings and base rewards of all responses; half of the prompts train a head that is missing."""
    vectors = torch.from_numpy(prepared.embedded.embedding)
    kept, validation = split_by_prompt(preferences, VALIDATION_SHARE, seed)
    if prepared.embedded.reward is not None:
        embedding, reward = vectors, torch.from_numpy(prepared.embedded.reward)
    else:
        for_head, kept = split_by_prompt(kept, 0.5, seed)
        nothing = torch.zeros(len(vectors))
        parts = [prepared.responses.pairs(part, vectors, nothing) for part in (for_head, validation)]
        trunk, _ = fit_trunk(parts[0], parts[1], seed, direction_dim=direction_dim(prepared.model))
        with torch.no_grad():
            embedding = trunk.embed(vectors)
            reward = trunk.reward(embedding)
    pairs, held = (prepared.responses.pairs(part, embedding, reward) for part in (kept, validation))
    fitted = fit_score(lambda: SCORE.build(pairs.dim), Fold(pairs, held, seed), SCORE.settings(pairs.n_pairs))
    return fitted.score.eval(), embedding, reward


def _outcome(
    name: str,
    lists: Sequence[CandidateList],
    sets: Sequence[Candidates],
    base: Sequence[Float[torch.Tensor, " n"]],
    train: Sequence[int],
    test: Sequence[int],
    seed: int,
) -> Tested:
    """Fit the machine and its rivals to some sets, and let them and plain rewards choose in others."""
    shares = [shares_of(lists[number].gold) for number in train]
    fitted_to, tested = [sets[number] for number in train], [sets[number] for number in test]
    coupled, rivals = machine(fitted_to, shares, seed), fit_rivals(fitted_to, shares, seed)
    with torch.no_grad():
        claims = {MACHINE: [coupled.log_odds(coupled.standard([one]))[0] for one in tested]}
        claims |= {way: _log_odds(rival, tested) for way, rival in vars(rivals).items()}
    lengths, rewards = [one.length for one in tested], [one.reward.double() for one in tested]
    by_method = {BASE: base, REFINED: rewards, LONGEST: lengths, **claims}
    worth = [np.array(lists[number].gold) for number in test]
    best = [shares_of(lists[number].gold) for number in test]
    return Tested(
        name,
        list(test),
        {
            way: [_chosen(gold, by.numpy()) for gold, by in zip(worth, all_, strict=True)]
            for way, all_ in by_method.items()
        },
        {
            way: [-float((share * torch.log_softmax(odds, 0)).sum()) for share, odds in zip(best, all_, strict=True)]
            for way, all_ in claims.items()
        },
        {parameter: float(value.detach()) for parameter, value in coupled.named_parameters()},
    )


def _log_odds(rival: LinearChoice, sets: Sequence[Candidates]) -> list[Float[torch.Tensor, " n"]]:
    return rival.log_odds(sets)


def _chosen(gold: Float64[np.ndarray, " n"], reward: Float64[np.ndarray, " n"]) -> float:
    """Value of the candidate with the greatest reward; the least of those that tie."""
    return float(gold[reward == reward.max()].min())


def _measured(
    name: str, lists: Sequence[CandidateList], tested: Sequence[Tested], seed: int
) -> tuple[CandidatesSource, list[CandidatesRow]]:
    """Means over the sets that were tested, by as many seeds as tested each, with intervals by prompt."""
    numbers = sorted({number for one in tested for number in one.number})
    place = {number: row for row, number in enumerate(numbers)}
    prompt = np.unique([lists[number].prompt_id for number in numbers], return_inverse=True)[1]
    bootstrap = PromptBootstrap(TestPairs(prompt), seed)

    def means(values: Sequence[Sequence[float]]) -> Float64[np.ndarray, " sets"]:
        total, count = np.zeros(len(numbers)), np.zeros(len(numbers))
        for one, of_seed in zip(tested, values, strict=True):
            rows = [place[number] for number in one.number]
            total[rows] += of_seed
            count[rows] += 1
        mean: Float64[np.ndarray, " sets"] = total / count
        return mean

    def estimate(values: Float64[np.ndarray, " sets"]) -> Estimate:
        return Estimate(float(values.mean()), *bootstrap.intervals(values)["all"])

    loss = {method: means([one.log_loss[method] for one in tested]) for method in tested[0].log_loss}
    gold = {method: means([one.gold[method] for one in tested]) for method in METHODS}
    rows = [
        CandidatesRow(
            source=name,
            method=method,
            gold=estimate(gold[method]),
            over_refined=None if method == REFINED else estimate(gold[method] - gold[REFINED]),
            behind_machine=None if method == MACHINE else estimate(gold[MACHINE] - gold[method]),
            log_loss=float(loss[method].mean()) if method in loss else None,
            loss_over_machine=estimate(loss[method] - loss[MACHINE]) if method in loss and method != MACHINE else None,
        )
        for method in METHODS
    ]
    worth: Any = [lists[number].gold for number in numbers]
    source = CandidatesSource(
        name=name,
        sets=len(numbers),
        prompts=len(set(prompt)),
        candidates=float(np.mean([len(values) for values in worth])),
        random=float(np.mean([np.mean(values) for values in worth])),
        best=float(np.mean([max(values) for values in worth])),
        parameters={
            parameter: float(np.mean([one.parameters[parameter] for one in tested]))
            for parameter in tested[0].parameters
        },
    )
    return source, rows
