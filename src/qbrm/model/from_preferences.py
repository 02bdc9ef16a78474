"""From a reward model and preferences to a refined reward model with a verdict."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Int64, UInt64

from qbrm.data.seeds import MOST_SEED
from qbrm.errors import InputError, NotWritableError
from qbrm.features import FeatureTable
from qbrm.features.embed import embed
from qbrm.features.pair_list import write_training_pairs
from qbrm.features.stream import Share, open_sources
from qbrm.model.division import Division
from qbrm.model.hardened import FOLDER as HARDEN
from qbrm.model.hardened import HardeningHacks, hacks_to_train, hardening_of
from qbrm.model.judged_fit import JudgedFit, JudgedScore
from qbrm.model.kept import FOLDER as KEEP
from qbrm.model.kept import KeptResponses, embed_kept, without_prompts
from qbrm.model.model_card import DataPart, Provenance
from qbrm.model.persistence import Parts
from qbrm.model.probed import EmbeddedHacks, embed_hacks
from qbrm.model.score_choice import Progress, ScoreChoice
from qbrm.model.trained_head import with_trained_head
from qbrm.preferences import PreferenceSet, preferences_of
from qbrm.preferences.digest import prompt_digests
from qbrm.preferences.unlabelled import Unlabelled, responses_of
from qbrm.probes import PROBES
from qbrm.probes.hacks import hack_originals, sample_originals
from qbrm.reward_models import RewardModel, load_reward_model
from qbrm.reward_models.base import head_dim
from qbrm.selection import Choice

FEATURES, TRAINING, PROBES_FOLDER = "features", "training", "probes"
# Test prompts whose chosen responses are hacked in every way: few, as each hack is embedded for this alone.
MOST_PROBED = 50

logger = logging.getLogger(__name__)

Preferences: TypeAlias = "str | Path | PreferenceSet | Iterable[Mapping[str, Any]]"


class JudgedModel(NamedTuple):
    """The parts of a refined reward model, all that is known of its score, and how many preferences were left out."""

    parts: Parts
    judged: JudgedScore
    refused: int


@dataclass(frozen=True)
class PreferenceFit:
    """What a reward model is refined with, and how.

    Attributes:
        preferences: a path, the name of a data set, records, or preferences as read.
        choice: the score to fit; None to choose one.
        folder: keeps features and training states, to resume from; None keeps nothing.
        seed: seeds every random number generator.
        device: where scores are trained; None for the first accelerator, or the CPU if there is none.
        skip_bad: whether rows that are no preferences, or that the reward model cannot take, are left out.
        progress: called with (step, done, total); the steps are ``features``, ``choosing`` and ``training``.
        on_choice: called as soon as a score is chosen.
        keep: prompts and responses, without labels, on which the rewards' order is to stay: what `preferences` may be,
            or records of {"prompt", "responses"} or {"prompt", "response"}; None for none.
        harden: kinds of hacks that are to lose, by the names of their probes; empty for none.
    """

    preferences: Preferences
    choice: ScoreChoice | None = None
    folder: Path | None = None
    seed: int = 0
    device: torch.device | None = None
    skip_bad: bool = False
    progress: Progress | None = None
    on_choice: Callable[[Choice], None] | None = None
    keep: Unlabelled | None = None
    harden: tuple[str, ...] = ()

    def run(self, reward_model: str | Path | RewardModel) -> JudgedModel:
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

    def _run(self, reward_model: str | Path | RewardModel, folder: Path, training: Path | None) -> JudgedModel:
        if not 0 <= self.seed <= MOST_SEED:
            raise InputError(f"seed is {self.seed}; expected a whole number from 0 to {MOST_SEED}.")
        read = preferences_of(self.preferences, skip_bad=self.skip_bad)
        to_keep = None if self.keep is None else self._to_keep(self.keep, read)
        model = load_reward_model(str(reward_model)) if isinstance(reward_model, (str, Path)) else reward_model
        follow = self.progress and partial(self.progress, FEATURES)
        table, taken = embed(read, folder / FEATURES, lambda: model, progress=follow, skip_bad=self.skip_bad)
        refused, prompts = len(read) - len(taken), np.unique(prompt_digests(taken.prompt_ids))
        encoder = model
        if not table.has_reward:
            model, table, taken = with_trained_head(model, table, taken, folder / "with-head", self.seed)
            write_training_pairs(table.folder, taken)
        kept = None
        if to_keep is not None:
            told = self.progress and partial(self.progress, KEEP)
            kept = embed_kept(encoder, model, to_keep, folder, self.seed, told, skip_bad=self.skip_bad)
            prompts = np.union1d(prompts, prompt_digests(to_keep.prompt_ids))
        sources = open_sources([table.folder])
        division = Division.of(sources, self.seed)
        against = None
        if self.harden:
            to_lose = hacks_to_train(_share(taken, division.training), self.harden, self.seed)
            told = self.progress and partial(self.progress, HARDEN)
            against = hardening_of(embed_hacks(model, to_lose, folder / HARDEN, told, encoder), self.harden)
        fit = JudgedFit(
            sources,
            self._named,
            head_dim(model),
            training,
            _lengths(table, taken),
            self.seed,
            self.device,
            self.progress,
            self.on_choice,
            kept,
            against,
            self._probed(encoder, model, folder / PROBES_FOLDER, _share(taken, division.test)),
        )
        judged = fit.run()
        data = [*_data(division, taken.name), *_kept_data(kept), *_hardening_data(against, taken.name)]
        provenance = Provenance(data, self._settings(judged), verdict=judged.verdict.to_dict())
        return JudgedModel(Parts(model, judged.score, judged.refinement, provenance, prompts), judged, refused)

    def _probed(
        self, encoder: RewardModel, model: RewardModel, folder: Path, test: PreferenceSet
    ) -> EmbeddedHacks | None:
        """Hacks of the chosen responses to test prompts; None if there are none, or they cannot be embedded."""
        hacks = hack_originals(test.name, sample_originals(test, MOST_PROBED, self.seed), tuple(PROBES.values()))
        told = self.progress and partial(self.progress, PROBES_FOLDER)
        try:
            return embed_hacks(model, hacks, folder, told, encoder) if hacks.preferences.preferences else None
        except NotWritableError:
            raise
        except InputError as error:  # fitting goes on without what nobody asked for
            logger.warning("nothing is probed: %s", error)
            return None

    @property
    def _named(self) -> ScoreChoice | None:
        """The score to fit; if an order is to stay, with a gate, which keeps more of it at the same gain."""
        return self.choice if self.choice is None or self.keep is None else replace(self.choice, gate=True)

    def _to_keep(self, source: Unlabelled, read: PreferenceSet) -> PreferenceSet:
        if self.choice is not None and self.choice.settings.objective != "preference":
            raise InputError(f"score {self.choice.name} keeps no order; expected a Boltzmann machine, or no keep.")
        return without_prompts(responses_of(source, skip_bad=self.skip_bad), read)

    def _settings(self, judged: JudgedScore) -> dict[str, Any]:
        named = judged.fitted.described() if judged.fitted else {}
        return {**named, "score": judged.verdict.score, "strength": judged.verdict.strength, "seed": self.seed}


def _kept_data(kept: KeptResponses | None) -> list[DataPart]:
    return [] if kept is None else [DataPart("is to keep its order", kept.name, kept.prompts, kept.pairs)]


def _hardening_data(against: HardeningHacks | None, name: str) -> list[DataPart]:
    if against is None:
        return []
    pairs = against.source.pairs
    return [DataPart(f"is to lose: {', '.join(against.kinds)}", name, pairs.prompts, len(pairs.chosen))]


def _share(preferences: PreferenceSet, share: Share) -> PreferenceSet:
    """The preferences on the prompts of a share."""
    prompts = preferences.prompt_ids
    held = share.holds(prompt_digests(prompts))
    return preferences.of_prompts([prompt for prompt, kept in zip(prompts, held, strict=True) if kept])


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
