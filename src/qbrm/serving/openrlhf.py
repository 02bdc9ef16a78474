"""OpenRLHF's remote reward protocol, as its versions 0.5.8 to 0.11 speak it.

A client posts ``query`` (prompt and response as its tokenizer decodes them, special tokens included), ``prompts`` (as
the policy was given them, a chat template applied if it uses one) and ``labels`` (whatever its data set has), and reads
``rewards``, ``scores`` and ``extra_logs``, each with one number per query. A client of one's own may post ``messages``
instead.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field, FiniteFloat

from qbrm.model.distribution import RewardDistribution
from qbrm.serving.batching import Batcher
from qbrm.serving.json_route import JsonRoute
from qbrm.serving.rollout import Rollout, read_messages, read_query, read_rows
from qbrm.serving.routes import PROBLEMS, ask, check_size, conversation
from qbrm.serving.schemas import Messages, Texts
from qbrm.serving.settings import Limits


class GetRewardRequest(BaseModel):
    """What OpenRLHF posts."""

    query: Texts | None = Field(None, description="Prompt and response, as the policy's tokenizer decodes them.")
    prompts: Texts | None = Field(None, description="The prompts alone, as the policy was given them.")
    labels: list[Any] | None = Field(None, description="Not used.")
    messages: Annotated[list[Messages], Field(fail_fast=True)] | None = Field(
        None, description="Conversations that end with the response; then query and prompts are not read."
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
    if request.messages is not None:
        return read_rows("messages", read_messages, map(conversation, request.messages))
    if request.query is None:
        raise HTTPException(422, "query is missing; expected query and prompts, or messages.")
    prompts = _prompts(request.query, request.prompts)
    check_size(prompts, request.query, limits.responses, 2 * limits.characters)
    return read_rows("prompt", lambda pair: read_query(*pair), zip(request.query, prompts, strict=True))


def _prompts(query: list[str], prompts: list[str] | None) -> list[str]:
    if prompts is None:
        missing = "prompts is missing, which marks where the response in query begins"
        raise HTTPException(422, f"{missing}; OpenRLHF sends it from version 0.5.8 on.")
    if len(prompts) != len(query):
        raise HTTPException(422, f"{len(query)} queries and {len(prompts)} prompts; expected as many of each.")
    return prompts


class Rewarded(NamedTuple):
    """One response's refined reward, base reward and standard deviation."""

    reward: float
    base: float
    std: float


def _rows(distribution: RewardDistribution) -> list[Rewarded]:
    columns = (distribution.refined, distribution.base, distribution.std)
    return [Rewarded(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]
