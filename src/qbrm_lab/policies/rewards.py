"""Any kind of reward as one function of prompts and responses: of a reward model as it is, or of a refined one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from qbrm import EnergyRewardModel
from qbrm.errors import InputError
from qbrm.model.conversation import PromptLike, as_prompt
from qbrm.reward_models import RewardModel, load_reward_model

Rewards: TypeAlias = Callable[[Sequence[PromptLike], Sequence[str]], list[float]]


def load_rewards(name: str) -> Rewards:
    """The rewards of a refined reward model's folder, or else of a reward model, by folder or id.

    Raises:
        InputError: if there is no such model, or it gives no rewards.
    """
    return refined_rewards(EnergyRewardModel.from_pretrained(name)) if _is_refined(name) else base_rewards(name)


def refined_rewards(model: EnergyRewardModel) -> Rewards:
    """What the energy score makes of the base rewards."""

    def rewards(prompts: Sequence[PromptLike], responses: Sequence[str]) -> list[float]:
        refined: list[float] = model.score(prompts, responses).refined.tolist()
        return refined

    return rewards


def base_rewards(name: str) -> Rewards:
    """A reward model's own.

    Raises:
        InputError: if there is no such model, or it gives no rewards.
    """
    model: RewardModel = load_reward_model(name)

    def rewards(prompts: Sequence[PromptLike], responses: Sequence[str]) -> list[float]:
        reward = model.embed([as_prompt(prompt) for prompt in prompts], responses).reward
        if reward is None:
            raise InputError(f"{name} gives no rewards; expected a reward model with a score layer.")
        values: list[float] = reward.tolist()
        return values

    return rewards


def _is_refined(name: str) -> bool:
    try:
        content = json.loads((Path(name) / "config.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and "refinement" in content
