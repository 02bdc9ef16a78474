"""Take the rewards of verl's policies from `qbrm serve`.

    python -m verl.trainer.main_ppo ... reward.custom_reward_function.path=examples/verl_reward.py
        +reward.custom_reward_function.reward_kwargs.url=http://127.0.0.1:8000/v1/score

verl calls `compute_score` for every response, with the row's `extra_info`: give that the conversation as `prompt`, a
list of messages. verl asks for rewards in parallel; the server puts them into batches.
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

TRIES = 8
BUSY = (429, 503)


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: dict[str, Any],
    url: str = "http://127.0.0.1:8000/v1/score",
    token: str | None = None,
    **unused: Any,
) -> dict[str, float]:
    """The refined reward of a response, with the base reward and the standard deviation for verl's logs.

    Raises:
        aiohttp.ClientResponseError: if the server refuses the request, or stays busy.
    """
    prompt = [{"role": message["role"], "content": message["content"]} for message in extra_info["prompt"]]
    answer = solution_str.rpartition("</think>")[2].lstrip("\n")  # reasoning is no part of the answer
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(120)) as session:
        for left in reversed(range(TRIES)):
            async with session.post(url, json={"prompts": [prompt], "responses": [answer]}) as response:
                if response.status not in BUSY or not left:
                    response.raise_for_status()
                    reward = (await response.json())["rewards"][0]
                    return {"score": reward["reward"], "base_reward": reward["base"], "reward_std": reward["std"]}
                await asyncio.sleep(float(response.headers.get("retry-after", 1)))
    raise AssertionError("the last try answers or raises")
