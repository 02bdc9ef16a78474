"""Refined reward models to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi

from qbrm.errors import InputError, reason
from qbrm.reward_models.hub import HUB_ID


def upload(folder: Path, name: str, *, private: bool | None, token: str | None) -> str:
    """Put the files of a folder into a model on the Hub, as :meth:`qbrm.EnergyRewardModel.push_to_hub` says.

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
        cause = f"{name} cannot be uploaded ({reason(error)})"
        raise InputError(f"{cause}; expected access to the Hugging Face Hub.") from error
    return str(commit.commit_url)
