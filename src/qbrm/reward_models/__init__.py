"""Reward models, by name: text in, embedding and reward out."""

from __future__ import annotations

from collections.abc import Callable

from qbrm.errors import InputError
from qbrm.reward_models.base import Embedded, Identity, RewardModel

DEFAULT_REWARD_MODEL = "all-MiniLM-L6-v2"


def _sentence_encoder() -> RewardModel:
    from qbrm.reward_models.sentence_encoder import SentenceEncoder

    return SentenceEncoder()


REWARD_MODELS: dict[str, Callable[[], RewardModel]] = {DEFAULT_REWARD_MODEL: _sentence_encoder}


def load_reward_model(name: str) -> RewardModel:
    """Load a reward model, or the encoder that one is trained on.

    Raises:
        InputError: if there is none of this name.
    """
    if name not in REWARD_MODELS:
        raise InputError(f"unknown reward model {name!r}; expected one of: {', '.join(REWARD_MODELS)}.")
    return REWARD_MODELS[name]()


__all__ = ["DEFAULT_REWARD_MODEL", "REWARD_MODELS", "Embedded", "Identity", "RewardModel", "load_reward_model"]
