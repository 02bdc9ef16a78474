"""OpenRLHF's remote reward protocol, as its versions 0.5.8 to 0.11 speak it.

A client posts ``query`` (prompt and response as its tokenizer decodes them, special tokens included), ``prompts`` (as
the policy was given them, a chat template applied if it uses one) and ``labels`` (whatever its data set has), and reads
``rewards``, ``scores`` and ``extra_logs``, each with one number per query. A client of one's own may post ``messages``:
whole conversations instead of all that, or the prompts beside it, whose templates then need not be known.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, NamedTuple, TypeVar

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field, FiniteFloat

from qbrm.model.distribution import RewardDistribution
from qbrm.serving.batching import Batcher
from qbrm.serving.json_route import JsonRoute
from qbrm.serving.rollout import Rollout, read_asked, read_messages, read_query, read_rows
from qbrm.serving.routes import PROBLEMS, ask, check_size, conversation
from qbrm.serving.schemas import Messages, Texts
from qbrm.serving.settings import Limits

Value = TypeVar("Value")


class GetRewardRequest(BaseModel):
    """What OpenRLHF posts."""

    query: Texts | None = Field(None, description="Prompt and response, as the policy's tokenizer decodes them.")
    prompts: Texts | None = Field(None, description="The prompts alone, as the policy was given them.")
    labels: list[Any] | None = Field(None, description="Not used.")
    messages: Annotated[list[Messages], Field(fail_fast=True)] | None = Field(
        None,
        description="Instead of query and prompts: conversations that end with the response. Beside them: the prompts.",
    )


class GetRewardAnswer(BaseModel):
    """What OpenRLHF reads; one number per query in every list."""

    rewards: list[FiniteFloat] = Field(description="Refined rewards.")
    scores: list[FiniteFloat] = Field(description="The same, for dynamic filtering.")
    extra_logs: dict[str, list[FiniteFloat]] = Field(description="Base rewards and standard deviations.")


def openrlhf_routes(batcher: Batcher, limits: Limits) -> APIRouter:
    """POST /get_reward."""
    routes = APIRouter(tags=["trainers"], responses=PROBLEMS, route_class=JsonRoute)

    @routes.post("/get_reward")
    async def get_reward(request: GetRewardRequest) -> GetRewardAnswer:
        """Score rollouts: point OpenRLHF's `--reward.remote_url` here."""
        # Reading megabytes takes long enough to keep others waiting, so it has a thread of its own.
        rows = await ask(batcher, limits, await asyncio.to_thread(_read, request, limits), _rows)
        rewards = [row.reward for row in rows]
        logs = {"base_reward": [row.base for row in rows], "reward_std": [row.std for row in rows]}
        return GetRewardAnswer(rewards=rewards, scores=rewards, extra_logs=logs)

    return routes


def _read(request: GetRewardRequest, limits: Limits) -> list[Rollout]:
    messages = [conversation(one) for one in request.messages or ()]
    answered = bool(messages) and all(one[-1]["role"] == "assistant" for one in messages)
    if answered or (request.query is None and request.messages is not None):
        return read_rows("messages", read_messages, messages)
    if request.query is None:
        raise HTTPException(422, "query is missing; expected query and prompts, or messages.")
    prompts = _as_many("prompts", _prompts(request.prompts), request.query)
    check_size(prompts, request.query, limits.responses, 2 * limits.characters)
    if request.messages is None:
        return read_rows("prompt", lambda row: read_query(*row), zip(request.query, prompts, strict=True))
    rows = zip(request.query, prompts, _as_many("messages", messages, request.query), strict=True)
    return read_rows("prompt", lambda row: read_asked(*row), rows)


def _prompts(prompts: list[str] | None) -> list[str]:
    if prompts is None:
        missing = "prompts is missing, which marks where the response in query begins"
        raise HTTPException(422, f"{missing}; OpenRLHF sends it from version 0.5.8 on.")
    return prompts


def _as_many(name: str, values: list[Value], query: list[str]) -> list[Value]:
    if len(values) != len(query):
        raise HTTPException(422, f"{len(query)} queries and {len(values)} {name}; expected as many of each.")
    return values


class Rewarded(NamedTuple):
    """One response's refined reward, base reward and standard deviation."""

    reward: float
    base: float
    std: float


def _rows(distribution: RewardDistribution) -> list[Rewarded]:
    columns = (distribution.refined, distribution.base, distribution.std)
    return [Rewarded(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]
