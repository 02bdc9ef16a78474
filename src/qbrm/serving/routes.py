"""The JSON API: rewards of responses, and their comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from fastapi import APIRouter, HTTPException

import qbrm
from qbrm.model.conversation import PromptLike, as_answer, as_prompt
from qbrm.model.distribution import RewardDistribution
from qbrm.serving.batching import Batcher
from qbrm.serving.json_route import JsonRoute
from qbrm.serving.rollout import Rollout
from qbrm.serving.schemas import (
    ChatMessage,
    ChooseAnswer,
    ChooseRequest,
    CompareAnswer,
    CompareRequest,
    ModelAnswer,
    PreferAnswer,
    PreferRequest,
    Problem,
    ScoreAnswer,
    ScoreRequest,
    choice_of,
    comparison_of,
    rewards_of,
)
from qbrm.serving.settings import Limits

Item = TypeVar("Item")

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": description}
    for status, description in {
        400: "The request cannot be read.",
        401: "The token is missing or wrong.",
        408: "The request did not arrive in time.",
        413: "The request is too large: its body, a text, or the number of responses.",
        415: "The request is not JSON.",
        422: "The request is not of the expected form.",
        429: "Too much is waiting for an answer in time; try again after Retry-After seconds.",
        503: "There was no answer in time, or bodies fill the memory; try again later.",
    }.items()
}


def v1_routes(model_name: str, batcher: Batcher, limits: Limits) -> APIRouter:
    """Routes below /v1."""
    routes = APIRouter(prefix="/v1", tags=["rewards"], responses=PROBLEMS, route_class=JsonRoute)

    @routes.get("/model")
    async def model() -> ModelAnswer:
        """Describe the model that is served, and the limits of a request."""
        return ModelAnswer(
            model=model_name,
            version=qbrm.__version__,
            max_responses=limits.responses,
            max_compared=limits.compared,
            max_candidates=limits.batch,
            max_characters=limits.characters,
        )

    @routes.post("/score")
    async def score(request: ScoreRequest) -> ScoreAnswer:
        """Score each response as an answer to its prompt."""
        if len(request.prompts) != len(request.responses):
            counted = f"{len(request.prompts)} prompts and {len(request.responses)} responses"
            raise HTTPException(422, f"{counted}; expected as many of each.")
        prompts = [plain(prompt) for prompt in request.prompts]
        responses = [answer if isinstance(answer, str) else as_answer(answer) for answer in request.responses]
        check_size(prompts, responses, limits.responses, limits.characters)
        return ScoreAnswer(rewards=await batcher.ask(prompts, responses, rewards_of))

    @routes.post("/prefer")
    async def prefer(request: PreferRequest) -> PreferAnswer:
        """Give the probability that response `a` is better than response `b`."""
        prompts, responses = [plain(request.prompt)] * 2, [request.a, request.b]
        check_size(prompts, responses, 2, limits.characters)
        [wins] = await batcher.ask(prompts, responses, lambda both: [both.preferences()], whole=True)
        return PreferAnswer(probability=float(wins[0, 1]))

    @routes.post("/compare")
    async def compare(request: CompareRequest) -> CompareAnswer:
        """Rank responses to one prompt, with the distribution of each reward and P(i > j) for every two."""
        prompts = [plain(request.prompt)] * len(request.responses)
        check_size(prompts, request.responses, limits.compared, limits.characters)
        [answer] = await batcher.ask(prompts, request.responses, lambda all_: [comparison_of(all_)], whole=True)
        return answer

    @routes.post("/choose")
    async def choose(request: ChooseRequest) -> ChooseAnswer:
        """Choose the best of the candidates for one prompt, each rewarded in view of the others."""
        prompts = [plain(request.prompt)] * len(request.responses)
        check_size(prompts, request.responses, limits.batch, limits.characters)
        [answer] = await batcher.ask(prompts, request.responses, lambda all_: [choice_of(all_)], whole=True)
        return answer

    return routes


def check_size(prompts: Sequence[PromptLike], responses: Sequence[str], most: int, characters: int) -> None:
    """Refuse more than `most` responses, or a response or prompt, over all its messages, of more than `characters`."""
    if len(responses) > most:
        raise HTTPException(413, f"{len(responses)} responses; expected at most {most}.")
    for name, texts in {"prompt": map(_length, prompts), "response": map(len, responses)}.items():
        for row, length in enumerate(texts):
            if length > characters:
                raise HTTPException(413, f"{name} {row} has {length} characters; expected at most {characters}.")


async def ask(
    batcher: Batcher,
    limits: Limits,
    rollouts: Sequence[Rollout],
    answer: Callable[[RewardDistribution], Sequence[Item]],
) -> list[Item]:
    """Score rollouts, if they are within the limits."""
    prompts, responses = [rollout.prompt for rollout in rollouts], [rollout.response for rollout in rollouts]
    check_size(prompts, responses, limits.responses, limits.characters)
    return await batcher.ask(prompts, responses, answer)


def refined_of(distribution: RewardDistribution) -> list[float]:
    """Refined rewards alone."""
    rewards: list[float] = distribution.refined.tolist()
    return rewards


def plain(prompt: str | list[ChatMessage]) -> PromptLike:
    """A prompt of a request, as the model takes it."""
    return cast("PromptLike", prompt)


def conversation(messages: list[ChatMessage]) -> Sequence[Mapping[str, Any]]:
    """Messages of a request, as the model takes them."""
    return cast("Sequence[Mapping[str, Any]]", messages)


def _length(prompt: PromptLike) -> int:
    """Characters of a prompt, tool calls and what else its messages have included."""
    return len(prompt) if isinstance(prompt, str) else sum(len(message.text) for message in as_prompt(prompt))
