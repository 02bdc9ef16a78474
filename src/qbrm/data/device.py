"""Where tensors go unless a user says otherwise."""

from __future__ import annotations

import torch


def default_device() -> torch.device:
    """The first accelerator, or the CPU if there is none."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator or torch.device("cpu")
