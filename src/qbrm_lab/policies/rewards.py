"""Any kind of reward as one function of prompts and responses: of a reward model as it is, or of a refined one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from qbrm import EnergyRewardModel
from qbrm.durable import sha256
from qbrm.errors import InputError
from qbrm.model.conversation import PromptLike, as_prompt
from qbrm.model.persistence import is_refined
from qbrm.reward_models import load_reward_model

Rewards: TypeAlias = Callable[[Sequence[PromptLike], Sequence[str]], list[float]]


class Judge(NamedTuple):
    """Rewards, all that they depend on besides the texts, and the verdict of a refined model that has one."""

    identity: str
    rewards: Rewards
    verdict: Mapping[str, Any] | None = None


def load_judge(name: str) -> Judge:
    """The rewards of a refined reward model's folder, or else of a reward model, by folder or id.

    Raises:
        InputError: if there is no such model, or it gives no rewards.
    """
    return _refined(name) if is_refined(name) else _base(name)


def _refined(name: str) -> Judge:
    model = EnergyRewardModel.from_pretrained(name)

    def rewards(prompts: Sequence[PromptLike], responses: Sequence[str]) -> list[float]:
        refined: list[float] = model.score(prompts, responses).refined.tolist()
        return refined

    identity = sha256(Path(name) / "config.json", Path(name) / "model.safetensors", named=True)
    return Judge(identity, rewards, model.verdict)


def _base(name: str) -> Judge:
    model = load_reward_model(name)

    def rewards(prompts: Sequence[PromptLike], responses: Sequence[str]) -> list[float]:
        reward = model.embed([as_prompt(prompt) for prompt in prompts], responses).reward
        if reward is None:
            raise InputError(f"{name} gives no rewards; expected a reward model with a score layer.")
        values: list[float] = reward.tolist()
        return values

    rewards(["Is it there?"], ["Yes."])  # to refuse a model without rewards before there is anything to score
    return Judge(json.dumps(model.identity.to_dict()), rewards)
