"""Models on the Hugging Face Hub: down and up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from qbrm.errors import InputError, reason

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
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        at = f" at revision {revision}" if revision else ""
        raise InputError(
            f"{name}{at} is no folder here and cannot be had from the Hugging Face Hub ({reason(error)}); "
            "expected a folder, or the id of a model that can be downloaded."
        ) from error


def upload(folder: Path, name: str, *, private: bool | None, token: str | None) -> str:
    """Put the files of a folder into a model on the Hub, which is made if there is none.

    Args:
        folder: what to upload.
        name: id on the Hub.
        private: whether a new model is; None for the account's default.
        token: of the account; None for the one that `hf auth login` stored.

    Returns:
        The address of the commit.

    Raises:
        InputError: if the Hub refuses or cannot be reached.
    """
    if not HUB_ID.fullmatch(name):
        raise InputError(f"{name!r} is no id on the Hugging Face Hub; expected one like 'name/model'.")
    api = HfApi(token=token)
    try:
        api.create_repo(name, private=private, exist_ok=True)
        commit = api.upload_folder(repo_id=name, folder_path=folder, commit_message="Upload a refined reward model")
    except Exception as error:  # the Hub's own errors, and those of its HTTP client, which changes between versions
        raise InputError(
            f"{name} cannot be uploaded ({reason(error)}); expected access to the Hugging Face Hub."
        ) from error
    return str(commit.commit_url)
