"""Answers that a study keeps on disk, each with the question it answers."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch

from qbrm.durable import make_folder, read_checked, write_atomically
from qbrm.preferences import PreferenceSet
from qbrm_lab.comparison.compare import Prepared
from qbrm_lab.methods.base import Method
from qbrm_lab.results import as_json, parsed

# Raise it with any change to the code that changes a number which a study reports, or the form of a kept answer: what
# was kept before is then computed again. Wording, layout and speed do not count.
STUDY_VERSION = 4
Answer = TypeVar("Answer")

logger = logging.getLogger(__name__)


def cached(path: Path, question: Mapping[str, Any], kind: type[Answer], answer: Callable[[], Answer]) -> Answer:
    """What an earlier call with the same question left at `path`, else what `answer` returns, left there for the next.

    Args:
        path: a JSON file.
        question: all that the answer depends on, except `STUDY_VERSION` and torch's version, which are added.
        kind: of the answer: a dataclass of what JSON can hold, or a list of them.
        answer: called if the file is absent or answers another question.

    Raises:
        InputError: if the folder cannot be written.
    """
    asked = json.loads(json.dumps({"version": STUDY_VERSION, "torch": torch.__version__, **question}))
    kept = _kept(path)
    if kept.get("asked") != asked:
        kept = {"asked": asked, "answer": as_json(answer())}
        make_folder(path.parent)
        write_atomically(path, json.dumps(kept, ensure_ascii=False, allow_nan=False).encode())
    value: Answer = parsed(kept["answer"], kind, str(path))
    return value


def _kept(path: Path) -> dict[str, Any]:
    try:
        kept: dict[str, Any] = json.loads(read_checked(path))
        return kept
    except FileNotFoundError:
        return {}
    except ValueError as error:  # InputError is one
        logger.warning("%s What %s answers is computed again.", error, path)
        return {}


def of_seed(prepared: Prepared, seed: int) -> dict[str, Any]:
    """What a seed's answer depends on in every study of a comparison's sources."""
    return {
        "seed": seed,
        "reward_model": prepared.model.identity.to_dict(),
        "data": preferences_digest([prepared.sources.train, *prepared.sources.tests.values()]),
    }


def settings_of(method: Method) -> dict[str, Any]:
    """All that a method is told, by name, as JSON can hold it: classes and functions by their names."""
    any_method: Any = method
    settings = any_method.described() if hasattr(any_method, "described") else asdict(any_method)
    plain: dict[str, Any] = json.loads(json.dumps({"name": method.name, **settings}, default=_name))
    return plain


def preferences_digest(sets: Iterable[PreferenceSet]) -> str:
    """Digest of all prompts, responses, labels and categories."""
    digest = hashlib.sha256()
    for part in sets:
        for preference in part:
            about = preference.prompt_id, preference.responses, preference.category, preference.set
            digest.update(repr(about).encode())
    return digest.hexdigest()


def _name(part: Any) -> str:
    name: str = part.__qualname__
    return name
