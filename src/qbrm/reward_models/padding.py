"""Padding a batch so that the model pools what it would pool of each text alone."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from itertools import chain, count
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qbrm.errors import InputError
from qbrm.reward_models.template import Tokens

SIDES = ("right", "left")


class Padding:
    """Pads token sequences for one model.

    Decoders pool the rightmost token that is not the padding token of their configuration: of the text config where
    there is one, as transformers reads it; older and remote code reads the top one. Both are set, and the same token
    pads. A model without a padding token pools the last token whatever it is: it is padded with a token that ends none
    of the texts. So is one whose padding token is beyond its embedding table, as no text has that.

    Args:
        model: a sequence classifier; its configuration is changed.
        tokenizer: asked for padding token and side where nothing else states them.
        side: ``right`` or ``left``; None for the tokenizer's.

    Attributes:
        token: the padding token that the configuration states, or None.
        types: whether the model takes token type ids.

    Raises:
        InputError: if `side` is neither.
    """

    def __init__(self, model: Any, tokenizer: Any, side: str | None = None) -> None:
        self.side = side or tokenizer.padding_side
        if self.side not in SIDES:
            raise InputError(f"padding side {self.side!r}; expected one of: {', '.join(SIDES)}.")
        self.tokens = _table_size(model)
        self._configs = [model.config.get_text_config(), model.config]
        stated = [getattr(config, "pad_token_id", None) for config in self._configs]
        # Some configurations write "none" as -1.
        self.token: int | None = next((token for token in stated if self._is_there(token)), None)
        self._preferred: list[int] = [tokenizer.pad_token_id] if self._is_there(tokenizer.pad_token_id) else []
        self._accepts = frozenset(inspect.signature(model.forward).parameters)
        self.types = "token_type_ids" in tokenizer.model_input_names and "token_type_ids" in self._accepts
        # RoBERTa and its kin have one type of token, and no place for the second text's.
        self.types &= getattr(model.config, "type_vocab_size", None) != 1

    def pad(self, texts: Sequence[Tokens], side: str) -> dict[str, Int[Tensor, "batch tokens"]]:
        """The arguments of the model's forward pass."""
        token = self._token_for(texts)
        for config in self._configs:
            config.pad_token_id = token
        batch = {
            "input_ids": _rows([text.ids for text in texts], token, side),
            "attention_mask": _rows([[1] * len(text.ids) for text in texts], 0, side),
        }
        if self.types:
            batch["token_type_ids"] = _rows([text.types for text in texts], 0, side)
        if side == "left" and "position_ids" in self._accepts:
            batch["position_ids"] = (batch["attention_mask"].cumsum(-1) - 1).clamp_min(0)
        return batch

    def pooled(self, batch: Mapping[str, Int[Tensor, "batch tokens"]]) -> list[Int[Tensor, " batch"]]:
        """The positions that decoders pool: the rightmost that is not the padding token, or the rightmost attended."""
        rows = batch["input_ids"] != self._configs[0].pad_token_id, batch["attention_mask"] != 0
        positions = torch.arange(batch["input_ids"].shape[1], device=batch["input_ids"].device)
        return [(row * positions).argmax(-1) for row in rows]

    def _is_there(self, token: int | None) -> bool:
        """Whether the model has an embedding for a token; some configurations write "none" as -1."""
        return token is not None and 0 <= token < self.tokens

    def _token_for(self, texts: Sequence[Tokens]) -> int:
        if self.token is not None:
            return self.token
        ends = {text.ids[-1] for text in texts}
        return next(token for token in chain(self._preferred, count()) if token not in ends)


def answer_weights(texts: Sequence[Tokens], side: str) -> Float[Tensor, "batch tokens"]:
    """Weights of the mean over each response's tokens, padded; of an empty one, the text's last token counts."""
    rows = [torch.zeros(len(text.ids)) for text in texts]
    for row, text in zip(rows, texts, strict=True):
        row[text.answer or [-1]] = 1 / max(len(text.answer), 1)
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_side=side)


def _rows(rows: Sequence[list[int]], value: int, side: str) -> Int[Tensor, "batch tokens"]:
    return torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(row) for row in rows], batch_first=True, padding_value=value, padding_side=side
    )


def _table_size(model: Any) -> int:
    """How many tokens the model has embeddings for."""
    try:
        return int(model.get_input_embeddings().num_embeddings)
    except (AttributeError, NotImplementedError):  # a model's own class may not tell
        return int(model.config.get_text_config().vocab_size)
