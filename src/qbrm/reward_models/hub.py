"""Models from the Hugging Face Hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from qbrm.errors import InputError, reason

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def download(name: str, revision: str | None, files: Sequence[str]) -> Path:
    """Fetch files of a model's top folder, unless they are there; the folder is named after the commit.

    Args:
        name: id on the Hub, such as ``Skywork/Skywork-Reward-V2-Qwen3-0.6B``.
        revision: commit, tag or branch; None for the main branch.
        files: patterns of file names.

    Raises:
        InputError: if `name` is no id, there is no such model, or it cannot be reached.
    """
    if not HUB_ID.fullmatch(name):
        raise InputError(f"{name} does not exist; expected a folder, or a model's id on the Hugging Face Hub.")
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(files), ignore_patterns=["*/*"]))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        at = f" at revision {revision}" if revision else ""
        raise InputError(
            f"{name}{at} is no folder here and cannot be had from the Hugging Face Hub ({reason(error)}); "
            "expected a folder, or the id of a model that can be downloaded."
        ) from error
