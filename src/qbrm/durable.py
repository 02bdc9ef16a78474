"""Files that are whole or absent, and read as they were written; folders with one writer at a time."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from qbrm.errors import DamagedFileError, InputError, NotWritableError

TEMPORARY = ".tmp"
LOCK = ".lock"
# What a file that was being written when the process was killed has behind its name.
LEFT = re.compile(r"\.[0-9a-f]{16}\.tmp$")
# The checksums of the files in a folder, as `sha256sum --check SHA256SUMS` reads them.
SUMS = "SHA256SUMS"
_SUM = re.compile(rb"([0-9a-f]{64})  (.+)")

# A file may be replaced between the reading of its checksum and its own.
ATTEMPTS = 3

Content = TypeVar("Content")

logger = logging.getLogger(__name__)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents. Raises InputError if that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(folder, error) from error


def write_atomically(path: Path, content: bytes | memoryview, *, listed: bool = True) -> None:
    """Write aside, flush to the disk, rename: a reader sees the old file or the new one, never a part.

    The file's checksum goes into the folder's SHA256SUMS, unless `listed` is false: for files of a folder that is the
    user's, and for those whose checksum is kept elsewhere. Between the two renames both checksums are listed, the old
    and the new.

    Raises:
        InputError: if the folder cannot be written or the disk is full.
    """
    folder = path.parent
    try:
        with _alone(folder), _aside(path, content) as aside:
            if not listed:
                aside.replace(path)
                _flush_folder(folder)
                return
            known, new = _read_sums(folder), hashlib.sha256(content).hexdigest()
            old = known.get(path.name, [])
            if len(old) > 1:  # a kill left both: which of them is there now?
                old = [sha256(path)] if path.is_file() else []
            _write_sums(folder, {**known, path.name: [*old, new]})
            aside.replace(path)
            _flush_folder(folder)
            if old:
                _write_sums(folder, {**known, path.name: [new]})
    except OSError as error:
        raise _not_writable(folder, error) from error


def read_checked(path: Path) -> bytes:
    """The content of a file, as it was written; raises as :func:`check_file`."""
    return _checked(path, Path.read_bytes, lambda content: hashlib.sha256(content).hexdigest())


def check_file(path: Path) -> None:
    """Check a file against the SHA256SUMS of its folder; one that is not listed there is of an earlier version.

    Raises:
        DamagedFileError: if it is not as it was written.
        OSError: if it cannot be read.
    """
    _checked(path, sha256, str)


def sha256(*paths: Path, named: bool = False) -> str:
    """SHA-256 of files one behind the other, in hexadecimal; `named`: also of their names and sizes."""
    digest = hashlib.sha256()
    for path in paths:
        if named:
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


@contextmanager
def one_writer(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a folder for writing; it is made if it is not there, and gone again if nothing was written.

    The operating system lets go of the folder when the process ends, however it ends. Does nothing on file systems
    without locks.

    Args:
        folder: the folder.
        wait: whether to wait, with a logged warning, while another process holds it.

    Raises:
        InputError: if the folder cannot be written, or another process holds it.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    make_folder(folder)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        if not wait:
            busy = f"{folder} is being written by another process"
            raise InputError(f"{busy}; expected a folder of its own, or the end of that process.") from error
        logger.warning("%s is being written by another process; waiting for it.", folder)
        lock.acquire()
        while not (folder / LOCK).exists():  # that process wrote nothing, and took its lock with it
            lock.release()
            make_folder(folder)
            lock.acquire()
    except NotImplementedError:
        logger.debug("%s is on a file system without locks", folder)
    except OSError as error:
        raise _not_writable(folder, error) from error
    try:
        _tidy(folder)
        yield
    finally:
        _remove_unused(folder, made)
        lock.release()


def _tidy(folder: Path) -> None:
    """Remove what a kill left in a folder and those below: new files half written, and two checksums of one file."""
    for place, _, names in os.walk(folder):
        left = [name for name in names if LEFT.search(name)]
        if left or SUMS in names:
            with suppress(OSError), _alone(Path(place)):  # a folder that cannot be written says so when it is
                for name in left:
                    Path(place, name).unlink(missing_ok=True)
                _settle(Path(place))


def _settle(folder: Path) -> None:
    known = _read_sums(folder)
    doubtful = [name for name, digests in known.items() if len(digests) > 1]
    if doubtful:
        certain = {name: digests for name, digests in known.items() if name not in doubtful}
        there = {name: [sha256(folder / name)] for name in doubtful if (folder / name).is_file()}
        _write_sums(folder, certain | there)


def _remove_unused(folder: Path, made: list[Path]) -> None:
    with suppress(OSError):  # a folder that holds something stays
        if {path.name for path in folder.iterdir()} <= {LOCK}:
            (folder / LOCK).unlink(missing_ok=True)
            for place in made:
                place.rmdir()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from replacing files of a folder for a moment, where its file system has locks."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


@contextmanager
def _aside(path: Path, content: bytes | memoryview) -> Iterator[Path]:
    """A file that is to become `path`, under a name that nobody can foresee."""
    aside = path.with_name(f"{path.name}.{secrets.token_hex(8)}{TEMPORARY}")
    try:
        with aside.open("xb") as file:  # exclusively: a link that was planted there is not followed
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield aside
    except OSError:
        with suppress(OSError):
            aside.unlink()
        raise


def _checked(path: Path, read: Callable[[Path], Content], digest_of: Callable[[Content], str]) -> Content:
    found, expected = "", [""]
    for _ in range(ATTEMPTS):
        known = _read_sums(path.parent)
        content = read(path)
        found, expected = digest_of(content), known.get(path.name, [])
        if found in expected:
            return content
        if not expected:
            for name in known:
                if not path.with_name(name).exists():
                    logger.warning("%s lists %s, which is not there.", path.with_name(SUMS), name)
            return content
    difference = f"SHA-256 {found[:12]} instead of {expected[-1][:12]} in {SUMS}"
    raise DamagedFileError(
        f"{path} is not as it was written ({difference}); run the command that wrote it again, or restore it."
    )


def _read_sums(folder: Path) -> dict[str, list[str]]:
    """The checksums of each listed file; two while it is being replaced."""
    known: dict[str, list[str]] = {}
    try:
        lines = (folder / SUMS).read_bytes().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return known
    for number, line in enumerate(lines, start=1):
        match = _SUM.fullmatch(line)
        if match is None:
            logger.warning("%s, line %s: no checksum; expected one as sha256sum writes it.", folder / SUMS, number)
        else:
            known.setdefault(os.fsdecode(match[2]), []).append(match[1].decode())
    return known


def _write_sums(folder: Path, known: dict[str, list[str]]) -> None:
    lines = (f"{digest}  {name}\n" for name in sorted(known) for digest in known[name])
    with _aside(folder / SUMS, b"".join(map(os.fsencode, lines))) as aside:
        aside.replace(folder / SUMS)


def _flush_folder(folder: Path) -> None:
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _not_writable(folder: Path, error: OSError) -> NotWritableError:
    return NotWritableError(f"folder {folder} cannot be written: {error.strerror}; expected a writable folder.")
