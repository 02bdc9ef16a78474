"""What ``--on`` names: a benchmark, a path, or both."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from qbrm.benchmarks import BENCHMARKS
from qbrm.benchmarks.base import Benchmark, BenchmarkItem
from qbrm.benchmarks.records import is_folder, read_file, source_files
from qbrm.errors import InputError
from qbrm.preferences.quoting import one_line


class BenchmarkSource(NamedTuple):
    """A benchmark that was read.

    Attributes:
        benchmark: its layout and score.
        source: as the user wrote it.
        items: its items.
    """

    benchmark: Benchmark
    source: str
    items: tuple[BenchmarkItem, ...]


def read_benchmark(source: str) -> BenchmarkSource:
    """Read a benchmark.

    Args:
        source: ``PATH``, whose layout is recognised; ``NAME:PATH``, which says it; or ``NAME``, a folder or file of
            that name if there is one, and otherwise downloaded from where the benchmark is published.

    Raises:
        InputError: if the name is unknown, the layout is not recognised, or something in the source is wrong.
    """
    name, colon, path = source.partition(":")
    if colon and name in BENCHMARKS:
        return _read(BENCHMARKS[name], source, Path(path))
    if source in BENCHMARKS:
        benchmark, there = BENCHMARKS[source], Path(source).exists()
        return _read(benchmark, source, Path(source)) if there else _download(benchmark, source)
    if not Path(source).exists():
        raise InputError(f"{one_line(source)!r} is neither a path that exists nor a benchmark{_suggestion(name)}")
    return _read(_recognised(Path(source)), source, Path(source))


def _read(benchmark: Benchmark, source: str, path: Path) -> BenchmarkSource:
    return BenchmarkSource(benchmark, source, benchmark.read(path))


def _download(benchmark: Benchmark, source: str) -> BenchmarkSource:
    return BenchmarkSource(benchmark, source, benchmark.download())


def _suggestion(name: str) -> str:
    close = difflib.get_close_matches(name.lower(), BENCHMARKS, n=1)
    return f"{f'; did you mean {close[0]!r}?' if close else '.'} Known: {', '.join(BENCHMARKS)}; or NAME:PATH."


def _recognised(path: Path) -> Benchmark:
    """The first benchmark that recognises a file's first record."""
    files = source_files(path) if is_folder(path) else [path]
    first: dict[Path, Mapping[str, Any]] = {}
    for benchmark in BENCHMARKS.values():
        if any(benchmark.recognises(record) for record in _first_records(files, first)):
            return benchmark
    names = ", ".join(BENCHMARKS)
    raise InputError(f"{one_line(path)} is in no known layout; expected NAME:PATH with one of {names}.")


def _first_records(files: list[Path], known: dict[Path, Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for file in files:
        if file not in known:
            record = next(read_file(file), None)
            known[file] = record.field.value if record and isinstance(record.field.value, dict) else {}
        yield known[file]
