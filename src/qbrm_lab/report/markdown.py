"""The comparison in Markdown, and its place in a document."""

from __future__ import annotations

from pathlib import Path

from qbrm.durable import write_atomically
from qbrm.errors import InputError
from qbrm.tables.markdown import escaped, markdown_grid
from qbrm_lab.report.comparison import comparison_grid, difference_lines
from qbrm_lab.report.parts import Part, parts
from qbrm_lab.results import Results


def markdown_table(results: Results) -> str:
    """Each part's table, best values bold, and the differences between methods as a list."""
    return "\n\n".join(_part(part) for part in parts(results))


def update_markdown(path: Path, marker: str, text: str) -> None:
    """Replace what stands between ``<!-- marker -->`` and ``<!-- /marker -->``, and nothing else.

    Raises:
        InputError: if the document cannot be read or written, or the markers are not there in this order.
    """
    document = _read(path)
    start, end = f"<!-- {marker} -->", f"<!-- /{marker} -->"
    if not (document.count(start) == document.count(end) == 1 and document.index(start) < document.index(end)):
        raise InputError(f"{path} lacks a place for {marker}; expected {start} and, behind it, {end}, each once.")
    head, _, rest = document.partition(start)
    _, _, tail = rest.partition(end)
    newline = "\r\n" if "\r\n" in document else "\n"
    lines = [head + start, *text.strip("\n").split("\n"), end + tail]
    write_atomically(path, newline.join(lines).encode(), listed=False)


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; expected a Markdown document.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8; expected a Markdown document.") from error


def _part(part: Part) -> str:
    grid = comparison_grid(part)
    lines = [f"- {' '.join(line.split())}" for line in difference_lines(part)]
    return "\n\n".join(filter(None, [escaped(grid.caption), markdown_grid(grid), "\n".join(lines)]))
