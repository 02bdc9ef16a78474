"""Training state on disk, whole or not at all."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from qbrm.durable import check_file, make_folder, write_atomically
from qbrm.errors import DamagedFileError, InputError

Best = dict[str, Tensor]

logger = logging.getLogger(__name__)


@runtime_checkable
class KeepsChains(Protocol):
    """A model that trains with Markov chains which outlive a batch."""

    def chains(self) -> dict[str, Tensor]:
        """The chains by name."""

    def load_chains(self, chains: dict[str, Tensor]) -> None:
        """Go on from these."""


def save_checkpoint(
    path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, best: Best, progress: dict[str, Any]
) -> None:
    """Write model, optimiser, best weights so far and progress to `path`, aside first, then renamed.

    Args:
        path: a ``.safetensors`` file; a checkpoint already there stays until the new one is complete.
        model: its state dict is stored, and its Markov chains if it keeps any.
        optimiser: an AdamW over all parameters, stored as tensors; nothing is pickled.
        best: state dict of the best epoch.
        progress: JSON-able facts: epochs done, their metrics, what the run was started with.
    """
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in state.items()}
    if isinstance(model, KeepsChains):
        tensors |= {f"chains.{name}": value for name, value in model.chains().items()}
    make_folder(path.parent)
    copies = {name: value.contiguous().clone() for name, value in tensors.items()}
    write_atomically(path, save(copies, {"progress": json.dumps(progress, allow_nan=False)}))


def load_checkpoint(path: Path, model: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[Best, dict[str, Any]]:
    """Restore what :func:`save_checkpoint` wrote, in place; returns the best weights and the progress.

    Raises:
        InputError: if the file is damaged or belongs to another model.
    """
    with part_of_checkpoint(path):
        with safe_open(path, "pt") as file:
            progress = json.loads(file.metadata()["progress"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        best = _part(tensors, "best.")
        model.load_state_dict(best)
        model.load_state_dict(_part(tensors, "model."))
        if isinstance(model, KeepsChains):
            model.load_chains(_part(tensors, "chains."))
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in _part(tensors, "optimiser.").items():
            index, key = name.split(".")
            state.setdefault(int(index), {})[key] = value
        optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    return best, progress


@contextmanager
def part_of_checkpoint(path: Path) -> Iterator[None]:
    """Turn whatever is wrong with what was read of a checkpoint into an `InputError`."""
    try:
        yield
    except (SafetensorError, RuntimeError, LookupError, TypeError, ValueError, AttributeError, OSError) as error:
        reason = (str(error).splitlines() or [repr(error)])[0][:200]
        raise InputError(f"{path}: not a checkpoint of this model ({reason}); delete it to train anew.") from error


def read_progress(path: Path) -> dict[str, Any] | None:
    """The progress stored in a checkpoint, or None, with a logged warning, if there is one that is not as written."""
    try:
        check_file(path)
        with safe_open(path, "pt") as file:
            return dict(json.loads(file.metadata()["progress"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except DamagedFileError as error:
        logger.warning("%s Training starts anew.", error)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        logger.warning("%s is not a checkpoint (%s). Training starts anew.", path, " ".join(str(error).split())[:200])
    return None


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
