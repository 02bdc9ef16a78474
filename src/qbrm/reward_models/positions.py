"""How many tokens a model has positions for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from qbrm.errors import InputError

LONGEST_BY_DEFAULT = 4096
STATED = ("max_position_embeddings", "max_seq_len")
# What transformers calls tables of absolute positions. Relative ones (T5, DeBERTa's) bound no length of text, and
# neither do those of images and sounds.
TABLES = ("position_embeddings", "embed_positions", "wpe", "positions_embed")
COUNTED = "create_position_ids_from_input_ids"  # what RoBERTa and its kin count positions with
NO_TEXT = re.compile(r"vision|visual|image|audio|speech")


def checked_length(asked: int | None, model: Any, tokenizer: Any, name: str) -> int:
    """The maximum length: as asked for if the model takes as much, else 4,096 or fewer.

    Raises:
        InputError: if the model does not take as much, or counts positions from a padding token that it does not have.
    """
    if any(hasattr(part, COUNTED) and getattr(part, "padding_idx", None) is None for part in model.modules()):
        raise InputError(
            f"{name} counts positions from its padding token, and its config.json names none that it has an embedding "
            "for; expected the pad_token_id that it was trained with."
        )
    most = min([int(tokenizer.model_max_length), *_bounds(model)])
    if asked is None:
        return min(LONGEST_BY_DEFAULT, most)
    if not 1 <= asked <= most:
        raise InputError(f"maximum length of {name} is {asked}; expected 1 to {most:,} tokens.")
    return asked


def _bounds(model: Any) -> Iterator[int]:
    """Tokens that the configuration allows, and that each table of positions has rows for."""
    for stated in (getattr(model.config.get_text_config(), name, None) for name in STATED):
        if isinstance(stated, int) and stated > 0:  # XLNet's is -1: none
            yield stated
    for name, module in model.named_modules():
        rows = getattr(module, "weight", None)  # not every table is an nn.Embedding
        if name.rpartition(".")[2] in TABLES and isinstance(rows, Tensor) and not NO_TEXT.search(name):
            yield len(rows) - _first_position(module)


def _first_position(table: nn.Module) -> int:
    """The row of a text's first token: RoBERTa and its kin count from behind the padding token's row, BART from 2."""
    offset, padding = getattr(table, "offset", None), getattr(table, "padding_idx", None)
    if isinstance(offset, int):
        return offset
    return padding + 1 if isinstance(padding, int) else 0
