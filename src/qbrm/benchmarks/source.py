"""Sources of benchmarks: a name, a path, or both."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from qbrm.benchmarks import BENCHMARKS
from qbrm.benchmarks.base import Benchmark, BenchmarkItem
from qbrm.benchmarks.preferences import Preferences, as_items
from qbrm.benchmarks.records import read_file
from qbrm.errors import InputError
from qbrm.preferences import read_preferences
from qbrm.preferences.files import is_folder
from qbrm.preferences.quoting import one_line
from qbrm.preferences.shards import data_files
from qbrm.preferences.source import is_elsewhere

LOOKED_AT = 20  # records of a file by which its layout is recognised, as the first may be bad


class BenchmarkSource(NamedTuple):
    """A benchmark and its items, as read from a source that is kept as the user wrote it.

    Attributes:
        benchmark: the benchmark.
        source: as the user wrote it.
        items: its items.
        left_out: how many rows of preferences are left out because they are none, by what is wrong with them.
    """

    benchmark: Benchmark
    source: str
    items: tuple[BenchmarkItem, ...]
    left_out: Mapping[str, int] = MappingProxyType({})


def read_benchmark(source: str, *, skip_bad: bool = False) -> BenchmarkSource:
    """Read a benchmark.

    Args:
        source: ``PATH``, whose layout is recognised; ``NAME:PATH``, which says it; ``NAME``, a folder or file of that
            name if there is one, and otherwise downloaded from where the benchmark is published; or the name of a data
            set of preferences, as :func:`qbrm.read_preferences` takes it.
        skip_bad: whether rows of preferences that are none are left out; published benchmarks are read whole.

    Raises:
        InputError: if the name is unknown, the layout is not recognised, or something in the source is wrong.
    """
    name, colon, path = source.partition(":")
    if colon and name in BENCHMARKS:
        return _read(BENCHMARKS[name], source, path, skip_bad=skip_bad)
    there, benchmark = Path(source).exists(), BENCHMARKS.get(source)
    if benchmark is None and not there:
        if is_elsewhere(source):
            return _read(Preferences(), source, source, skip_bad=skip_bad)
        raise InputError(f"{one_line(source)!r} is neither a path that exists nor a benchmark{_suggestion(name)}")
    benchmark = benchmark or _recognised(Path(source))
    return (
        _read(benchmark, source, source, skip_bad=skip_bad)
        if there
        else BenchmarkSource(benchmark, source, benchmark.download())
    )


def _read(benchmark: Benchmark, source: str, path: str, *, skip_bad: bool) -> BenchmarkSource:
    if not isinstance(benchmark, Preferences):
        return BenchmarkSource(benchmark, source, benchmark.read(Path(path)))
    preferences = read_preferences(path, skip_bad=skip_bad)
    return BenchmarkSource(benchmark, source, as_items(preferences), preferences.left_out)


def _suggestion(name: str) -> str:
    close = difflib.get_close_matches(name.lower(), BENCHMARKS, n=1)
    return f"{f'; did you mean {close[0]!r}?' if close else '.'} Known: {', '.join(BENCHMARKS)}; or NAME:PATH."


def _recognised(path: Path) -> Benchmark:
    records = _first_records(data_files(path) if is_folder(path) else [path])
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
    records: list[Mapping[str, Any]] = []
    errors: list[InputError] = []
    for file in files:
        try:
            first = list(islice(read_file(file), LOOKED_AT))
        except InputError as error:
            errors.append(error)
            continue
        records += [record.field.value for record in first if isinstance(record.field.value, dict)]
        errors += [record.fault for record in first if record.fault is not None]
    if errors and not records:
        raise errors[0]
    return records
