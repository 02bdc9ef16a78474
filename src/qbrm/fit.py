"""From feature folders of any size to a trained score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from qbrm.comparison.methods import METHODS, EnergyMethod, Fitted, Task
from qbrm.comparison.methods.base import Rewards
from qbrm.comparison.responses import Features
from qbrm.comparison.scenario import VALIDATION_SHARE
from qbrm.comparison.settings import check_known
from qbrm.console import Reporter
from qbrm.durable import make_folder, one_writer
from qbrm.energy_reward_model import EnergyRewardModel
from qbrm.errors import InputError
from qbrm.features.pairs import PairData
from qbrm.features.recorded import RecordedRewardModel
from qbrm.features.stream import WINDOW_BYTES, Share, Source, StreamedPairs, cut_off, open_sources
from qbrm.model_card import Provenance
from qbrm.reward_models.encoder_reward_model import TRUNK
from qbrm.training.trainer import Epoch
from qbrm.training_prompts import write_training_prompts

CHECKPOINT = Path("training") / "checkpoint.safetensors"
MOST_VALIDATION_PAIRS = 8192
# Beyond, the list of prompts would take memory that grows with the data.
MOST_PAIRS_REMEMBERED = 10_000_000
SCORES = tuple(name for name, method in METHODS.items() if isinstance(method, EnergyMethod))


def train_score(
    folders: Sequence[Path], score: str, out: Path, reporter: Reporter, *, epochs: int, seed: int, command: str
) -> None:
    """Train an energy score on feature folders of any size, and save it with what they know of their reward model.

    The training state is kept in `out`; the same call continues after the last whole epoch.

    Args:
        folders: features with rewards and pairs, all of one reward model.
        score: one of `SCORES`.
        out: folder for the model, for `EnergyRewardModel.from_pretrained`.
        reporter: told what is going on.
        epochs: passes over the pairs.
        seed: of split, initial weights, shuffling and noise.
        command: the command line, for the model card.

    Raises:
        InputError: if something given is not usable, or `out` cannot be written.
        TrainingError: if the training cannot go on.
    """
    check_known("score", score, SCORES)
    sources = open_sources(folders)
    _check_loadable(sources[0])
    for folder, (table, pairs) in zip(folders, sources, strict=True):
        reporter.fact(str(folder), f"{len(table):,} rows of {table.identity}", f"{len(pairs.chosen):,} pairs")
    make_folder(out)
    with one_writer(out):
        fitted = fit_score(sources, score, out / CHECKPOINT, reporter, epochs=epochs, seed=seed)
        assert fitted.score is not None
        if sum(len(source.pairs.prompt) for source in sources) <= MOST_PAIRS_REMEMBERED:
            write_training_prompts(out, np.concatenate([source.pairs.prompt for source in sources]))
        reward_model = RecordedRewardModel(sources[0].table)
        provenance = _provenance(folders, sources, score, fitted, command, epochs, seed)
        EnergyRewardModel(reward_model, fitted.score, fitted.refinement, provenance).save_pretrained(out)
    reporter.fact("model", str(out))


def fit_score(
    sources: Sequence[Source],
    score: str,
    checkpoint: Path | None,
    reporter: Reporter,
    *,
    epochs: int = 5,
    seed: int = 0,
    window_bytes: int = WINDOW_BYTES,
) -> Fitted:
    """Train an energy score with its own objective on features that stay on disk.

    An eighth of the prompts, but no more than about 8,192 pairs, is held out to choose the epoch and the temperature.

    Args:
        sources: features and pairs.
        score: one of `SCORES`.
        checkpoint: keeps the state after every epoch; training resumes from it if it is there. None keeps none.
        reporter: told about every epoch.
        epochs: passes over the pairs.
        seed: of split, initial weights, shuffling and noise.
        window_bytes: bytes of embeddings in memory.

    Raises:
        InputError: if there are too few prompts to train and validate on.
        TrainingError: if the training cannot go on.
    """
    cut = _cut(sources, seed)
    validation = StreamedPairs(tuple(sources), Share(0.0, cut, seed)).load()
    with reporter.progress("training") as advance:
        pairs = StreamedPairs(tuple(sources), Share(cut, 1.0, seed), window_bytes=window_bytes, progress=advance)
        if not (pairs.n_pairs and validation.n_pairs):
            total = pairs.n_pairs + validation.n_pairs
            raise InputError(f"all {total} pairs are on one prompt; expected two or more, one to validate with.")
        base = (validation.reward[validation.chosen] > validation.reward[validation.rejected]).float().mean()
        reporter.fact("training", f"{pairs.n_pairs:,} pairs", f"{validation.n_pairs:,} held out", f"score {score}")
        reporter.fact("base reward", f"held out: accuracy {100 * float(base):.1f}%")
        task = Task(
            pairs,
            validation,
            _features(validation),
            seed,
            checkpoint,
            measure=lambda rewards: _accuracy(validation, rewards),
            on_epoch=lambda epoch: _tell(epoch, reporter),
        )
        return _method(score, epochs).fit(task)


def _method(score: str, epochs: int) -> EnergyMethod:
    method = METHODS[score]
    assert isinstance(method, EnergyMethod)
    return replace(method, settings=replace(method.settings, epochs=epochs))


def _cut(sources: Sequence[Source], seed: int) -> float:
    """Where the held-out share of the prompts ends."""
    total = sum(len(source.pairs.chosen) for source in sources)
    return cut_off(sources, min(VALIDATION_SHARE, MOST_VALIDATION_PAIRS / total), seed)


def _check_loadable(source: Source) -> None:
    if source.table.identity.name.endswith(TRUNK):
        raise InputError(
            f"features in {source.table.folder} come from the reward model that 'qbrm compare' trained for its own "
            "run; expected features that 'qbrm embed' wrote with --reward-model."
        )


def _accuracy(validation: PairData, rewards: Rewards) -> Mapping[str, float]:
    refined = rewards(_features(validation))
    return {"validation_accuracy": float((refined[validation.chosen] > refined[validation.rejected]).float().mean())}


def _features(validation: PairData) -> Features:
    return Features(validation.embedding, validation.reward, torch.zeros(len(validation.reward), dtype=torch.long))


def _tell(epoch: Epoch, reporter: Reporter) -> None:
    loss = f"loss {epoch['loss']:.4f}" if "loss" in epoch else "untrained"
    accuracy = f"accuracy {100 * epoch['validation_accuracy']:.1f}%"
    reporter.fact(f"epoch {int(epoch['epoch'])}", loss, f"held out: loss {epoch['validation_loss']:.4f}, {accuracy}")


def _provenance(
    folders: Sequence[Path], sources: Sequence[Source], score: str, fitted: Fitted, command: str, epochs: int, seed: int
) -> Provenance:
    """What the model card says; accuracies on pairs that chose the epoch are no results."""
    cut = _cut(sources, seed)
    data = [
        {"role": role, "name": source.pairs.source or folder.name, **_sizes(source, share)}
        for role, share in (
            ("trains the score", Share(cut, 1.0, seed)),
            ("held out: chooses and calibrates", Share(0.0, cut, seed)),
        )
        for folder, source in zip(folders, sources, strict=True)
    ]
    assert fitted.training is not None
    method = _method(score, epochs)
    best = "best epoch" if method.members == 1 else f"latest best epoch of the {method.members} members"
    return Provenance(command, data, {**method.described(), "seed": seed, best: fitted.training.best}, [])


def _sizes(source: Source, share: Share) -> dict[str, int]:
    """Prompts and pairs of a source in a share; of the smaller part the prompts are counted, which takes memory."""
    held = share.holds(source.pairs.prompt)
    pairs = int(held.sum())
    if pairs <= len(held) / 2:
        return {"prompts": len(np.unique(source.pairs.prompt[held])), "pairs": pairs}
    return {"prompts": source.pairs.prompts - len(np.unique(source.pairs.prompt[~held])), "pairs": pairs}
