"""Refined rewards in TRL: GRPO, RLOO, online DPO and other trainers that take `reward_funcs`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qbrm.errors import InputError
from qbrm.model.energy_reward_model import EnergyRewardModel, PromptLike

Messages = Sequence[Mapping[str, Any]]


class RewardFunction:
    """A refined reward model as a reward function of TRL.

    TRL calls it with the columns of a batch by name. Prompts and completions are strings, or lists of chat messages as
    TRL passes them for conversational data; of several messages in a completion, the last is scored as the response to
    all before it.

        trainer = GRPOTrainer(model=..., reward_funcs=RewardFunction(EnergyRewardModel.from_pretrained(...)), ...)

    Args:
        model: gives the rewards.
        name: under which TRL logs them.
    """

    def __init__(self, model: EnergyRewardModel, name: str = "qbrm") -> None:
        self.model = model
        self.__name__ = name

    def __call__(
        self, prompts: Sequence[PromptLike], completions: Sequence[str | Messages], **columns: Any
    ) -> list[float]:
        """The refined reward of each completion.

        Args:
            prompts: strings or chat messages.
            completions: as many answers.
            **columns: the rest of the batch and what TRL adds; not used.

        Raises:
            InputError: if a prompt or completion is neither text nor chat messages, or there are not as many of each.
        """
        if len(prompts) != len(completions):
            raise InputError(f"{len(prompts)} prompts and {len(completions)} completions; expected as many of each.")
        turns = [_turn(prompt, completion) for prompt, completion in zip(prompts, completions, strict=True)]
        prompts, responses = zip(*turns, strict=True) if turns else ((), ())
        rewards: list[float] = self.model.score(prompts, responses).refined.tolist()
        return rewards


def _turn(prompt: PromptLike, completion: str | Messages) -> tuple[PromptLike, str]:
    if isinstance(completion, str):
        return prompt, completion
    if not completion:
        raise InputError("a completion without messages; expected text, or at least one chat message.")
    asked = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    *before, last = ({**message, "content": _text(message)} for message in (*asked, *completion))
    return before, last["content"]


def _text(message: Mapping[str, Any]) -> str:
    """The text of a message; TRL writes it in parts where the policy also takes pictures."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    try:
        return "".join(part["text"] for part in content or ())
    except (TypeError, KeyError) as error:
        raise InputError(f"message {message!r}; expected text as content.") from error
