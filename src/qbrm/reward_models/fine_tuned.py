"""A sentence encoder and its trunk after training them together: a reward model in a folder of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save

from qbrm.durable import make_folder, read_checked, write_atomically
from qbrm.errors import DamagedFileError, InputError
from qbrm.preferences.base import Prompt
from qbrm.reward_models import FINE_TUNED
from qbrm.reward_models.base import Embedded, Identity
from qbrm.reward_models.encoder_reward_model import EncoderRewardModel
from qbrm.reward_models.sentence_encoder import SentenceEncoder
from qbrm.reward_models.trunk import Trunk

ENCODER, ENCODER_WEIGHTS, TRUNK_WEIGHTS = "encoder", "model.safetensors", "trunk.safetensors"
SCHEMA = 1
# What the encoder reads beside its weights; fine-tuning changes neither.
UNCHANGED = ("config.json", "tokenizer.json")


class FineTunedRewardModel:
    """An encoder and a trunk that were trained together; a score is saved with its folder, not with its parts.

    Args:
        parts: encoder and trunk.
        name: the folder it is in, as a user would type it.
    """

    def __init__(self, parts: EncoderRewardModel, name: str) -> None:
        self._parts = parts
        self.identity: Identity = replace(parts.identity, name=name)

    @property
    def dim(self) -> int:
        """Embedding size: trunk and encoder vector side by side."""
        return self._parts.dim

    @property
    def head_dim(self) -> int:
        """How many coordinates of the embedding, the first ones, the score head reads."""
        return self._parts.head_dim

    def embed(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Embedded:
        """Embed response i as an answer to prompt i, for all i."""
        return self._parts.embed(prompts, responses)

    def embed_and_count(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> tuple[Embedded, int]:
        """What :meth:`embed` gives, and how many texts are longer than the encoder takes."""
        return self._parts.embed_and_count(prompts, responses)


def save_fine_tuned(folder: Path, encoder: SentenceEncoder, trunk: Trunk) -> None:
    """Write encoder and trunk; the description, which makes the folder a reward model, comes last.

    Args:
        folder: where to.
        encoder: after fine-tuning.
        trunk: after fine-tuning.

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


def load_fine_tuned(name: str, revision: str | None = None) -> FineTunedRewardModel:
    """Read what :func:`save_fine_tuned` wrote.

    Args:
        name: the folder.
        revision: digest that the weights have to have; None for any.

    Raises:
        InputError: if a file is missing or damaged, or the weights have another digest.
    """
    folder = Path(name)
    try:
        description = json.loads(read_checked(folder / FINE_TUNED))
        if description["schema"] != SCHEMA:
            raise ValueError(f"schema {description['schema']}; expected {SCHEMA}")
        trunk = Trunk(**description["trunk"])
        trunk.load_state_dict(load(read_checked(folder / TRUNK_WEIGHTS)))
        max_length, sha256 = description["max_length"], description["encoder"]
    except DamagedFileError:
        raise
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{name} is no fine-tuned reward model that can be read ({reason}).") from error
    encoder = SentenceEncoder(max_length, folder=folder / ENCODER, sha256=sha256)
    model = FineTunedRewardModel(EncoderRewardModel(encoder, trunk.requires_grad_(False)), name)
    if revision not in (None, model.identity.revision):
        raise InputError(
            f"{name} has the digest {model.identity.revision}; expected the revision asked for, {revision}."
        )
    return model
