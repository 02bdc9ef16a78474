"""From a reward model and preferences, or from features on disk, to a refined reward model."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Float32, UInt64

from qbrm.data.device import default_device
from qbrm.data.pairs import PairData
from qbrm.energies import ENERGY_SCORES, EnergyScore, build_score
from qbrm.errors import InputError, check_known
from qbrm.features import FeatureTable, Key, build_features, write_features
from qbrm.features.pair_list import key_pairs, write_training_pairs
from qbrm.features.recorded import RecordedRewardModel
from qbrm.features.stream import WINDOW_BYTES, Share, Source, StreamedPairs, cut_off, open_sources
from qbrm.fitting import Epoch, FitSettings, FittedScore, Fold, fit_score
from qbrm.fitting.arrays import VALIDATION_SHARE
from qbrm.fitting.trunk import fit_trunk
from qbrm.model.model_card import DataPart, Provenance
from qbrm.model.persistence import Parts
from qbrm.preferences import PreferenceSet, preferences_of, split_by_prompt, training_pairs
from qbrm.preferences.digest import prompt_digests
from qbrm.refinement import REFINEMENTS, refine
from qbrm.reward_models import RewardModel, load_reward_model
from qbrm.reward_models.base import head_dim
from qbrm.reward_models.encoder_reward_model import TRUNK, EncoderRewardModel
from qbrm.reward_models.trunk import Trunk
from qbrm.samplers import SAMPLERS, Sampler

MOST_VALIDATION_PAIRS = 8192
# The digests of more prompts than this are not kept, so that memory does not grow with the data.
MOST_PAIRS_REMEMBERED = 10_000_000

Progress: TypeAlias = Callable[[str, int, int], None]
Preferences: TypeAlias = "str | Path | PreferenceSet | Iterable[Mapping[str, Any]]"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoreChoice:
    """An energy score to fit, one of `ENERGY_SCORES`, and its options, as :meth:`qbrm.EnergyRewardModel.fit` says.

    Members validate on different prompts if the features fit into a window in memory; else they differ in their seed.

    Raises:
        InputError: if there is no such score or sampler, or such scores do not take an option.
    """

    name: str = "sqrbm"
    gate: bool = False
    members: int = 1
    hidden: int | None = None
    sampler: str | Sampler | None = None
    epochs: int | None = None
    device: torch.device | str | None = None

    def __post_init__(self) -> None:
        check_known("score", self.name, ENERGY_SCORES)
        if isinstance(self.sampler, str):
            check_known("sampler", self.sampler, SAMPLERS)
        asked = {"gate_rank": self.gate, "members": self.members > 1, "hidden": self.hidden, "sampler": self.sampler}
        for parameter, value in asked.items():
            if value and parameter not in _parameters(ENERGY_SCORES[self.name]):
                option = parameter.removesuffix("_rank")
                able = ", ".join(name for name, score in ENERGY_SCORES.items() if parameter in _parameters(score))
                raise InputError(f"score {self.name} takes no {option}; expected one of: {able}.")

    @property
    def settings(self) -> FitSettings:
        """How the score is fitted."""
        settings = replace(ENERGY_SCORES[self.name].fit_settings, gate=self.gate, members=self.members)
        epochs = settings.training.epochs if self.epochs is None else self.epochs
        return replace(settings, training=replace(settings.training, epochs=epochs))

    @property
    def refinement(self) -> str:
        """How the score refines."""
        return ENERGY_SCORES[self.name].refinement

    def build(self, dim: int, head_dim: int | None) -> EnergyScore:
        """An untrained score for embeddings of size `dim`, of which the score head reads the first `head_dim`."""
        anchored = self.settings.objective == "preference"
        options = {"hidden": self.hidden, "sampler": self.sampler, "anchored": anchored, "reads": head_dim}
        return build_score(self.name, dim, **options).to(self.device or default_device())

    def described(self) -> dict[str, Any]:
        """All settings by name, for the model card."""
        settings = asdict(self.settings)
        sampler = self.sampler if self.sampler is None or isinstance(self.sampler, str) else repr(self.sampler)
        own = {"score": self.name, "refinement": self.refinement, "hidden": self.hidden, "sampler": sampler}
        return {**settings.pop("training"), **settings, **own}


class Split(NamedTuple):
    """Numbers of pairs to train on and held out, and the base rewards' accuracy on the pairs held out."""

    training: int
    held_out: int
    base_accuracy: float


class FittedModel(NamedTuple):
    """The parts of a refined reward model after fitting, and the fitted score with its training."""

    parts: Parts
    fitted: FittedScore[EnergyScore]


