"""Answers that a study keeps on disk, each with the question it answers."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

import qbrm
from qbrm.durable import make_folder, write_atomically
from qbrm.preferences import PreferenceSet
from qbrm_lab.methods import Method

# What decides numbers. Reports, serving and the command line may change without making them another question's.
DECIDING = (
    "comparison", "energies", "evaluation", "features", "objectives", "preferences", "refinement", "reward_models",
    "samplers", "study/over_optimisation", "training", "units.py",
)  # fmt: skip


def cached(path: Path, asked: dict[str, Any], answer: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What an earlier call with the same question left at `path`, else what `answer` returns, left there for the next.

    Args:
        path: a JSON file.
        asked: all that the answer depends on.
        answer: called if the file is absent or answers another question; returns what JSON can hold.

    Raises:
        InputError: if the folder cannot be written.
    """
    if path.exists():
        known: dict[str, Any] = json.loads(path.read_bytes())
        if known["asked"] == asked:
            return known
    make_folder(path.parent)
    content = json.dumps({"asked": asked, **answer()}, ensure_ascii=False, allow_nan=False)
    write_atomically(path, content.encode())
    found: dict[str, Any] = json.loads(content)
    return found


def setting_of(method: Method) -> str:
    """All that a method is told, the same in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(method))


def preferences_digest(sets: Iterable[PreferenceSet]) -> str:
    """Of all prompts, responses, labels and categories."""
    digest = hashlib.sha256()
    for part in sets:
        for preference in part:
            about = preference.prompt_id, preference.responses, preference.category, preference.set
            digest.update(repr(about).encode())
    return digest.hexdigest()


def code_digest() -> str:
    """Of the modules that decide numbers, and torch's version: what other code found answers another question."""
    package = Path(qbrm.__file__).parent
    digest = hashlib.sha256(torch.__version__.encode())
    for path in sorted(path for name in DECIDING for path in package.glob(name if "." in name else f"{name}/**/*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()
