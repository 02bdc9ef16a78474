"""Which responses of a feature table form training pairs, kept beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from qbrm.durable import write_atomically
from qbrm.errors import InputError
from qbrm.features.shard import Key
from qbrm.preferences.pairs import Pair

PAIRS = "pairs.json"

KeyPair = tuple[Key, Key]


def key_pairs(pairs: Sequence[Pair]) -> list[KeyPair]:
    """Training pairs by the keys that feature tables have, chosen first."""
    return [((pair.prompt_id, pair.chosen_response_id), (pair.prompt_id, pair.rejected_response_id)) for pair in pairs]


def write_pairs(folder: Path, pairs: Sequence[KeyPair]) -> None:
    """Write pairs of (chosen, rejected) keys beside the table in `folder`."""
    write_atomically(folder / PAIRS, json.dumps(pairs).encode())


def read_pairs(folder: Path) -> list[KeyPair]:
    """Read what :func:`write_pairs` wrote.

    Raises:
        InputError: if the file is missing or not such a list.
    """
    path = folder / PAIRS
    try:
        pairs = [((str(a), str(b)), (str(c), str(d))) for (a, b), (c, d) in json.loads(path.read_text())]
        if not pairs:
            raise ValueError
        return pairs
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} is not a list of response pairs; run the command that wrote {folder} again."
        ) from error
