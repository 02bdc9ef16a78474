"""``/classify`` in vLLM's shape, which verl asks for the rewards of a reward model that is a sequence classifier.

A client posts ``input`` (a conversation with a chat template applied, the response its last turn; or a list of them)
or ``messages``, and reads the reward as ``data[-1].probs[-1]``, as of a classifier with one output and no activation.
"""

from __future__ import annotations

import asyncio
import time
from typing import Literal
from uuid import uuid4

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field, FiniteFloat

from qbrm.serving.batching import Batcher
from qbrm.serving.json_route import JsonRoute
from qbrm.serving.rollout import Rollout, read_messages, read_rows, read_text
from qbrm.serving.routes import PROBLEMS, ask, check_size, conversation, refined_of
from qbrm.serving.schemas import Messages, Texts
from qbrm.serving.settings import Limits


class ClassifyRequest(BaseModel):
    """What a client of vLLM posts; what else it sends is not used."""

    model: str | None = Field(None, description="Not used: one model is served.")
    input: str | Texts | None = Field(None, description="Conversations, as a chat template writes them.")
    messages: Messages | None = Field(None, description="A conversation that ends with the response; not input.")
    use_activation: bool | None = Field(None, description="Rewards are given as they are; true is refused.")


class Classified(BaseModel):
    """The reward of one conversation, as the only output of a classifier."""

    index: int
    label: Literal["LABEL_0"] = "LABEL_0"
    probs: list[FiniteFloat] = Field(description="The refined reward; not a probability.")
    num_classes: Literal[1] = 1


class Usage(BaseModel):
    """Tokens, which are not counted here."""

    prompt_tokens: int = 0
    total_tokens: int = 0
    completion_tokens: int = 0


class ClassifyAnswer(BaseModel):
    """What a client of vLLM reads."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[Classified]
    usage: Usage = Usage()


def classify_routes(model_name: str, batcher: Batcher, limits: Limits) -> APIRouter:
    """POST /classify."""
    routes = APIRouter(tags=["trainers"], responses=PROBLEMS, route_class=JsonRoute)

    @routes.post("/classify")
    async def classify(request: ClassifyRequest) -> ClassifyAnswer:
        """Score conversations as vLLM's server would, for verl."""
        rewards = await ask(batcher, limits, await asyncio.to_thread(_read, request, limits), refined_of)
        data = [Classified(index=index, probs=[reward]) for index, reward in enumerate(rewards)]
        return ClassifyAnswer(id=f"classify-{uuid4().hex}", created=int(time.time()), model=model_name, data=data)

    return routes


def _read(request: ClassifyRequest, limits: Limits) -> list[Rollout]:
    if request.use_activation:
        raise HTTPException(422, "use_activation is true, but a reward is not a probability; expected false.")
    if (request.input is None) == (request.messages is None):
        raise HTTPException(422, "expected either input or messages.")
    if request.messages is not None:
        return read_rows("messages", read_messages, [conversation(request.messages)])
    texts = [request.input] if isinstance(request.input, str) else request.input or []
    check_size(texts, [""] * len(texts), limits.responses, 2 * limits.characters)
    return read_rows("input", read_text, texts)
