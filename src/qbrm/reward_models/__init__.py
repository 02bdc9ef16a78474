"""Reward models, by name, folder or id on the Hugging Face Hub: text in, embedding and reward out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from typing_extensions import Unpack

from qbrm.errors import InputError, check_known
from qbrm.reward_models.base import Embedded, Identity, RewardModel
from qbrm.reward_models.options import LoadOptions, RewardModelOptions

DEFAULT_REWARD_MODEL = "all-MiniLM-L6-v2"
FINE_TUNED = "fine-tuned.json"  # makes a folder a fine-tuned sentence encoder


def _sentence_encoder() -> RewardModel:
    from qbrm.reward_models.sentence_encoder import SentenceEncoder

    return SentenceEncoder()


def _fine_tuned(name: str, options: RewardModelOptions) -> RewardModel:
    from qbrm.reward_models.fine_tuned import load_fine_tuned

    others = [option for option in options if option != "revision"]
    if others:
        raise InputError(
            f"{name} is a fine-tuned sentence encoder, which takes no {' or '.join(others)}; expected no such option."
        )
    return load_fine_tuned(name, options.get("revision"))


REWARD_MODELS: dict[str, Callable[[], RewardModel]] = {DEFAULT_REWARD_MODEL: _sentence_encoder}


def load_reward_model(name: str, **options: Unpack[RewardModelOptions]) -> RewardModel:
    """Load a reward model, or the encoder that one is trained on.

    Args:
        name: one of `REWARD_MODELS`, else a folder or an id on the Hugging Face Hub of a sequence classifier, or a
            folder of a fine-tuned sentence encoder.
        **options: see `RewardModelOptions`; the models of `REWARD_MODELS` take none.

    Raises:
        InputError: if there is no such model, or it is no reward model.
    """
    if name in REWARD_MODELS:
        if options:
            raise InputError(
                f"reward model {name} takes no {' or '.join(options)}; expected such options with a folder or an id."
            )
        return REWARD_MODELS[name]()
    if not Path(name).is_dir() and "/" not in name:
        others = "any folder of a sequence classifier and any id on the Hugging Face Hub"
        check_known("reward model", name, [*REWARD_MODELS, others])
    if (Path(name) / FINE_TUNED).is_file():
        return _fine_tuned(name, options)
    from qbrm.reward_models.pretrained import load_sequence_classifier

    return load_sequence_classifier(name, **options)


__all__ = [
    "DEFAULT_REWARD_MODEL",
    "REWARD_MODELS",
    "Embedded",
    "Identity",
    "LoadOptions",
    "RewardModel",
    "RewardModelOptions",
    "load_reward_model",
]
