"""Sources of benchmarks: a name, a path, or both."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qbrm.benchmarks import BENCHMARKS
from qbrm.benchmarks.base import Benchmark, BenchmarkItem
from qbrm.benchmarks.records import is_folder, read_file, source_files
from qbrm.errors import InputError
from qbrm.preferences.quoting import one_line


class BenchmarkSource(NamedTuple):
    """A benchmark and its items, as read from a source that is kept as the user wrote it."""

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
        return BenchmarkSource(BENCHMARKS[name], source, BENCHMARKS[name].read(Path(path)))
    there, benchmark = Path(source).exists(), BENCHMARKS.get(source)
    if benchmark is None and not there:
        raise InputError(f"{one_line(source)!r} is neither a path that exists nor a benchmark{_suggestion(name)}")
    benchmark = benchmark or _recognised(Path(source))
    return BenchmarkSource(benchmark, source, benchmark.read(Path(source)) if there else benchmark.download())


def _suggestion(name: str) -> str:
    close = difflib.get_close_matches(name.lower(), BENCHMARKS, n=1)
    return f"{f'; did you mean {close[0]!r}?' if close else '.'} Known: {', '.join(BENCHMARKS)}; or NAME:PATH."


def _recognised(path: Path) -> Benchmark:
    records = _first_records(source_files(path) if is_folder(path) else [path])
    for benchmark in BENCHMARKS.values():
        if any(map(benchmark.recognises, records)):
            return benchmark
    names = ", ".join(BENCHMARKS)
    raise InputError(f"{one_line(path)} is in no known layout; expected NAME:PATH with one of {names}.")


def _first_records(files: Sequence[Path]) -> list[Mapping[str, Any]]:
    """The first records of those files that can be read: published folders hold metadata and results too.

    Raises:
        InputError: if none can be; says what is wrong with the first.
    """
    records, errors = [], []
    for file in files:
        try:
            records.append(_first_record(file))
        except InputError as error:
            errors.append(error)
    if errors and not records:
        raise errors[0]
    return records


def _first_record(file: Path) -> Mapping[str, Any]:
    record = next(read_file(file), None)
    return record.field.value if record is not None and isinstance(record.field.value, dict) else {}
