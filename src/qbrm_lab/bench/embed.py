"""How fast texts are embedded, against scoring them in fixed batches padded to the longest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32

from qbrm.errors import InputError
from qbrm.preferences import preferences_of
from qbrm.preferences.base import Message, Prompt
from qbrm.reward_models import load_reward_model
from qbrm.reward_models.sequence_classifier import SequenceClassifier
from qbrm.reward_models.shared_prefix import shared_prefixes
from qbrm.reward_models.template import Tokens
from qbrm_lab.bench.generated_decoder import generated_decoder

PLAIN_BATCH = 8
CALL = 128  # texts that are embedded by one call, as for features
ROUNDS = 3
EMBEDDINGS = ("last", "mean", "layers")
PROMPTS, RESPONSES = 6, 6
# Made-up texts: the median number of letters, each a token, and the deviation of its logarithm.
PROMPT_LENGTH, RESPONSE_LENGTH = (150, 0.9), (250, 0.6)
LETTERS = list("etaoin shrdlu ")
MATRIX = 2048
FLOAT32 = "float32"

Rewards = Float32[np.ndarray, " n"]
Seconds = dict[str, float]


class Texts(NamedTuple):
    """Prompts and responses, in the order of their source."""

    prompts: list[Prompt]
    responses: list[str]


def bench_embed(
    seed: int, reward_model: str | None = None, on: str | None = None, dtype: str | None = None
) -> list[dict[str, Any]]:
    """Time embedding and the plain way on the same texts, in rounds of one run, from texts to rewards.

    The plain way is a loop over the texts in their order: eight at a time, padded to the longest, each whole. Rates are
    of the texts' tokens, whatever was padded or shared. The floor runs what every prompt's texts begin with once and
    the rest of each without padding, at two operations per parameter and token, as fast as this machine multiplies
    large matrices; it counts no attention.

    Args:
        seed: of made-up texts and weights.
        reward_model: folder or id of a sequence classifier; None for a small decoder with random weights.
        on: preferences; None for made-up ones of varied length, six responses to a prompt.
        dtype: number format of the weights; None for float32.

    Raises:
        InputError: if the reward model or the preferences are not usable.
    """
    texts = _made_up(seed) if on is None else _texts(on)
    model = _model(reward_model, seed, dtype or FLOAT32)
    works = {"plain": partial(_plain, model, texts)}
    works |= {embedding: partial(_embedded, _reading(model, embedding), texts) for embedding in EMBEDDINGS}
    rewards, seconds, cpu_seconds = _timed(works)
    written, flops = _written(model, texts), 2 * _parameters(model)
    tokens = sum(len(text.ids) for text in written)
    floor = _needed(model, texts, written) * flops / _flops_per_second(model)
    seconds, cpu_seconds = {"floor": floor, **seconds}, {"floor": floor, **cpu_seconds}
    return [
        {
            "way": way,
            "texts": len(written),
            "tokens": tokens,
            "flops_per_token": flops,
            "seconds": taken,
            "cpu_seconds": cpu_seconds[way],
            "tokens_per_s": tokens / taken,
            "ratio_to_plain": seconds["plain"] / taken,
            "cpu_ratio_to_plain": cpu_seconds["plain"] / cpu_seconds[way],
            "time_over_last": cpu_seconds[way] / cpu_seconds["last"],
            "multiple_of_floor": taken / floor,
            "max_difference": float(np.abs(rewards[way] - rewards["plain"]).max()) if way in rewards else None,
            "reward_deviation": float(rewards["plain"].std()),
            "dtype": model.identity.dtype,
        }
        for way, taken in seconds.items()
    ]


def _texts(source: str) -> Texts:
    pairs = preferences_of(source).responses().values()
    return Texts([prompt for prompt, _ in pairs], [response for _, response in pairs])


def _made_up(seed: int) -> Texts:
    rng = np.random.default_rng(seed)

    def text(length: tuple[float, float]) -> str:
        return "".join(rng.choice(LETTERS, 1 + int(rng.lognormal(np.log(length[0]), length[1]))))

    asked: list[Prompt] = [(Message("user", text(PROMPT_LENGTH)),) for _ in range(PROMPTS)]
    prompts = [prompt for prompt in asked for _ in range(RESPONSES)]
    return Texts(prompts, [text(RESPONSE_LENGTH) for _ in prompts])


def _model(reward_model: str | None, seed: int, dtype: str) -> SequenceClassifier:
    if reward_model is None:
        return generated_decoder(seed, dtype)
    model = load_reward_model(reward_model, dtype=dtype)
    if not isinstance(model, SequenceClassifier):
        raise InputError(f"{reward_model} is no sequence classifier of transformers; expected one.")
    return model


def _reading(model: SequenceClassifier, embedding: str) -> SequenceClassifier:
    """The same model, of which another embedding reads; weights are not copied."""
    parts, identity = model.parts(), model.identity
    settings = {name: value for name, value in model.settings().items() if name not in ("dtype", "embedding")}
    return SequenceClassifier(
        parts.model,
        parts.template.tokenizer,
        name=identity.name,
        revision=identity.revision,
        base=identity.base,
        embedding=embedding,
        **settings,
    )


def _written(model: SequenceClassifier, texts: Texts) -> list[Tokens]:
    """What goes through the model, whole."""
    template = model.parts().template
    written = (template.tokens(*text) for text in zip(*texts, strict=True))
    return [tokens.truncated(model.identity.max_length) for tokens in written]


@torch.inference_mode()
def _plain(model: SequenceClassifier, texts: Texts) -> Rewards:
    parts, written = model.parts(), _written(model, texts)
    rewards = []
    for batch in _slices(written, PLAIN_BATCH):
        inputs = {name: rows.to(parts.model.device) for name, rows in parts.padding.pad(batch, "right").items()}
        rewards.append(parts.head.reward(parts.model(**inputs)).float().cpu().numpy())
    return np.concatenate(rewards)


def _embedded(model: SequenceClassifier, texts: Texts) -> Rewards:
    embedded = [
        model.embed(prompts, responses)
        for prompts, responses in zip(_slices(texts.prompts, CALL), _slices(texts.responses, CALL), strict=True)
    ]
    return np.concatenate([part.reward for part in embedded if part.reward is not None])


def _slices(rows: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _timed(works: Mapping[str, Callable[[], Rewards]]) -> tuple[dict[str, Rewards], Seconds, Seconds]:
    """What each work gave, and the medians over the rounds of its seconds and of the processor's."""
    wall: dict[str, list[float]] = {name: [] for name in works}
    cpu: dict[str, list[float]] = {name: [] for name in works}
    rewards: dict[str, Rewards] = {}
    for _ in range(ROUNDS):
        for name, work in works.items():
            start, worked = time.perf_counter(), time.process_time()
            rewards[name] = work()
            wall[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - worked)
    return rewards, _medians(wall), _medians(cpu)


