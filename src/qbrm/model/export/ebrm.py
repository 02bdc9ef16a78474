"""Features in the form that the published EBRM code trains on."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from qbrm.durable import make_folder
from qbrm.errors import InputError
from qbrm.features import FeatureTable, build_features
from qbrm.features.manifest import MANIFEST
from qbrm.features.pair_list import PAIRS, key_pairs, read_pairs
from qbrm.model.score_choice import Progress
from qbrm.model.trained_head import fit_head
from qbrm.preferences import read_preferences, training_pairs
from qbrm.reward_models import DEFAULT_REWARD_MODEL, Embedded, load_reward_model
from qbrm.reward_models.base import direction_dim
from qbrm.reward_models.encoder_reward_model import EncoderRewardModel


class Exported(NamedTuple):
    """What was written: pairs, embedding size, and the feature folder that they were read from."""

    pairs: int
    dim: int
    features: Path


def export_ebrm(source: Path, file: Path, seed: int = 0, progress: Progress | None = None) -> Exported:
    """Write the list of {"embedding", "reward"} dicts that the published EBRM code trains on.

    Of an embedding that reads more than the score layer does, only the score layer's input is written, as published.
    Chosen and rejected responses alternate. The file loads with ``torch.load(file, weights_only=True)``. A preference
    source is embedded first, and the embedded reward model trained on it; the features are kept beside `file`.

    Args:
        source: a feature folder of a run, or a preference source.
        file: where to write; appears only when complete.
        seed: seeds the reward model's training, for a preference source.
        progress: called with ("features", done, total) while a preference source is embedded.

    Raises:
        InputError: if the source is not usable or `file` cannot be written.
    """
    if file.is_dir():
        raise InputError(f"{file} is a folder; expected the name of a file to write.")
    try:
        make_folder(file.parent)
    except InputError as error:
        raise InputError(f"{file} cannot be written: {error}") from error
    tables = _feature_tables(source)
    folder = tables[0] if tables else file.with_name(file.name + ".features")
    if tables:
        table = FeatureTable.open(folder)
        pairs = read_pairs(table)
        embedded = table.take(np.stack([pairs.chosen, pairs.rejected], axis=1).ravel())
        embedded = embedded._replace(embedding=embedded.embedding[:, : table.head_dim])
    else:
        embedded = _embed_source(source, folder, seed, progress)
    _write(file, embedded)
    rows, dim = embedded.embedding.shape
    return Exported(rows // 2, dim, folder)


def _feature_tables(folder: Path) -> list[Path]:
    """The tables in or right below a folder that have rewards and pairs, sorted by name."""
    if not (folder / MANIFEST).exists() and not list(folder.glob(f"*/{MANIFEST}")):
        return []
    folders = [table for table in (folder, *sorted(folder.glob("*/"))) if (table / PAIRS).exists()]
    if not folders:
        raise InputError(
            f"{folder} holds features without rewards or pairs; expected a run's feature folder such as "
            "runs/demo/features, written by a finished 'qbrm demo' or 'qbrm compare'."
        )
    return folders


def _embed_source(source: Path, folder: Path, seed: int, progress: Progress | None) -> Embedded:
    preferences = read_preferences(source)
    encoder = load_reward_model(DEFAULT_REWARD_MODEL)
    table = build_features(encoder, preferences, folder, progress and partial(progress, "features"))
    keys = list(preferences.responses())
    vectors = table.rows(keys).embedding
    model = EncoderRewardModel(encoder, fit_head(preferences, keys, vectors, seed, direction_dim(encoder)))
    row = {key: index for index, key in enumerate(keys)}
    pairs = key_pairs(training_pairs(preferences))
    return model.embed_vectors(vectors[[row[key] for pair in pairs for key in pair]])


def _write(file: Path, embedded: Embedded) -> None:
    if embedded.reward is None:
        raise InputError(f"{file}: the features have no rewards; expected those of a reward model with a score layer.")
    rows = torch.from_numpy(np.ascontiguousarray(embedded.embedding))
    pairs = zip(rows, embedded.reward.tolist(), strict=True)
    content = [{"embedding": embedding, "reward": reward} for embedding, reward in pairs]
    aside = file.with_name(file.name + ".partial")
    try:
        torch.save(content, aside)
        aside.replace(file)
    except (OSError, RuntimeError) as error:
        with suppress(OSError):
            aside.unlink()
        cause = str(error).splitlines()[0]
        raise InputError(f"{file} cannot be written ({cause}); expected a writable path.") from error
