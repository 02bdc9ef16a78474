"""The sample set that comes with the package."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def sample_source() -> Path:
    """The folder of the bundled sample set, an RMB tree."""
    return Path(str(files("qbrm").joinpath("sample")))
