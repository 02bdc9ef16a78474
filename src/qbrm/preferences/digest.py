"""Prompt ids as numbers: enough to recognise a prompt, not to read it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from jaxtyping import UInt64


def prompt_digest(prompt_id: str) -> int:
    """The first 64 bits of a prompt id's SHA-256."""
    return int.from_bytes(hashlib.sha256(prompt_id.encode()).digest()[:8], "little")


def prompt_digests(prompt_ids: Iterable[str]) -> UInt64[np.ndarray, " prompts"]:
    """The digest of every prompt id."""
    return np.array([prompt_digest(prompt_id) for prompt_id in prompt_ids], dtype=np.uint64)
