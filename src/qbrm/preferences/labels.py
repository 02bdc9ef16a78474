"""Read a preference's category and identifier."""

from __future__ import annotations

from collections.abc import Iterable

from qbrm.errors import InputError
from qbrm.preferences.field import Field
from qbrm.preferences.quoting import quote

UNCATEGORISED = "uncategorised"
RESERVED_CATEGORIES = ("all", "macro")


def read_category(field: Field, *prefixes: str) -> str:
    """The category, without the first of `prefixes` that it starts with.

    Raises:
        InputError: if it is not text, or is a word that results use for their summary rows.
    """
    path = " ".join(field.text().split())
    prefix = next((prefix for prefix in prefixes if path.startswith(prefix)), "")
    category = path.removeprefix(prefix)
    if not category:
        raise field.refused(f"a category behind {quote(prefix)}")
    if category in RESERVED_CATEGORIES:
        raise field.refused('another category, as "all" and "macro" are summary rows in results')
    return category


def read_uid(field: Field) -> str:
    """The identifier, which files write as a string or a whole number. Raises InputError if it is neither."""
    if isinstance(field.value, int) and not isinstance(field.value, bool):
        return str(field.value)
    return field.text("a non-empty string or a whole number")


def check_unique(key: str, uids: Iterable[tuple[str, str]]) -> None:
    """Refuse identifiers, each with its place, that occur twice; files call them `key`.

    Raises:
        InputError: if two are equal; it names both places.
    """
    seen: dict[str, str] = {}
    for uid, place in uids:
        if uid in seen:
            raise InputError(f'{place}: "{key}" is {quote(uid)}, as in {seen[uid]}; expected every one only once.')
        seen[uid] = place
