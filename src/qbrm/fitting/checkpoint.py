"""Training state on disk, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from qbrm.durable import make_folder, write_atomically
from qbrm.errors import InputError

Best = dict[str, Tensor]


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
    try:
        with safe_open(path, "pt") as file:
            progress = json.loads(file.metadata()["progress"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        model.load_state_dict(_part(tensors, "model."))
        if isinstance(model, KeepsChains):
            model.load_chains(_part(tensors, "chains."))
    except (SafetensorError, RuntimeError, KeyError, InputError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: not a checkpoint of this model ({reason}); delete it to train anew.") from error
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _part(tensors, "optimiser.").items():
        index, key = name.split(".")
        state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    return _part(tensors, "best."), progress


def read_progress(path: Path) -> dict[str, Any] | None:
    """The progress stored in a checkpoint, or None if there is no readable one."""
    try:
        with safe_open(path, "pt") as file:
            progress: dict[str, Any] = json.loads(file.metadata()["progress"])
            return progress
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
