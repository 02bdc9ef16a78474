"""slime's remote reward model, as its ``--rm-type remote_rm`` calls it.

A client posts one sample: ``prompt`` (text with the policy's chat template applied, or messages), ``response`` (text,
the mark that ends it included) and ``label``. It takes the whole JSON answer for the reward, so that is a number.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field, FiniteFloat

from qbrm.model.distribution import RewardDistribution
from qbrm.serving.batching import Batcher
from qbrm.serving.rollout import Rollout, read_response, read_rows
from qbrm.serving.routes import PROBLEMS, ask, check_size, plain
from qbrm.serving.schemas import ChatMessage
from qbrm.serving.settings import Limits


class RemoteRewardRequest(BaseModel):
    """What slime posts."""

    prompt: str | Annotated[list[ChatMessage], Field(min_length=1)]
    response: str
    label: Any = Field(None, description="Not used.")


def slime_routes(batcher: Batcher, limits: Limits) -> APIRouter:
    """POST /remote_rm."""
    routes = APIRouter(tags=["trainers"], responses=PROBLEMS)

    @routes.post("/remote_rm")
    async def remote_rm(request: RemoteRewardRequest) -> FiniteFloat:
        """Score one sample: point slime's `--rm-url` here, with `--rm-type remote_rm`."""
        return await ask(batcher, limits, await asyncio.to_thread(_read, request, limits), _answer)

    return routes


def _read(request: RemoteRewardRequest, limits: Limits) -> list[Rollout]:
    prompt = plain(request.prompt)
    check_size([prompt], [request.response], 1, 2 * limits.characters)
    return read_rows("prompt", lambda prompt: read_response(prompt, request.response), [prompt])


def _answer(distribution: RewardDistribution) -> float:
    return float(distribution.refined[0])
