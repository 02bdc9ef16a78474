"""One seed: a reward model, refinements of it by preferences and by gold, and what each one's choice is worth."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.cli.console import Reporter
from qbrm.data.pairs import PairData
from qbrm.fitting.committee import MEMBER_SEEDS
from qbrm.fitting.trunk import fit_trunk
from qbrm.preferences import PreferenceSet, response_id
from qbrm.refinement import REFINEMENTS, refine
from qbrm.reward_models.base import direction_dim, head_dim
from qbrm.reward_models.trunk import Trunk
from qbrm_lab.evaluation.best_of_n import best_of_n
from qbrm_lab.methods import folder_name, is_trained
from qbrm_lab.methods.base import Fitted, Method, Rewards, Task
from qbrm_lab.methods.catalogue import options_of
from qbrm_lab.methods.readings import READINGS, choose_levels, read_rewards
from qbrm_lab.responses import Features
from qbrm_lab.scenarios import VALIDATION_SHARE, Roles, fresh, same
from qbrm_lab.studies.best_of_n.candidates import Candidates
from qbrm_lab.studies.best_of_n.gold_pairs import gold_pairs
from qbrm_lab.studies.best_of_n.settings import Prepared, is_trained_again
from qbrm_lab.studies.best_of_n.worth import BASE, JudgedPool, SeedWorth, sizes_of, worth_of
from qbrm_lab.studies.cache import cached, preferences_digest, settings_of

LONGEST, RANDOM, ORACLE = "longest", "random", "oracle"
GOLD = "@gold"
TEST_SHARE = 0.5
UNCHOSEN = ("mean",)


@dataclass(frozen=True)
class MethodWorth:
    """What one method's choices on one file are worth: expected gold by pool and n.

    `level` is how careful validation made it; None where there is nothing to set.
    """

    method: str
    file: str
    gold: list[list[float]]
    level: float | None = None


class Source(NamedTuple):
    """What a refinement learns from.

    Attributes:
        name: in the names of files.
        suffix: of the method's name in results.
        files: numbers of the files whose test prompts it chooses for.
        pairs: training and validation pairs.
    """

    name: str
    suffix: str
    files: tuple[int, ...]
    pairs: Callable[[], tuple[PairData, PairData]]


@dataclass(frozen=True)
class SeedOutcome:
    """One seed: prompts of the test pools by file, pairs of gold that train and validate, what methods are worth."""

    seed: int
    prompts: list[list[str]]
    gold_pairs: list[list[int]]
    worth: list[MethodWorth]

    def of_file(self, number: int, file: str) -> SeedWorth:
        """The curves on one file."""
        gold = {part.method: np.array(part.gold) for part in self.worth if part.file == file}
        return SeedWorth(self.prompts[number], gold)


class SeedStudy:
    """Everything that one seed works with; what is trained is trained when it is first needed.

    Args:
        prepared: what all seeds share.
        seed: splits prompts and seeds all training.
        reporter: shows progress.
    """

    def __init__(self, prepared: Prepared, seed: int, reporter: Reporter) -> None:
        self._prepared, self._seed, self._reporter = prepared, seed, reporter
        self._roles: Roles = (same if prepared.came_trained else fresh)(prepared.train, seed)
        self._row = {key: row for row, key in enumerate(prepared.responses.keys)}
        halves = [file.split(TEST_SHARE, seed) for file in prepared.files]
        self._known = [known for known, _ in halves]
        self._tests = [self._pools(test) for _, test in halves]
        self._sizes = [sizes_of(file.largest) for file in prepared.files]

    def run(self) -> SeedOutcome:
        """Measure every method, or read what an earlier call left."""
        worth = self._kept("references", {}, self._references)
        for source in self._sources():
            for name, method in self._prepared.methods.items():
                if not source.suffix or learns_from_gold(name):
                    asked = {"method": settings_of(method), "source": source.name}
                    measured = partial(self._measured, source, method)
                    worth += self._kept(f"{source.name}-{folder_name(name)}", asked, measured)
        prompts = [[pool.prompt_id for pool in pools] for pools in self._tests]
        return SeedOutcome(self._seed, prompts, self._gold_counts, worth)

    def _kept(
        self, label: str, asked: Mapping[str, Any], answer: Callable[[], Iterable[MethodWorth]]
    ) -> list[MethodWorth]:
        self._reporter.status(f"best-of-n, seed {self._seed}, {label}")
        path = self._folder(label) / "worth.json"
        worth = cached(path, {**self._question, **asked}, list[MethodWorth], lambda: list(answer()))
        self._reporter.status(None)
        return worth

    def _folder(self, label: str) -> Path:
        return self._prepared.settings.out / "training" / f"seed-{self._seed}" / label

    @cached_property
    def _question(self) -> dict[str, Any]:
        """All that a seed's numbers depend on, beside method and source."""
        prepared = self._prepared
        return {
            "seed": self._seed,
            "reward_model": prepared.model.identity.to_dict(),
            "vectors": hashlib.sha256(prepared.embedded.embedding.tobytes()).hexdigest(),
            "data": preferences_digest([prepared.train, *(file.preferences for file in prepared.files)]),
            "gold": [file.gold_digest() for file in prepared.files],
        }

    def _pools(self, file: Candidates) -> list[JudgedPool]:
        return [
            JudgedPool(
                pool.prompt_id,
                torch.tensor([self._row[pool.prompt_id, response_id(text)] for text in pool.responses.responses]),
                np.array(pool.gold),
            )
            for pool in file.pools
        ]

    @cached_property
    def _features(self) -> tuple[Features, int | None]:
        """What methods know of every response, and how much of the embedding the score head reads."""
        model, embedded, length = self._prepared.model, self._prepared.embedded, self._prepared.responses.length
        embedding = torch.from_numpy(embedded.embedding)
        if embedded.reward is not None:
            return Features(embedding, torch.from_numpy(embedded.reward), length), head_dim(model)
        trunk = self._trunk(0)
        with torch.no_grad():
            read = trunk.embed(embedding)
            return Features(read, trunk.reward(read), length, embedding), trunk.head_dim

    def _trunk(self, member: int) -> Trunk:
        """The embedded reward model, or another that differs in its seed."""
        vectors = torch.from_numpy(self._prepared.embedded.embedding)
        nothing = torch.zeros(len(vectors))
        parts = self._roles.reward_model, self._roles.reward_model_validation
        pairs, validation = (self._prepared.responses.pairs(part, vectors, nothing) for part in parts)
        checkpoint = self._folder(f"reward-model-{member}") / "checkpoint.safetensors"
        seed, directions = self._seed + MEMBER_SEEDS * member, direction_dim(self._prepared.model)
        return fit_trunk(pairs, validation, seed, direction_dim=directions, checkpoint=checkpoint)[0]

    def _member(self, index: int) -> Rewards:
        trunk = self._trunk(index)

        @torch.no_grad()
        def rewards(features: Features) -> Float[Tensor, " responses"]:
            assert features.vector is not None
            return trunk(features.vector, features.reward)  # type: ignore[no-any-return]

        return rewards

    def _sources(self) -> Iterator[Source]:
        files = tuple(range(len(self._prepared.files)))
        yield Source("preferences", "", files, self._preference_pairs)
        for number in files:
            name = f"gold-of-{self._prepared.files[number].name}"
            if all(self._gold_counts[number]):
                yield Source(name, GOLD, (number,), partial(self._gold_pairs, number))
            else:
                self._reporter.fact(name, "too few candidates whose gold differs by half: nothing is trained on it")

    def _preference_pairs(self) -> tuple[PairData, PairData]:
        features, _ = self._features

        def pairs(part: PreferenceSet) -> PairData:
            return self._prepared.responses.pairs(part, features.embedding, features.reward)

        return pairs(self._roles.refinement), pairs(self._roles.validation)

    def _gold_pairs(self, number: int) -> tuple[PairData, PairData]:
        features, _ = self._features
        train, validation = (gold_pairs(part, features.embedding, features.reward) for part in self._parts(number))
        return train, validation

    def _parts(self, number: int) -> list[list[JudgedPool]]:
        """Pools of one file that train a refinement, and that validate it."""
        return [self._pools(part) for part in self._known[number].split(VALIDATION_SHARE, self._seed)]

    @cached_property
    def _gold_counts(self) -> list[list[int]]:
        """Pairs of gold that train, and that validate, by file."""
        nothing = torch.zeros(len(self._row), 1)
        files = range(len(self._known))
        return [[gold_pairs(part, nothing, nothing[:, 0]).n_pairs for part in self._parts(number)] for number in files]

    def _references(self) -> Iterator[MethodWorth]:
        features, _ = self._features
        for number, pools in enumerate(self._tests):
            yield self._worth(BASE, number, features.reward.numpy())
            yield self._worth(LONGEST, number, features.length.numpy())
            file = self._prepared.files[number].name
            sizes = self._sizes[number]
            yield MethodWorth(RANDOM, file, [[float(pool.gold.mean())] * len(sizes) for pool in pools])
            best = [best_of_n(pool.gold, pool.gold, [min(n, len(pool.gold)) for n in sizes]).tolist() for pool in pools]
            yield MethodWorth(ORACLE, file, best)

    def _measured(self, source: Source, method: Method) -> Iterator[MethodWorth]:
        features, head = self._features
        pairs, validation = source.pairs()
        task = Task(
            pairs,
            validation,
            features,
            self._seed,
            self._folder(f"{source.name}-{folder_name(method.name)}") / "checkpoint.safetensors",
            measure=lambda rewards: {},
            on_epoch=lambda epoch: None,
            member=None if self._prepared.came_trained else self._member,
            head_dim=head,
            # Levels are chosen on the validation pairs, so no member may learn from them in another's place.
            prompt=None,
        )
        fitted = method.fit(task)
        for number in source.files:
            rows = torch.unique(torch.cat([pool.rows for pool in self._tests[number]]))
            for name, (rewards, level) in readings(method.name, fitted, task, features.rows(rows)).items():
                whole = np.full(len(self._row), np.nan)
                whole[rows.numpy()] = rewards.numpy()
                yield self._worth(name + source.suffix, number, whole, level)

    def _worth(
        self, name: str, number: int, reward: Float[np.ndarray, " responses"], level: float | None = None
    ) -> MethodWorth:
        gold = worth_of(self._tests[number], reward, self._sizes[number])
        return MethodWorth(name, self._prepared.files[number].name, gold.tolist(), level)


def learns_from_gold(method: str) -> bool:
    """Whether a method can learn something from pairs of gold, or of candidates' lengths."""
    return (is_trained(method) and not is_trained_again(method)) or "length" in options_of(method)


def readings(
    name: str, fitted: Fitted, task: Task, features: Features
) -> dict[str, tuple[Float[Tensor, " responses"], float | None]]:
    """Rewards of responses by a fitted method and, if it knows p(r | e), by other readings of that, with their levels.

    Args:
        name: of the method.
        fitted: the method.
        task: what it was fitted to.
        features: of the responses.
    """
    found: dict[str, tuple[Float[Tensor, " responses"], float | None]] = {name: (fitted.rewards(features), None)}
    score = fitted.score
    if score is None:
        return found
    if fitted.refinement != "mode":
        mode = refine(score, features.embedding, features.reward, REFINEMENTS["mode"])
        found[_variant(name, "mode")] = mode, None
    levels = choose_levels(score, task, list(READINGS.values()))
    for reading, rewards in read_rewards(score, features, levels).items():
        found[_variant(name, reading)] = rewards, None if reading in UNCHOSEN else levels[reading]
    return found


def _variant(name: str, reading: str) -> str:
    return f"{name}{',' if ':' in name else ':'}{reading}"
