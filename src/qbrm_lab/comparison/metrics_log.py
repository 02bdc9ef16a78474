"""Where training metrics go while training runs."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from qbrm.durable import make_folder
from qbrm.errors import InputError


class MetricsLog(Protocol):
    """Receives the metrics of each epoch."""

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics of one epoch."""
        ...

    def close(self) -> None:
        """Flush and end."""
        ...


class TensorBoardLog:
    """Writes event files that ``tensorboard --logdir`` reads."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        make_folder(folder)
        self._writer = SummaryWriter(str(folder))

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """One scalar per metric, the epoch as its step."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, epoch)

    def close(self) -> None:
        """Flush the event file."""
        self._writer.close()


def import_wandb() -> Any:
    """The package wandb.

    Raises:
        InputError: if it is not installed.
    """
    try:
        return importlib.import_module("wandb")
    except ImportError as error:
        raise InputError(
            "--wandb: the package wandb is not installed; pip install wandb, into the environment of qbrm."
        ) from error


class WandbLog:
    """One Weights & Biases run; ``WANDB_MODE=offline`` keeps it on this machine."""

    def __init__(self, folder: Path, name: str, config: Mapping[str, Any]) -> None:
        make_folder(folder)
        self._run = import_wandb().init(
            project="qbrm", name=name, dir=str(folder), config=dict(config), reinit="create_new"
        )

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """All metrics at once, the epoch as their step."""
        self._run.log(dict(metrics), step=epoch)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


class MetricsLogs:
    """Several logs as one; closes them whatever happens."""

    def __init__(self, *logs: MetricsLog) -> None:
        self._logs = logs

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Pass the metrics on to every log."""
        for log in self._logs:
            log.log(epoch, metrics)

    def __enter__(self) -> MetricsLogs:
        return self

    def __exit__(self, *error: object) -> None:
        for log in self._logs:
            log.close()
