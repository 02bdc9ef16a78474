"""A sentence encoder and its trunk after training them together: a reward model in a folder of its own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save

from qbrm.durable import make_folder, write_atomically
from qbrm.errors import InputError
from qbrm.reward_models import FINE_TUNED
from qbrm.reward_models.encoder_reward_model import EncoderRewardModel
from qbrm.reward_models.sentence_encoder import SentenceEncoder
from qbrm.reward_models.trunk import Trunk

ENCODER, ENCODER_WEIGHTS, TRUNK_WEIGHTS = "encoder", "model.safetensors", "trunk.safetensors"
SCHEMA = 1
# What the encoder reads beside its weights; fine-tuning changes neither.
UNCHANGED = ("config.json", "tokenizer.json")


def save_fine_tuned(folder: Path, encoder: SentenceEncoder, trunk: Trunk) -> None:
    """Write encoder and trunk after fine-tuning; the description, which makes `folder` a reward model, comes last.

    Raises:
        InputError: if the folder cannot be written.
    """
    make_folder(folder / ENCODER)
    for name in UNCHANGED:
        write_atomically(folder / ENCODER / name, (encoder.folder / name).read_bytes())
    weights = save({name: value.contiguous() for name, value in encoder.network.state_dict().items()})
    write_atomically(folder / ENCODER / ENCODER_WEIGHTS, weights)
    write_atomically(folder / TRUNK_WEIGHTS, save(trunk.state_dict()))
    description = {
        "schema": SCHEMA,
        "encoder": hashlib.sha256(weights).hexdigest(),
        "max_length": encoder.identity.max_length,
        "trunk": trunk.settings(),
    }
    write_atomically(folder / FINE_TUNED, (json.dumps(description, indent=2) + "\n").encode())


def load_fine_tuned(name: str, revision: str | None = None) -> EncoderRewardModel:
    """Read what :func:`save_fine_tuned` wrote in the folder `name`.

    Raises:
        InputError: if a file is missing or damaged, or the weights have another digest than `revision`.
    """
    folder = Path(name)
    try:
        description = json.loads((folder / FINE_TUNED).read_text())
        if description["schema"] != SCHEMA:
            raise ValueError(f"schema {description['schema']}; expected {SCHEMA}")
        trunk = Trunk(**description["trunk"])
        trunk.load_state_dict(load((folder / TRUNK_WEIGHTS).read_bytes()))
        max_length, sha256 = description["max_length"], description["encoder"]
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{name} is no fine-tuned reward model that can be read ({reason}).") from error
    encoder = SentenceEncoder(max_length, folder=folder / ENCODER, sha256=sha256)
    model = EncoderRewardModel(encoder, trunk.requires_grad_(False), name)
    digest = model.identity.revision
    if revision not in (None, digest):
        raise InputError(f"{name} has the digest {digest}; expected the revision asked for, {revision}.")
    return model
