"""slime's remote reward model, as its ``--rm-type remote_rm`` calls it.

A client posts one sample: ``prompt`` (text with the policy's chat template applied, or messages), ``response`` (text,
the mark that ends it included) and ``label``. It takes the whole JSON answer for the reward, so that is a number.
"""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field, FiniteFloat

from qbrm.serving.batching import Batcher
from qbrm.serving.json_route import JsonRoute
from qbrm.serving.rollout import Rollout, read_response, read_rows
from qbrm.serving.routes import PROBLEMS, ask, check_size, plain, refined_of
from qbrm.serving.schemas import Messages
from qbrm.serving.settings import Limits


class RemoteRewardRequest(BaseModel):
    """What slime posts."""

    prompt: str | Messages
    response: str
    label: Any = Field(None, description="Not used.")


def slime_routes(batcher: Batcher, limits: Limits) -> APIRouter:
    """POST /remote_rm."""
    routes = APIRouter(tags=["trainers"], responses=PROBLEMS, route_class=JsonRoute)

    @routes.post("/remote_rm")
    async def remote_rm(request: RemoteRewardRequest) -> FiniteFloat:
        """Score one sample: point slime's `--rm-url` here, with `--rm-type remote_rm`."""
        [reward] = await ask(batcher, limits, await asyncio.to_thread(_read, request, limits), refined_of)
        return reward

    return routes


def _read(request: RemoteRewardRequest, limits: Limits) -> list[Rollout]:
    prompt = plain(request.prompt)
    check_size([prompt], [request.response], 1, 2 * limits.characters)
    return read_rows("prompt", lambda prompt: read_response(prompt, request.response), [prompt])
