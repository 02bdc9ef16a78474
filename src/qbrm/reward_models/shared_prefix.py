"""Texts of one prompt share its keys and values: a decoder reads what they begin with once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer
from transformers.modeling_layers import GenericForSequenceClassification

from qbrm.preferences.base import Prompt
from qbrm.reward_models.base import Embedded
from qbrm.reward_models.batches import TokenBudget
from qbrm.reward_models.template import Tokens
from qbrm.reward_models.text import shared_beginning

WORTHWHILE = 16  # tokens in common below which texts are read apart
MOST_KEPT = 16_384  # tokens whose keys and values are in memory together
# Kinds of transformers in which a token's state depends on the tokens before it alone. Elsewhere (encoders, sliding
# windows, state spaces, mixtures of experts, a model's own code) texts are read whole.
KINDS = (
    *("arcee", "gemma", "glm", "glm4", "helium", "llama", "mistral", "nemotron", "olmo", "olmo2", "phi", "phi3"),
    *("qwen2", "qwen3", "smollm3", "stablelm", "starcoder2"),
)
ATTENTION = ("sdpa", "eager")
GROWING_ROTATION = ("dynamic", "longrope")  # positions are rotated by what the longest text of a pass asks for

States = list[tuple[Float[Tensor, "heads tokens width"], Float[Tensor, "heads tokens width"]]]
"""Keys and values of a prefix, by layer."""
Forward = Callable[[list[Tokens], list[States | None]], Embedded]


class Prefix(NamedTuple):
    """What some texts begin with.

    Attributes:
        ids: token ids; empty for a text that shares nothing.
        members: the texts' numbers.
    """

    ids: list[int]
    members: list[int]


def can_share(model: Any) -> bool:
    """Whether a model is of one of `KINDS`, attends to everything before a token, and counts positions as usual."""
    config = model.config.get_text_config()
    rotation = getattr(config, "rope_parameters", None) or {}
    return (
        config.model_type in KINDS
        and isinstance(model, GenericForSequenceClassification)
        and type(model).__module__.startswith("transformers.")
        and config._attn_implementation in ATTENTION
        and rotation.get("rope_type") not in GROWING_ROTATION
        and all(type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers)
    )


def shared_prefixes(texts: Sequence[Tokens], prompts: Sequence[Prompt], padding_token: int | None) -> list[Prefix]:
    """What the texts of each prompt begin with, up to the first token of a response and the token that is scored.

    Args:
        texts: cut to their length.
        prompts: of the texts; only texts of one prompt are compared.
        padding_token: the model's, which it never scores; None if it scores the last token of any kind.
    """
    groups: dict[Prompt, list[int]] = {}
    for number, prompt in enumerate(prompts):
        groups.setdefault(prompt, []).append(number)
    prefixes = []
    for members in groups.values():
        first = texts[members[0]].ids
        common = min(
            min(shared_beginning(first, texts[number].ids), _first_read(texts[number], padding_token))
            for number in members
        )
        if len(members) > 1 and common >= WORTHWHILE:
            prefixes.append(Prefix(first[:common], members))
        else:
            prefixes += [Prefix([], [number]) for number in members]
    return prefixes


def _first_read(text: Tokens, padding_token: int | None) -> int:
    """The first position whose state an embedding may read; 0 if the text has nothing but padding tokens."""
    scored = next((at for at in reversed(range(len(text.ids))) if text.ids[at] != padding_token), 0)
    return min([scored, *text.answer])


class SharedPrefixes:
    """Runs texts through a model, what those of one prompt begin with only once.

    Args:
        model: for which :func:`can_share` is true.
        padding_token: the model's, see :func:`shared_prefixes`.
        budget: padded tokens per forward pass.
        turn: held while the model runs.
    """

    def __init__(self, model: Any, padding_token: int | None, budget: TokenBudget, turn: Lock) -> None:
        self._model, self._padding_token, self._budget, self._turn = model, padding_token, budget, turn

    def run(
        self, texts: Sequence[Tokens], prompts: Sequence[Prompt], forward: Forward
    ) -> Iterator[tuple[list[int], Embedded]]:
        """Numbers of texts, and what `forward` gave for what is behind their prefixes, until all had their turn.

        Args:
            texts: cut to their length.
            prompts: of the texts.
            forward: takes what is behind the prefixes, and the prefixes' keys and values; None for all texts of a call
                if they have no prefix.
        """
        prefixes = shared_prefixes(texts, prompts, self._padding_token)
        alone = [number for prefix in prefixes if not prefix.ids for number in prefix.members]
        lengths = [len(texts[number].ids) for number in alone]
        for batch in self._budget.run(
            lengths, lambda batch: forward([texts[alone[at]] for at in batch], [None] * len(batch))
        ):
            yield [alone[at] for at in batch[0]], batch[1]
        for part in _parts([prefix for prefix in prefixes if prefix.ids], MOST_KEPT):
            yield from self._run_part(texts, part, forward)

    def _run_part(
        self, texts: Sequence[Tokens], part: Sequence[Prefix], forward: Forward
    ) -> Iterator[tuple[list[int], Embedded]]:
        states: dict[int, States] = {}
        for batch, found in self._budget.run(
            [len(prefix.ids) for prefix in part], lambda batch: self._read([part[at].ids for at in batch])
        ):
            states |= zip(batch, found, strict=True)
        rows = [(number, at) for at, prefix in enumerate(part) for number in prefix.members]
        before = [len(part[at].ids) for _, at in rows]
        rests = [texts[number].behind(cut) for (number, _), cut in zip(rows, before, strict=True)]
        for batch, features in self._budget.run(
            [len(rest.ids) for rest in rests],
            lambda batch: forward([rests[row] for row in batch], [states[rows[row][1]] for row in batch]),
            before,
        ):
            yield [rows[row][0] for row in batch], features

    @torch.inference_mode()
    def _read(self, prefixes: Sequence[Sequence[int]]) -> list[States]:
        """The keys and values of each prefix, by one pass without the score layer."""
        ids = pad_sequence([torch.tensor(prefix) for prefix in prefixes], batch_first=True)
        cache = DynamicCache(config=self._model.config)
        with self._turn:
            # What pads on the right is behind everything that is looked at, and needs no mask.
            self._model.base_model(input_ids=ids.to(self._model.device), past_key_values=cache, use_cache=True)
        return [
            [(layer.keys[row, :, : len(prefix)], layer.values[row, :, : len(prefix)]) for layer in cache.layers]
            for row, prefix in enumerate(prefixes)
        ]


def _parts(prefixes: Sequence[Prefix], most: int) -> Iterator[list[Prefix]]:
    """Split prefixes into parts of at most so many tokens; a longer one is a part of its own."""
    part: list[Prefix] = []
    for prefix in prefixes:
        if part and sum(len(other.ids) for other in part) + len(prefix.ids) > most:
            yield part
            part = []
        part.append(prefix)
    if part:
        yield part


def behind_prefixes(batch: dict[str, Tensor], states: Sequence[States | None]) -> dict[str, Any]:
    """The arguments of a pass that reads on from prefixes.

    Args:
        batch: what comes behind them, padded on the right.
        states: of each text's prefix, the same object for the same one; None for all if they have none.
    """
    ids, known = batch["input_ids"], [state for state in states if state is not None]
    if not known:
        return {"input_ids": ids, "use_cache": False}  # as in `_read`, no mask
    distinct = {id(state): state for state in known}
    number = {key: place for place, key in enumerate(distinct)}
    rows = torch.tensor([number[id(state)] for state in known])
    layers = [
        _PrefixLayer([keys for keys, _ in layer], [values for _, values in layer], rows)
        for layer in zip(*distinct.values(), strict=True)
    ]
    lengths = torch.tensor([[state[0][0].shape[1]] for state in known], device=ids.device)
    before = torch.arange(int(lengths.max()), device=ids.device) < lengths
    return {
        "input_ids": ids,
        "attention_mask": torch.cat([before.to(ids.dtype), batch["attention_mask"]], dim=1),
        "position_ids": lengths + torch.arange(ids.shape[1], device=ids.device),
        "past_key_values": Cache(layers=layers),
        "use_cache": True,
    }


class _PrefixLayer(DynamicLayer):
    """Keys and values of some prefixes in one layer, padded on the right; keeps nothing of what comes behind them."""

    def __init__(self, keys: Sequence[Tensor], values: Sequence[Tensor], rows: Int[Tensor, " batch"]) -> None:
        super().__init__()
        self._prefixes, self._rows = (keys, values), rows
        self._longest = max(part.shape[1] for part in keys)
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **options: Any) -> tuple[Tensor, Tensor]:
        """Each text's prefix with what is new behind it."""
        rows = self._rows.to(key_states.device)
        keys, values = (
            torch.cat([_stacked(parts)[rows], new], dim=2)
            for parts, new in zip(self._prefixes, (key_states, value_states), strict=True)
        )
        return keys, values

    def get_seq_length(self) -> int:
        """Tokens of the longest prefix."""
        return self._longest


def _stacked(parts: Sequence[Float[Tensor, "heads tokens width"]]) -> Float[Tensor, "prefixes heads longest width"]:
    return pad_sequence([part.transpose(0, 1) for part in parts], batch_first=True).transpose(1, 2)
