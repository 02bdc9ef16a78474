"""RMB's own layout (Zhou et al., 2024, arXiv 2410.09893): a tree of JSON files, best-of-N and pairwise.

RMB is read as it was published. Real RMB has rejected answers of nothing but white space, empty turns inside longer
conversations and answers that are chosen and rejected at once; all of these are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from qbrm.errors import InputError
from qbrm.preferences.bad_rows import Rejects
from qbrm.preferences.base import Preference, SetName
from qbrm.preferences.conversation import read_conversation
from qbrm.preferences.field import Field
from qbrm.preferences.files import find_files, reading
from qbrm.preferences.labels import UniqueIds, read_category, read_uid
from qbrm.preferences.quoting import one_line
from qbrm.preferences.rows import Row, file_rows


class _Layout(NamedTuple):
    """How the items of one of RMB's two sets are written."""

    set: SetName
    folder: str
    uid_key: str
    keys: frozenset[str]
    chosen: Callable[[Field], str]
    rejected: Callable[[Field], tuple[str, ...]]


def rmb_root(folder: Path) -> Path | None:
    """The folder with ``BoN_set/`` or ``Pairwise_set/``: this one, or the only one inside it that has them, or none.

    Raises:
        InputError: if several inside it have them.
    """
    with reading(folder):
        candidates = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
        roots = [path for path in candidates if any((path / layout.folder).is_dir() for layout in LAYOUTS)]
    if roots and roots[0] != folder and len(roots) > 1:
        names = ", ".join(one_line(root.name) for root in roots)
        raise InputError(f"{one_line(folder)} holds {len(roots)} RMB trees ({names}); expected one.")
    return roots[0] if roots else None


def read_rmb_tree(root: Path, rejects: Rejects) -> Iterator[Preference]:
    """Read ``BoN_set/`` and ``Pairwise_set/`` of a folder that :func:`rmb_root` gave.

    Args:
        root: the folder.
        rejects: collects items that are not RMB, or have the id of an earlier one.

    Raises:
        InputError: if there is no file, or one cannot be read.
    """
    folders = [(root / layout.folder, layout) for layout in LAYOUTS if (root / layout.folder).is_dir()]
    files = [(path, layout) for folder, layout in folders for path in find_files(folder, ".json")]
    if not files:
        raise InputError(f"{one_line(root)} holds no .json file in BoN_set/ or Pairwise_set/; expected RMB files.")
    read = _Reader()
    for path, layout in files:
        yield from rejects.read(file_rows(path), partial(read, layout=layout))


def read_rmb_rows(rows: Iterable[Row], rejects: Rejects) -> Iterator[Preference]:
    """Read the items of one RMB file, of either set; `rejects` as in :func:`read_rmb_tree`."""
    return rejects.read(rows, _Reader())


def is_rmb(item: object) -> bool:
    """Whether an item is one of RMB's."""
    return isinstance(item, dict) and any(layout.keys & item.keys() for layout in LAYOUTS)


class _Reader:
    """Reads items, and refuses an id that an earlier item of the same set has."""

    def __init__(self) -> None:
        self._unique = {layout.set: UniqueIds(layout.uid_key) for layout in LAYOUTS}

    def __call__(self, row: Row, layout: _Layout | None = None) -> Preference:
        layout = layout or _layout_of(row.field)
        preference = _read_item(row.field, layout)
        self._unique[layout.set].add(preference.uid, row.field.place)
        return preference


def _layout_of(item: Field) -> _Layout:
    keys = item.value.keys() if isinstance(item.value, dict) else frozenset()
    layout = next((layout for layout in LAYOUTS if layout.keys & keys), None)
    if layout is None:
        raise item.refused('an RMB item, with "bon_best" and "loser_list" or with "chosen" and "reject"')
    return layout


def _read_item(item: Field, layout: _Layout) -> Preference:
    uid = read_uid(item.child(layout.uid_key))
    named = item._replace(place=f"{item.place} ({layout.uid_key} {one_line(uid, 60)})")
    return Preference(
        uid=uid,
        prompt=read_conversation(named.child("conversation_input")),
        chosen=layout.chosen(named),
        rejected=layout.rejected(named),
        category=read_category(named.child("category_path"), *(f"{layout.folder}/" for layout in LAYOUTS)),
        set=layout.set,
        place=item.place,
    )


def _losers(item: Field) -> tuple[str, ...]:
    losers = item.child("loser_list").elements("a list of one or more answers")
    return tuple(loser.child("answer").string() for loser in losers)


LAYOUTS = (
    _Layout(
        set="bon",
        folder="BoN_set",
        uid_key="bon_uid",
        keys=frozenset({"bon_uid", "bon_best", "loser_list"}),
        chosen=lambda item: item.child("bon_best").child("answer").text(),
        rejected=_losers,
    ),
    _Layout(
        set="pairwise",
        folder="Pairwise_set",
        uid_key="pair_uid",
        keys=frozenset({"pair_uid", "reject"}),
        chosen=lambda item: item.child("chosen").child("answer").text(),
        rejected=lambda item: (item.child("reject").child("answer").string(),),
    ),
)
