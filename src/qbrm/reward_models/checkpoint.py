"""A model's folder, described without reading a weight: where it is, its configuration, its tensors' shapes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from qbrm.durable import sha256
from qbrm.errors import InputError, reason
from qbrm.reward_models.hub import download

MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.py")
CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
# Suffixes of weights that are not read, and what to say of them.
OTHER_WEIGHTS = {
    ".gguf": "weights of llama.cpp",
    ".bin": "pickled weights, which can run code when they are read",
    ".pt": "pickled weights, which can run code when they are read",
    ".pth": "pickled weights, which can run code when they are read",
    ".ckpt": "pickled weights, which can run code when they are read",
    ".h5": "weights of TensorFlow",
    ".msgpack": "weights of Flax",
    ".onnx": "weights of ONNX",
    ".npz": "weights of MLX",
}
LFS_POINTER = b"version https://git-lfs"
CONVERTED = "weights in *.safetensors, as save_pretrained of transformers writes them"


class Place(NamedTuple):
    """Where a model is: what a user calls it, its folder, and its commit on the Hub or the folder's digest."""

    name: str
    folder: Path
    revision: str


@dataclass(frozen=True)
class Checkpoint:
    """What a model's folder says of itself.

    Attributes:
        name: what a user calls it.
        config: the content of ``config.json``.
        shapes: the shape of each tensor, by name.
    """

    name: str
    config: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def architecture(self) -> str:
        """The class that wrote it, as the configuration says; empty if it does not."""
        named = self.config.get("architectures") or [""]
        return str(named[0])

    @property
    def own_code(self) -> Mapping[str, str]:
        """Classes that come with the model, by the class of transformers that they stand in for."""
        return {kind: str(place) for kind, place in (self.config.get("auto_map") or {}).items()}


def locate(name: str, revision: str | None) -> Place:
    """Find a model's folder, after fetching it from the Hub if it is not here.

    Raises:
        InputError: if there is none, or a folder's digest is not the `revision` asked for.
    """
    folder = Path(name)
    if folder.is_file():
        known = next((f" ({what})" for suffix, what in OTHER_WEIGHTS.items() if folder.suffix == suffix), "")
        raise InputError(f"{name} is a file{known}; expected a folder with {CONFIG} and {CONVERTED}.")
    if not folder.is_dir():
        snapshot = download(name, revision, MODEL_FILES)
        return Place(name, snapshot, snapshot.name)
    digest = folder_digest(folder)
    if revision not in (None, digest):
        raise InputError(f"{name} has the digest {digest}; expected the revision asked for, {revision}.")
    return Place(name, folder, digest)


def folder_digest(folder: Path) -> str:
    """SHA-256 over names and contents of weights, configuration, tokenizer and code, at 1 to 2 GB/s if cached."""
    return sha256(*sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern)}), named=True)


def has_whole_model(folder: Path) -> bool:
    """Whether a folder has weights of a model, and not of an adapter alone."""
    return (folder / WEIGHTS).is_file() or (folder / INDEX).is_file()


def read_checkpoint(place: Place) -> Checkpoint:
    """Read a folder's configuration and the headers of its weights.

    Raises:
        InputError: if a file is missing, damaged or of another kind.
    """
    name, folder, _ = place
    if not (folder / CONFIG).is_file():
        _refuse_other_weights(name, folder)
        raise InputError(f"{name} has no {CONFIG}; expected a model that save_pretrained of transformers wrote.")
    config = _read_json(name, folder / CONFIG)
    if not has_whole_model(folder):
        _refuse_other_weights(name, folder)
        others = ", ".join(sorted(path.name for path in folder.glob("*.safetensors"))) or "no *.safetensors file"
        raise InputError(f"{name} has {others}; expected {WEIGHTS}, or {INDEX} and the files that it lists.")
    return Checkpoint(name, config, read_shapes(name, _weight_files(name, folder)))


def read_shapes(name: str, files: Iterable[Path]) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors in safetensors files, from their headers.

    Raises:
        InputError: if a file is missing or damaged.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for path in files:
        try:
            with safe_open(path, framework="pt") as file:
                shapes |= {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            if _begins(path, LFS_POINTER):
                raise InputError(
                    f"{name} has a Git LFS pointer as {path.name}; expected the file (git lfs pull)."
                ) from error
            raise InputError(f"{name} has a damaged {path.name} ({reason(error)}); expected {CONVERTED}.") from error
    return shapes


def _begins(path: Path, content: bytes) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(content)) == content


def _weight_files(name: str, folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    listed = _read_json(name, folder / INDEX).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise InputError(f"{name} has an {INDEX} without a weight_map; expected one that lists every tensor's file.")
    files = sorted({str(file) for file in listed.values()})
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise InputError(f"{name} lacks {few(missing)}; expected every file that {INDEX} lists.")
    return [folder / file for file in files]


def _read_json(name: str, path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{name} has a damaged {path.name} ({reason(error)}); expected JSON.") from error
    if not isinstance(content, dict):
        raise InputError(f"{name} has a {path.name} that is no JSON object; expected one.")
    return content


def _refuse_other_weights(name: str, folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        if path.suffix in OTHER_WEIGHTS and re.search(r"model|weight|\.gguf$|\.npz$", path.name):
            known = OTHER_WEIGHTS[path.suffix]
            raise InputError(f"{name} has no *.safetensors file but {path.name} ({known}); expected {CONVERTED}.")


def few(names: list[str]) -> str:
    """The first three names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
