"""Files that are whole or absent, whenever the process is killed, and folders with one writer at a time."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from qbrm.errors import InputError

TEMPORARY = ".tmp"
LOCK = ".lock"

logger = logging.getLogger(__name__)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents. Raises InputError if that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(folder, error) from error


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write aside, flush to the disk, rename: a reader sees the old file or the new one, never a part.

    Raises:
        InputError: if the folder cannot be written or the disk is full.
    """
    aside = path.with_name(path.name + TEMPORARY)
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            aside.unlink()
        raise _not_writable(path.parent, error) from error


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
def one_writer(folder: Path) -> Iterator[None]:
    """Hold an existing folder for writing; wait, with a logged warning, while another process holds it.

    The operating system lets go of the folder when the process ends, however it ends. Does nothing on file systems
    without locks.

    Raises:
        InputError: if the folder cannot be written.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        logger.warning("%s is being written by another process; waiting for it.", folder)
        lock.acquire()
    except NotImplementedError:
        logger.debug("%s is on a file system without locks", folder)
    except OSError as error:
        raise _not_writable(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def _flush_folder(folder: Path) -> None:
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _not_writable(folder: Path, error: OSError) -> InputError:
    return InputError(f"folder {folder} cannot be written: {error.strerror}; expected a writable folder.")