def _medians(spent: Mapping[str, Sequence[float]]) -> Seconds:
    return {name: median(seconds) for name, seconds in spent.items()}


def _parameters(model: SequenceClassifier) -> int:
    """Of all that a token is multiplied with: the embedding table is looked up."""
    network = model.parts().model
    looked_up: int = network.get_input_embeddings().weight.numel()
    every: int = sum(parameter.numel() for parameter in network.parameters())
    return every - looked_up


def _needed(model: SequenceClassifier, texts: Texts, written: Sequence[Tokens]) -> int:
    """Tokens that have to go through the model: what texts of a prompt share, once."""
    prefixes = shared_prefixes(written, texts.prompts, model.parts().padding.token)
    saved = sum((len(prefix.members) - 1) * len(prefix.ids) for prefix in prefixes)
    return sum(len(text.ids) for text in written) - saved


def _flops_per_second(model: SequenceClassifier) -> float:
    """Of a product of large matrices, the best of a few."""
    network = model.parts().model
    matrix = torch.randn(MATRIX, MATRIX, dtype=network.dtype, device=network.device)
    best = 0.0
    for _ in range(ROUNDS):
        start = time.perf_counter()
        float((matrix @ matrix)[0, 0])  # waits for the device
        best = max(best, 2 * MATRIX**3 / (time.perf_counter() - start))
    return best
