"""Digests of the prompts that a saved model was trained on, which identify them without storing their text."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from jaxtyping import UInt64

from qbrm.durable import make_folder, read_checked, write_atomically
from qbrm.errors import DamagedFileError, InputError

FILE = "training-prompts.npy"


def write_training_prompts(folder: Path, digests: UInt64[np.ndarray, " n"]) -> None:
    """Write the digests of the prompts that a score, or a reward model made for it, was trained or chosen with.

    Raises:
        InputError: if the folder cannot be written.
    """
    make_folder(folder)
    content = io.BytesIO()
    np.save(content, np.unique(digests), allow_pickle=False)
    write_atomically(folder / FILE, content.getvalue())


def read_training_prompts(folder: Path) -> UInt64[np.ndarray, " prompts"] | None:
    """Read what :func:`write_training_prompts` wrote, or None if it is not there.

    Raises:
        InputError: if the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        digests: UInt64[np.ndarray, " prompts"] = np.load(io.BytesIO(read_checked(path)), allow_pickle=False)
        if digests.dtype != np.uint64 or digests.ndim != 1:
            raise ValueError(f"{digests.dtype}, {digests.ndim} axes")
    except DamagedFileError:
        raise
    except (OSError, ValueError, EOFError, SyntaxError, MemoryError, RecursionError) as error:
        raise InputError(f"{path} is no list of digests ({error}); expected what 'qbrm train' wrote.") from error
    return digests
