"""The manifest of a feature table: which model it comes from and which shards belong to it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from qbrm.durable import read_checked, sha256, write_atomically
from qbrm.errors import InputError
from qbrm.reward_models.base import Identity

MANIFEST = "manifest.json"
SCHEMA = 1
MOST = 2**48  # of anything that is counted
SHARD_NAME = re.compile(r"features-\d{5,}\.arrow")


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"features-{number:05d}.arrow"


@dataclass(frozen=True)
class ShardEntry:
    """What the manifest says of one shard.

    Attributes:
        file: its name in the table's folder.
        rows: how many rows it has.
        size: bytes on disk.
        sha256: checksum.
        cut: how many of its rows are of texts that were longer than the model takes.
    """

    file: str
    rows: int
    size: int
    sha256: str
    cut: int = 0

    def damage(self, folder: Path) -> str | None:
        """Say what is wrong with the file, or None if it is whole; reads all of it, 1 to 2 GB/s when cached."""
        path = folder / self.file
        if not path.is_file():
            return "missing"
        size = path.stat().st_size
        if size != self.size:
            return f"{size:,} bytes instead of {self.size:,}"
        digest = sha256(path)
        return None if digest == self.sha256 else f"SHA-256 {digest[:12]} instead of {self.sha256[:12]}"


@dataclass(frozen=True)
class Manifest:
    """What a feature table holds.

    Attributes:
        identity: the reward model that the features come from.
        dim: embedding size.
        has_reward: whether there is a reward column; None while there is no shard to tell.
        shards: the shards, by number.
        complete: whether the last build got to its end.
        settings: what the reward model was loaded with besides name and revision, see `Configured`.
        head_dim: how many coordinates of the embedding, the first ones, the score layer reads; None for all.
        wanted: rows that there will be when the build gets to its end; None if it has, or is of an older version.
    """

    identity: Identity
    dim: int
    has_reward: bool | None = None
    shards: tuple[ShardEntry, ...] = field(default=())
    complete: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    wanted: int | None = None
    head_dim: int | None = None

    @property
    def columns(self) -> list[str]:
        """Column names, in order."""
        return ["prompt_id", "response_id", "embedding", *(["reward"] if self.has_reward else [])]

    def plus(self, entry: ShardEntry, *, has_reward: bool) -> Manifest:
        """The manifest with one more shard in its place by number, to be completed again."""
        shards = sorted((*self.shards, entry), key=lambda shard: (len(shard.file), shard.file))
        return replace(self, shards=tuple(shards), has_reward=has_reward, complete=False)

    def without(self, entries: set[ShardEntry]) -> Manifest:
        """The manifest without some shards, to be completed again."""
        kept = tuple(shard for shard in self.shards if shard not in entries)
        return replace(self, shards=kept, has_reward=self.has_reward if kept else None, complete=False)

    def damaged(self, folder: Path) -> dict[ShardEntry, str]:
        """Check every shard's size and SHA-256; what is wrong with each that is not as it was written."""
        damages = ((shard, shard.damage(folder)) for shard in self.shards)
        return {shard: damage for shard, damage in damages if damage is not None}

    def write(self, folder: Path) -> None:
        """Replace the folder's manifest in one step. Raises InputError if the folder cannot be written."""
        content = {
            "schema": SCHEMA,
            "identity": self.identity.to_dict(),
            "settings": dict(self.settings),
            "dim": self.dim,
            "columns": self.columns,
            "shards": [asdict(shard) for shard in self.shards],
            "complete": self.complete,
            **({"wanted": self.wanted} if self.wanted is not None else {}),
            **({"head_dim": self.head_dim} if self.head_dim is not None else {}),
        }
        write_atomically(folder / MANIFEST, (json.dumps(content, indent=1) + "\n").encode())


def read_manifest(folder: Path, *, checked: bool = True) -> Manifest | None:
    """Read the manifest in `folder`, or None if there is none; as it was written, or `checked` is false.

    Raises:
        InputError: if there is one that this version did not write, or that is not as it was written.
    """
    path = folder / MANIFEST
    try:
        text = (read_checked(path) if checked else path.read_bytes()).decode()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}; expected a feature table's manifest.") from error
    try:
        return _parse(json.loads(text))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path} is not a feature table's manifest ({str(error)[:80]!r}); delete {folder} and rerun."
        ) from error


def _parse(content: dict[str, Any]) -> Manifest:
    if content["schema"] != SCHEMA:
        raise ValueError(f"schema {content['schema']}")
    shards = tuple(_parse_entry(shard) for shard in content["shards"])
    return Manifest(
        Identity.from_dict(content["identity"]),
        _count(content["dim"], "dim"),
        has_reward="reward" in content["columns"] if shards else None,
        shards=shards,
        complete=bool(content["complete"]),
        settings=dict(content.get("settings", {})),
        wanted=None if content.get("wanted") is None else _count(content["wanted"], "wanted"),
        head_dim=None if content.get("head_dim") is None else _count(content["head_dim"], "head_dim"),
    )


def _parse_entry(content: dict[str, Any]) -> ShardEntry:
    if not SHARD_NAME.fullmatch(str(content["file"])):
        raise ValueError(f"shard file {content['file']!r}")
    rows, size, cut = (_count(content.get(key, 0), key) for key in ("rows", "size", "cut"))
    return ShardEntry(content["file"], rows, size, str(content["sha256"]), cut)


def _count(value: Any, key: str) -> int:
    if not isinstance(value, int) or not 0 <= value <= MOST:
        raise ValueError(f"{key} {value}")
    return int(value)
