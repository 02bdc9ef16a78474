"""Requests and answers of the JSON API."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, model_validator, with_config
from typing_extensions import NotRequired, TypedDict

from qbrm.model.distribution import RewardDistribution
from qbrm.preferences.conversation import CARRIED

Probability = Annotated[float, Field(ge=0, le=1)]


def first_unknown_key(known: Collection[str], data: Any) -> Any:
    """An object with one of its unknown keys, since each is an error of its own and one is told."""
    if not isinstance(data, dict) or len(data) <= len(known):
        return data
    unknown = next(key for key in data if key not in known)
    return {key: data[key] for key in (*known, unknown) if key in data}


class Strict(BaseModel):
    """A request: no key that the server would ignore."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _first_unknown_key(cls, data: Any) -> Any:
        return first_unknown_key(cls.model_fields, data)


# A list stops at its first error: every error has a price, and one line is answered.
Objects = Annotated[list[dict[str, Any]], Field(fail_fast=True)]


@with_config(ConfigDict(extra="forbid"))
class ChatMessage(TypedDict):
    """One turn of a conversation, with what chat templates read of it besides its text."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: NotRequired[str | None]
    tool_calls: NotRequired[Objects | None]
    function_call: NotRequired[dict[str, Any] | None]
    tools: NotRequired[Objects | None]
    tool_call_id: NotRequired[str | None]
    name: NotRequired[str | None]
    reasoning_content: NotRequired[str | None]
    reasoning: NotRequired[str | None]
    thinking: NotRequired[str | None]
    tool_plan: NotRequired[str | None]


Texts = Annotated[list[str], Field(fail_fast=True)]
Message = Annotated[ChatMessage, BeforeValidator(partial(first_unknown_key, ("role", "content", *CARRIED)))]
Messages = Annotated[list[Message], Field(min_length=1, fail_fast=True)]
PromptField = Annotated[
    str | Messages,
    Field(description="The user's only turn, or the conversation up to the response."),
]


class ScoreRequest(Strict):
    """Response i answers prompt i."""

    prompts: Annotated[list[PromptField], Field(fail_fast=True)]
    responses: Annotated[
        list[str | Message],
        Field(fail_fast=True, description="Texts, or messages of the assistant, which may have tool calls."),
    ]


class Reward(BaseModel):
    """The reward of one response, in the reward model's units."""

    reward: FiniteFloat = Field(description="Refined reward r*.")
    base: FiniteFloat = Field(description="Reward r0 of the reward model, before refinement.")
    mean: FiniteFloat = Field(description="E[r | e].")
    mode: FiniteFloat = Field(description="The reward with the greatest density.")
    std: FiniteFloat = Field(description="Standard deviation of p(r | e).")
    quantiles: dict[str, FiniteFloat] = Field(description="Quantiles of p(r | e), by probability.")


class ScoreAnswer(BaseModel):
    """One reward per response, in their order."""

    rewards: list[Reward]


class PreferRequest(Strict):
    """Two responses to one prompt."""

    prompt: PromptField
    a: str
    b: str


class PreferAnswer(BaseModel):
    """Which of two responses is better."""

    probability: Probability = Field(description="P(a > b): that the reward of a is greater than that of b.")


class CompareRequest(Strict):
    """Two or more responses to one prompt."""

    prompt: PromptField
    responses: Texts = Field(min_length=2)


class Curve(BaseModel):
    """p(r | e) at equally spaced rewards."""

    reward: list[FiniteFloat]
    density: list[FiniteFloat]


class ComparedResponse(Reward):
    """A reward, its place and its whole distribution."""

    rank: int = Field(description="1 is the best; by refined reward.")
    curve: Curve


class CompareAnswer(BaseModel):
    """Responses in the order asked, and how they compare."""

    responses: list[ComparedResponse]
    preferences: list[list[Probability]] = Field(description="Row i, column j: P(i > j).")


class ChooseRequest(Strict):
    """The candidates for one prompt."""

    prompt: PromptField
    responses: Texts = Field(min_length=1)


class ChooseAnswer(BaseModel):
    """The best candidate, and what each is worth among the others."""

    best: int = Field(description="Number of the best candidate, from 0.")
    rewards: list[FiniteFloat] = Field(
        description="In view of the other candidates, if the model has a machine across candidates; else refined."
    )
    good: list[Probability] | None = Field(
        description="Probability that each is good; null without a machine across candidates."
    )


class ModelAnswer(BaseModel):
    """What is being served."""

    model: str
    version: str = Field(description="Of qbrm.")
    max_responses: int = Field(description="Most responses in one request.")
    max_compared: int = Field(description="Most responses in one comparison.")
    max_candidates: int = Field(description="Most candidates in one choice.")
    max_characters: int = Field(description="Most characters in one prompt or response.")


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str


def rewards_of(distribution: RewardDistribution) -> list[Reward]:
    """One per response."""
    columns = {name: getattr(distribution, name).tolist() for name in ("base", "mean", "mode", "std")}
    refined = distribution.refined.tolist()
    quantiles = {str(level): values.tolist() for level, values in distribution.quantiles.items()}
    return [
        Reward(
            reward=reward,
            quantiles={level: values[row] for level, values in quantiles.items()},
            **{name: values[row] for name, values in columns.items()},
        )
        for row, reward in enumerate(refined)
    ]


def comparison_of(distribution: RewardDistribution) -> CompareAnswer:
    """Ranks, curves and probabilities of responses to one prompt; ties keep the order asked."""
    order = sorted(range(len(distribution.refined)), key=lambda row: -float(distribution.refined[row]))
    rank = {row: place for place, row in enumerate(order, start=1)}
    curves = zip(distribution.curves.reward.tolist(), distribution.curves.density.tolist(), strict=True)
    responses = [
        ComparedResponse(rank=rank[row], curve=Curve(reward=nodes, density=density), **vars(reward))
        for row, (reward, (nodes, density)) in enumerate(zip(rewards_of(distribution), curves, strict=True))
    ]
    return CompareAnswer(responses=responses, preferences=distribution.preferences().tolist())


def choice_of(distribution: RewardDistribution) -> ChooseAnswer:
    """The best of responses to one prompt."""
    best, rewards, good = distribution.choose()
    return ChooseAnswer(best=best, rewards=rewards.tolist(), good=None if good is None else good.tolist())
