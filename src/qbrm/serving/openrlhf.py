"""OpenRLHF's remote reward protocol, as its versions 0.5.8 to 0.11 speak it.

A client posts ``query`` (prompt and response as its tokenizer decodes them, special tokens included), ``prompts`` (as
the policy was given them, a chat template applied if it uses one) and ``labels`` (whatever its data set has), and reads
``rewards``, ``scores`` and ``extra_logs``, each with one number per query.
"""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field, FiniteFloat

from qbrm.model.distribution import RewardDistribution
from qbrm.model.energy_reward_model import PromptLike
from qbrm.serving.batching import Batcher
from qbrm.serving.chat_markup import read_markup
from qbrm.serving.rollout import response_in
from qbrm.serving.routes import PROBLEMS, check_size
from qbrm.serving.settings import Limits


class GetRewardRequest(BaseModel):
    """What OpenRLHF posts."""

    query: list[str] = Field(description="Prompt and response, as the policy's tokenizer decodes them.")
    prompts: list[str] | None = Field(None, description="The prompts alone, as the policy was given them.")
    labels: list[Any] | None = Field(None, description="Not used.")


class GetRewardAnswer(BaseModel):
    """What OpenRLHF reads; one number per query in every list."""

    rewards: list[FiniteFloat] = Field(description="Refined rewards.")
    scores: list[FiniteFloat] = Field(description="The same, for dynamic filtering.")
    extra_logs: dict[str, list[FiniteFloat]] = Field(description="Base rewards and standard deviations.")


def openrlhf_routes(batcher: Batcher, limits: Limits) -> APIRouter:
    """POST /get_reward."""
    routes = APIRouter(tags=["OpenRLHF"], responses=PROBLEMS)

    @routes.post("/get_reward")
    async def get_reward(request: GetRewardRequest) -> GetRewardAnswer:
        """Score rollouts: point OpenRLHF's `--reward.remote_url` here."""
        # Reading megabytes takes long enough to keep others waiting, so it has a thread of its own.
        prompts, responses = await asyncio.to_thread(_read, request, limits)
        return await batcher.ask(prompts, responses, _answer)

    return routes


def _read(request: GetRewardRequest, limits: Limits) -> tuple[list[PromptLike], list[str]]:
    written = _prompts(request)
    check_size(written, request.query, limits.responses, 2 * limits.characters)
    responses = [_response(row, *pair) for row, pair in enumerate(zip(request.query, written, strict=True))]
    prompts = [read_markup(prompt) for prompt in written]
    check_size(prompts, responses, limits.responses, limits.characters)
    return prompts, responses


def _prompts(request: GetRewardRequest) -> list[str]:
    if request.prompts is None:
        missing = "prompts is missing, which marks where the response in query begins"
        raise HTTPException(422, f"{missing}; OpenRLHF sends it from version 0.5.8 on.")
    if len(request.prompts) != len(request.query):
        counted = f"{len(request.query)} queries and {len(request.prompts)} prompts"
        raise HTTPException(422, f"{counted}; expected as many of each.")
    return request.prompts


def _response(row: int, query: str, prompt: str) -> str:
    response = response_in(query, prompt)
    if response is None:
        wrong = f"query {row} does not begin with prompt {row}, nor with the end of it"
        raise HTTPException(422, f"{wrong}; expected prompt and response.")
    return response


def _answer(distribution: RewardDistribution) -> GetRewardAnswer:
    rewards = distribution.refined.tolist()
    logs = {"base_reward": distribution.base.tolist(), "reward_std": distribution.std.tolist()}
    return GetRewardAnswer(rewards=rewards, scores=rewards, extra_logs=logs)