def fit_preferences(
    reward_model: str | Path | RewardModel,
    preferences: Preferences,
    choice: ScoreChoice,
    *,
    features: str | Path | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> FittedModel:
    """Embed preferences and fit a score to them; see :meth:`EnergyRewardModel.fit`, which wraps this.

    A reward model without a score layer, such as the embedded default, gets one trained on half of the prompts, and the
    score is fitted to the other half, which that layer has not seen.

    Raises:
        InputError: if something given is not usable.
        TrainingError: if training cannot go on.
    """
    if features is None:
        with TemporaryDirectory() as folder:
            return fit_preferences(reward_model, preferences, choice, features=folder, seed=seed, progress=progress)
    read = preferences_of(preferences)
    prompts = np.unique(prompt_digests(read.prompt_ids))
    model = load_reward_model(str(reward_model)) if isinstance(reward_model, (str, Path)) else reward_model
    table = build_features(model, read, Path(features), progress and partial(progress, "features"))
    if not table.has_reward:
        model, table, read = _with_trained_head(model, table, read, Path(features, "with-head"), seed)
    write_training_pairs(table.folder, read)
    sources = open_sources([table.folder])
    fold, data = _fold(sources, choice.members, seed, progress)
    fitted = fit_score(lambda: choice.build(table.dim, head_dim(model)), fold, choice.settings)
    return _fitted_model(model, fitted, choice, data, seed, prompts)


def fit_features(
    folders: Sequence[Path],
    choice: ScoreChoice,
    *,
    checkpoint: Path | None = None,
    seed: int = 0,
    window_bytes: int = WINDOW_BYTES,
    progress: Progress | None = None,
    on_split: Callable[[Split], None] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> FittedModel:
    """Fit a score to feature folders of any size; they stay on disk and memory stays constant.

    An eighth of the prompts, but no more than about 8,192 pairs, is held out to choose the epoch and the temperature.

    Args:
        folders: features with rewards and pairs, all of one reward model.
        choice: the score.
        checkpoint: keeps the state after every epoch; training resumes from it if it is there.
        seed: seeds split, initial weights, shuffling and noise.
        window_bytes: bytes of embeddings in memory.
        progress: called with ("training", pairs done, pairs) during an epoch.
        on_split: called once before training.
        on_epoch: called after every epoch; its metrics include ``validation_accuracy``.

    Raises:
        InputError: if something given is not usable, or there are too few prompts to train and validate on.
        TrainingError: if training cannot go on.
    """
    settings = choice.settings
    sources = open_sources(folders)
    if sources[0].table.identity.name.endswith(TRUNK):
        raise InputError(
            f"features in {sources[0].table.folder} come from the reward model that 'qbrm compare' trained for its own "
            "run; expected features that 'qbrm embed' wrote with --reward-model."
        )
    fold, data = _fold(sources, choice.members, seed, progress, window_bytes)
    validation = fold.validation
    if on_split is not None:
        on_split(Split(fold.pairs.n_pairs, validation.n_pairs, _accuracy(validation, validation.reward)))

    def measure(score: EnergyScore) -> dict[str, float]:
        refinement = REFINEMENTS[choice.refinement]
        refined = refine(score, validation.embedding, validation.reward, refinement, seed=seed)
        return {"validation_accuracy": _accuracy(validation, refined)}

    fitted = fit_score(
        lambda: choice.build(fold.pairs.dim, None),
        replace(fold, checkpoint=checkpoint),
        settings,
        measure=measure,
        on_epoch=on_epoch,
    )
    prompts = None
    if sum(len(source.pairs.prompt) for source in sources) <= MOST_PAIRS_REMEMBERED:
        prompts = np.unique(np.concatenate([source.pairs.prompt for source in sources]))
    return _fitted_model(RecordedRewardModel(sources[0].table), fitted, choice, data, seed, prompts)


def _parameters(score: type[EnergyScore]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(score).parameters


def _fold(
    sources: Sequence[Source], members: int, seed: int, progress: Progress | None, window_bytes: int = WINDOW_BYTES
) -> tuple[Fold, list[DataPart]]:
    """Training and validation pairs of features on disk, and their description for the model card."""
    total = sum(len(source.pairs.chosen) for source in sources)
    cut = cut_off(sources, min(VALIDATION_SHARE, MOST_VALIDATION_PAIRS / total), seed)
    held_out, trained = Share(0.0, cut, seed), Share(cut, 1.0, seed)
    validation = StreamedPairs(tuple(sources), held_out).load()
    follow = partial(progress, "training") if progress else None
    pairs = StreamedPairs(tuple(sources), trained, window_bytes=window_bytes, progress=follow)
    if not (pairs.n_pairs and validation.n_pairs):
        total_pairs = pairs.n_pairs + validation.n_pairs
        raise InputError(f"all {total_pairs} pairs are on one prompt; expected two or more, one to validate with.")
    logger.info("%s pairs to train on, %s held out", f"{pairs.n_pairs:,}", f"{validation.n_pairs:,}")
    size = sum(len(source.table) for source in sources) * pairs.dim * np.dtype(np.float32).itemsize
    by_turns = members > 1 and size <= window_bytes
    roles = ("trains the score", "held out: chooses and calibrates")
    if by_turns:
        roles = (f"trains and validates the {members} members by turns",) * 2
    data = [
        DataPart(role, source.pairs.source or source.table.folder.name, *_sizes(source, share))
        for role, share in zip(roles, (trained, held_out), strict=True)
        for source in sources
    ]
    return _in_memory(sources, held_out) if by_turns else Fold(pairs, validation, seed), data


def _in_memory(sources: Sequence[Source], held_out: Share) -> Fold:
    """The same pairs in memory, with the prompt that each response answers: what a committee shares out."""
    data = StreamedPairs(tuple(sources), Share(0.0, 1.0, held_out.seed)).load()
    digest = np.concatenate([source.pairs.prompt for source in sources])
    prompt = data.chosen.new_zeros(len(data.reward))
    for side in (data.chosen, data.rejected):
        prompt[side] = torch.from_numpy(digest.view(np.int64))
    held = torch.from_numpy(held_out.holds(digest))
    return Fold(data.only(~held), data.only(held), held_out.seed, prompt=prompt)


def _with_trained_head(
    encoder: RewardModel, table: FeatureTable, preferences: PreferenceSet, folder: Path, seed: int
) -> tuple[RewardModel, FeatureTable, PreferenceSet]:
    """A score layer on an encoder's vectors, trained on half of the prompts; the other half is left for the score."""
    for_head, for_score = split_by_prompt(preferences, 0.5, seed)
    keys = list(preferences.responses())
    vectors = table.rows(keys).embedding
    model = EncoderRewardModel(encoder, fit_head(for_head, keys, vectors, seed))
    embedded = model.embed_vectors(vectors)
    with_rewards = write_features(folder, model.identity, keys, embedded.embedding, embedded.reward)
    logger.info("trained a score layer on %s, with half of the prompts", encoder.identity)
    return model, with_rewards, for_score


def fit_head(
    preferences: PreferenceSet, keys: Sequence[Key], vectors: Float32[np.ndarray, "responses dim"], seed: int
) -> Trunk:
    """Train the score layer of the embedded reward model; an eighth of the prompts chooses the epoch.

    `vectors` are what the encoder gave, `keys` the (prompt id, response id) of their rows.

    Raises:
        InputError: if there is no pair to train on.
    """
    parts = split_by_prompt(preferences, VALIDATION_SHARE, seed)
    pairs, validation = (_pairs(part, keys, torch.from_numpy(vectors)) for part in parts)
    return fit_trunk(pairs, validation, seed)[0]


def _pairs(preferences: PreferenceSet, keys: Sequence[Key], vectors: torch.Tensor) -> PairData:
    row = {key: index for index, key in enumerate(keys)}
    pairs = key_pairs(training_pairs(preferences))
    if not pairs:
        raise InputError(f"{preferences.name} has no pair of different responses to train a score layer on.")
    chosen, rejected = (torch.tensor([row[pair[side]] for pair in pairs]) for side in (0, 1))
    return PairData(vectors, torch.zeros(len(vectors)), chosen, rejected)


def _accuracy(pairs: PairData, reward: torch.Tensor) -> float:
    """Share of the pairs whose chosen response has the strictly greater reward."""
    return float((reward[pairs.chosen] > reward[pairs.rejected]).float().mean())


def _fitted_model(
    reward_model: RewardModel,
    fitted: FittedScore[EnergyScore],
    choice: ScoreChoice,
    data: Sequence[DataPart],
    seed: int,
    prompts: UInt64[np.ndarray, " prompts"] | None,
) -> FittedModel:
    if fitted.conflicts is not None:
        logger.info("%s: %s of %s conflicting pairs dropped", choice.name, *fitted.conflicts)
    if fitted.kept_base:
        logger.warning("%s: no epoch beat the base rewards on held-out prompts; their order is kept", choice.name)
    best = "best epoch" if choice.members == 1 else f"latest best epoch of the {choice.members} members"
    settings = {**choice.described(), "seed": seed, best: fitted.training.best}
    provenance = Provenance(data, settings, kept_base=fitted.kept_base)
    return FittedModel(Parts(reward_model, fitted.score, choice.refinement, provenance, prompts), fitted)


def _sizes(source: Source, share: Share) -> tuple[int, int]:
    """Numbers of prompts and pairs of a source in a share; the smaller part is counted, to save memory."""
    held = share.holds(source.pairs.prompt)
    pairs = int(held.sum())
    if pairs <= len(held) / 2:
        return len(np.unique(source.pairs.prompt[held])), pairs
    return source.pairs.prompts - len(np.unique(source.pairs.prompt[~held])), pairs
