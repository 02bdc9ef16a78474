"""RMB's own layout (Zhou et al., 2024, arXiv 2410.09893): a tree of JSON files, best-of-N and pairwise.

RMB is read as it was published. Real RMB has rejected answers of nothing but white space, empty turns inside longer
conversations and answers that are chosen and rejected at once; all of these are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from qbrm.errors import InputError
from qbrm.preferences.base import Preference, SetName
from qbrm.preferences.conversation import read_conversation
from qbrm.preferences.field import Field
from qbrm.preferences.files import find_files, parse_json, read_text, reading
from qbrm.preferences.labels import check_unique, read_category, read_uid
from qbrm.preferences.quoting import one_line


class _Layout(NamedTuple):
    """How the items of one of RMB's two sets are written."""

    set: SetName
    folder: str
    uid_key: str
    keys: frozenset[str]
    chosen: Callable[[Field], str]
    rejected: Callable[[Field], tuple[str, ...]]


class _Item(NamedTuple):
    place: str
    preference: Preference


def read_rmb_tree(folder: Path) -> tuple[Preference, ...]:
    """Read ``BoN_set/`` and ``Pairwise_set/`` of `folder`, or of the one folder inside it that has them.

    Raises:
        InputError: if neither is there, or anything in them is not RMB.
    """
    root = _find_root(folder)
    folders = [(root / layout.folder, layout) for layout in LAYOUTS if (root / layout.folder).is_dir()]
    files = [(path, layout) for folder, layout in folders for path in find_files(folder, ".json")]
    if not files:
        raise InputError(f"{one_line(root)} holds no .json file in BoN_set/ or Pairwise_set/; expected RMB files.")
    return _preferences([item for path, layout in files for item in _read_items(path, layout)])


def read_rmb_file(path: Path) -> tuple[Preference, ...]:
    """Read one RMB file, of either set. Raises InputError if anything in it is not RMB."""
    return _preferences(list(_read_items(path)))


def _find_root(folder: Path) -> Path:
    with reading(folder):
        candidates = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
        roots = [path for path in candidates if any((path / layout.folder).is_dir() for layout in LAYOUTS)]
    if not roots:
        raise InputError(f"{one_line(folder)} has no BoN_set/ or Pairwise_set/ in it; expected an RMB tree.")
    if roots[0] != folder and len(roots) > 1:
        names = ", ".join(one_line(root.name) for root in roots)
        raise InputError(f"{one_line(folder)} holds {len(roots)} RMB trees ({names}); expected one.")
    return roots[0]


def _preferences(items: list[_Item]) -> tuple[Preference, ...]:
    for layout in LAYOUTS:
        of_set = ((item.preference.uid, item.place) for item in items if item.preference.set == layout.set)
        check_unique(layout.uid_key, of_set)
    return tuple(item.preference for item in items)


def _read_items(path: Path, layout: _Layout | None = None) -> Iterator[_Item]:
    content = Field(one_line(path), "", parse_json(read_text(path), path))
    for number, element in enumerate(content.elements("a list of RMB items"), start=1):
        item = Field(f"{content.place}, item {number}", "", element.value)
        yield _Item(item.place, _read_item(item, layout or _layout_of(item)))


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
    )


def _rejected(answer: Field) -> str:
    if answer.string() == "":
        raise answer.refused("a non-empty string")
    return answer.string()


def _losers(item: Field) -> tuple[str, ...]:
    losers = item.child("loser_list").elements("a list of one or more answers")
    return tuple(_rejected(loser.child("answer")) for loser in losers)


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
        rejected=lambda item: (_rejected(item.child("reject").child("answer")),),
    ),
)
