"""How many tokens a model has positions for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torch import nn

from qbrm.errors import InputError

LONGEST_BY_DEFAULT = 4096
# What transformers calls tables of absolute positions. Relative ones (T5, DeBERTa's) bound no length of text, and
# neither do those of images and sounds.
TABLES = ("position_embeddings", "embed_positions", "wpe", "positions_embed")
NO_TEXT = re.compile(r"vision|visual|image|audio|speech")


def checked_length(asked: int | None, model: Any, tokenizer: Any, name: str) -> int:
    """The maximum length: as asked for if the model takes as much, else 4,096 or fewer.

    Raises:
        InputError: if the model does not take as much.
    """
    most = min([int(tokenizer.model_max_length), *_bounds(model)])
    if asked is None:
        return min(LONGEST_BY_DEFAULT, most)
    if not 1 <= asked <= most:
        raise InputError(f"maximum length of {name} is {asked}; expected 1 to {most:,} tokens.")
    return asked


def _bounds(model: Any) -> Iterator[int]:
    """Tokens that the configuration allows, and that each table of positions has rows for."""
    stated = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if isinstance(stated, int) and stated > 0:  # XLNet's is -1: none
        yield stated
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and name.rpartition(".")[2] in TABLES and not NO_TEXT.search(name):
            yield module.num_embeddings - _first_position(module)


def _first_position(table: nn.Embedding) -> int:
    """The row of a text's first token: RoBERTa and its kin count from behind the padding token's row, BART from 2."""
    offset = getattr(table, "offset", None)
    if isinstance(offset, int):
        return offset
    return 0 if table.padding_idx is None else table.padding_idx + 1
