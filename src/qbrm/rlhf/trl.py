"""Refined rewards in TRL: GRPO, RLOO, online DPO and other trainers that take `reward_funcs`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from statistics import fmean
from typing import Any, TypeAlias

from qbrm.errors import InputError
from qbrm.model.conversation import ChatMessage, PromptLike, answered
from qbrm.model.energy_reward_model import EnergyRewardModel

Completions: TypeAlias = Sequence[str | Sequence[ChatMessage]]
LogMetric: TypeAlias = Callable[[str, float], None]


class RewardFunction:
    """A refined reward model as a reward function of TRL.

    TRL calls it with the columns of a batch by name. Prompts and completions are strings, or lists of chat messages as
    TRL passes them for conversational data. Messages go to the chat template whole, with tool calls, names and
    reasoning. Of a completion's messages, the policy's last one is scored as the response to all before it; what stands
    behind it is left out: TRL ends a rollout behind a tool's result when that took the last of its tokens.

        trainer = GRPOTrainer(model=..., reward_funcs=RewardFunction(EnergyRewardModel.from_pretrained(...)), ...)

    Args:
        model: gives the rewards.
        name: under which TRL logs them; with it the batch's means of what :class:`~qbrm.RewardDistribution` has beside
            them: NAME/base, NAME/std and NAME/quantile_0.05 to NAME/quantile_0.95.
    """

    def __init__(self, model: EnergyRewardModel, name: str = "qbrm") -> None:
        self.model = model
        self.__name__ = name

    def __call__(
        self,
        prompts: Sequence[PromptLike],
        completions: Completions,
        log_metric: LogMetric | None = None,
        **batch: Any,
    ) -> list[float]:
        """The refined reward of each completion; in its group, if the model has a machine across candidates.

        Consecutive completions of equal prompts are a group: the candidates of one prompt.

        Args:
            prompts: strings or chat messages.
            completions: as many answers.
            log_metric: TRL's, which takes a name and a value for this batch.
            **batch: the rest of the batch and what TRL adds; not used.

        Raises:
            InputError: if a prompt or completion is neither text nor chat messages, or there are not as many of each.
        """
        scored = self.model.score(*turns_of(prompts, completions))
        quantiles = {f"quantile_{level}": values.tolist() for level, values in scored.quantiles.items()}
        columns = {"base": scored.base.tolist(), "std": scored.std.tolist(), **quantiles}
        log_means(log_metric, self.__name__, columns)
        if self.model.candidates is None:
            rewards: list[float] = scored.refined.tolist()
            return rewards
        return [reward for rows in _groups(prompts) for reward in scored.rows(rows).choose().rewards.tolist()]


def _groups(prompts: Sequence[PromptLike]) -> Iterator[slice]:
    """Rows of consecutive equal prompts: TRL's completions of one prompt stand side by side."""
    start = 0
    for _, group in groupby(prompts):
        stop = start + sum(1 for _ in group)
        yield slice(start, stop)
        start = stop


def turns_of(prompts: Sequence[PromptLike], completions: Completions) -> tuple[list[PromptLike], list[str]]:
    """Prompts and responses of a batch; see :func:`~qbrm.model.conversation.answered`.

    Raises:
        InputError: if a prompt or completion is neither text nor chat messages, or there are not as many of each.
    """
    if len(prompts) != len(completions):
        raise InputError(f"{len(prompts)} prompts and {len(completions)} completions; expected as many of each.")
    turns = [answered(prompt, completion) for prompt, completion in zip(prompts, completions, strict=True)]
    return [prompt for prompt, _ in turns], [response for _, response in turns]


def log_means(log_metric: LogMetric | None, name: str, columns: Mapping[str, Sequence[float]]) -> None:
    """Log the means of columns over a batch, if TRL takes metrics and there is a batch."""
    if log_metric is None:
        return
    for column, values in columns.items():
        if values:
            log_metric(f"{name}/{column}", fmean(values))
