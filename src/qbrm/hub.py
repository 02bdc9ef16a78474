"""Fetching models from the Hugging Face Hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from qbrm.errors import InputError

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def download(name: str, revision: str | None, files: Sequence[str]) -> Path:
    """Fetch files of a model's top folder, or find them where they were fetched to before.

    Args:
        name: id on the Hub, such as ``Skywork/Skywork-Reward-V2-Qwen3-0.6B``.
        revision: commit, tag or branch; None for the main branch.
        files: patterns of file names.

    Returns:
        A folder named after the commit.

    Raises:
        InputError: if `name` is no id, there is no such model, or it cannot be reached.
    """
    if not HUB_ID.fullmatch(name):
        raise InputError(f"{name} does not exist; expected a folder, or a model's id on the Hugging Face Hub.")
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(files), ignore_patterns=["*/*"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        at = f" at revision {revision}" if revision else ""
        raise InputError(
            f"{name}{at} is no folder here and cannot be had from the Hugging Face Hub ({first_line(error)}); "
            "expected a folder, or the id of a model that can be downloaded."
        ) from error


def first_line(error: BaseException) -> str:
    """An error's kind and the first line of its message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"
