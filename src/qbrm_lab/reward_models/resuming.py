"""Trainings by TRL that go on where they stopped: what was asked for, and the last whole checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qbrm.durable import make_folder, write_atomically
from qbrm.errors import InputError

ASKED = "asked.json"


def check_asked(out: Path, question: dict[str, Any]) -> None:
    """Note in a folder what its training is asked for; refuse a folder that was asked for something else.

    Raises:
        InputError: if the folder has another training, or cannot be written.
    """
    asked = json.dumps(question, ensure_ascii=False).encode("utf-8", "surrogatepass")
    path = out / ASKED
    if not path.is_file():
        make_folder(out)
        write_atomically(path, asked)
    elif path.read_bytes() != asked:
        raise InputError(f"{out} has a training on other texts, or with other settings; expected a new --out.")


def last_checkpoint(folder: Path) -> tuple[int, str | None]:
    """The number of updates of the last whole checkpoint, and its folder; the trainer writes its state last."""
    whole = [path for path in folder.glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    by_updates = {int(path.name.rpartition("-")[2]): str(path) for path in whole}
    return max(by_updates.items(), default=(0, None))
