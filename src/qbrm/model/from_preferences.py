"""From a reward model and preferences to a refined reward model with a verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Int64, UInt64

from qbrm.features import FeatureTable, build_features
from qbrm.features.pair_list import key_pairs, write_pairs
from qbrm.features.stream import Share, open_sources
from qbrm.model.division import Division
from qbrm.model.judged_fit import JudgedFit, JudgedScore
from qbrm.model.model_card import DataPart, Provenance
from qbrm.model.persistence import Parts
from qbrm.model.score_choice import Progress, ScoreChoice
from qbrm.model.trained_head import with_trained_head
from qbrm.preferences import PreferenceSet, preferences_of, training_pairs
from qbrm.preferences.digest import prompt_digests
from qbrm.reward_models import RewardModel, load_reward_model
from qbrm.reward_models.base import head_dim
from qbrm.selection import Choice

FEATURES, TRAINING = "features", "training"

Preferences: TypeAlias = "str | Path | PreferenceSet | Iterable[Mapping[str, Any]]"


class FittedModel(NamedTuple):
    """The parts of a refined reward model, and all that is known of its score."""

    parts: Parts
    judged: JudgedScore


@dataclass(frozen=True)
class PreferenceFit:
    """What a reward model is refined with, and how.

    Attributes:
        preferences: a path, the name of a data set, records, or preferences as read.
        choice: the score to fit; None to choose one.
        folder: keeps features and training states, to resume from; None keeps nothing.
        seed: seeds every random number generator.
        device: where scores are trained; None for the first accelerator, or the CPU if there is none.
        progress: called with (step, done, total); the steps are ``features``, ``choosing`` and ``training``.
        on_choice: called as soon as a score is chosen.
    """

    preferences: Preferences
    choice: ScoreChoice | None = None
    folder: Path | None = None
    seed: int = 0
    device: torch.device | None = None
    progress: Progress | None = None
    on_choice: Callable[[Choice], None] | None = None

    def run(self, reward_model: str | Path | RewardModel) -> FittedModel:
        """Embed the preferences once, fit a score to them and measure it.

        A reward model without a score layer, such as the embedded default, gets one trained on half of the prompts, and
        everything else happens on the other half, which that layer has not seen.

        Raises:
            InputError: if something given is not usable.
            TrainingError: if training cannot go on.
        """
        if self.folder is not None:
            return self._run(reward_model, self.folder, self.folder / TRAINING)
        with TemporaryDirectory() as folder:
            return self._run(reward_model, Path(folder), None)

    def _run(self, reward_model: str | Path | RewardModel, folder: Path, training: Path | None) -> FittedModel:
        read = preferences_of(self.preferences)
        prompts = np.unique(prompt_digests(read.prompt_ids))
        model = load_reward_model(str(reward_model)) if isinstance(reward_model, (str, Path)) else reward_model
        table = build_features(model, read, folder / FEATURES, self.progress and partial(self.progress, FEATURES))
        write_pairs(table.folder, key_pairs(training_pairs(read)), read.name)
        if not table.has_reward:
            model, table, read = with_trained_head(model, table, read, folder / "with-head", self.seed)
            write_pairs(table.folder, key_pairs(training_pairs(read)), read.name)
        fit = JudgedFit(
            open_sources([table.folder]),
            self.choice,
            head_dim(model),
            training,
            _lengths(table, read),
            self.seed,
            self.device,
            self.progress,
            self.on_choice,
        )
        judged = fit.run()
        provenance = Provenance(
            _data(fit.division, read.name), self._settings(judged), verdict=judged.verdict.to_dict()
        )
        return FittedModel(Parts(model, judged.score, judged.refinement, provenance, prompts), judged)

    def _settings(self, judged: JudgedScore) -> dict[str, Any]:
        named = self.choice.described() if self.choice else {}
        return {**named, "score": judged.verdict.score, "strength": judged.verdict.strength, "seed": self.seed}


def _lengths(table: FeatureTable, preferences: PreferenceSet) -> Int64[np.ndarray, " rows"]:
    """Characters of the response in each row; zero for responses of other preferences."""
    responses = preferences.responses()
    lengths = np.zeros(len(table), dtype=np.int64)
    lengths[table.locate(list(responses))] = [len(response) for _, response in responses.values()]
    return lengths


def _data(division: Division, name: str) -> list[DataPart]:
    roles: dict[str, Share | None] = {
        "trains, and chooses the score": division.training,
        "shows how far to go": division.vouching,
        "measures the verdict": division.test,
    }
    prompts: dict[str, UInt64[np.ndarray, " pairs"]] = {
        role: division.pairs(share).prompts() for role, share in roles.items() if share is not None
    }
    return [DataPart(role, name, len(np.unique(of_role)), len(of_role)) for role, of_role in prompts.items()]
