"""Read a preference's category and identifier."""

from __future__ import annotations

import re
from collections.abc import Iterable

from qbrm.errors import BadRowError
from qbrm.preferences.field import Field
from qbrm.preferences.quoting import quote

UNCATEGORISED = "uncategorised"
RESERVED_CATEGORIES = ("all", "macro")
LONGEST_LABEL = 200
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def read_category(field: Field, *prefixes: str) -> str:
    """The category, without the first of `prefixes` that it starts with.

    Raises:
        BadRowError: if it is not text, is longer than `LONGEST_LABEL` characters, has control characters, or is a word
            that results use for their summary rows.
    """
    path = " ".join(field.text().split())
    prefix = next((prefix for prefix in prefixes if path.startswith(prefix)), "")
    category = path.removeprefix(prefix)
    if not category:
        raise field.refused(f"a category behind {quote(prefix)}")
    if len(category) > LONGEST_LABEL or CONTROL.search(category):
        raise field.refused(f"at most {LONGEST_LABEL} characters, none of them a control character")
    if category in RESERVED_CATEGORIES:
        raise field.refused('another category, as "all" and "macro" are summary rows in results')
    return category


def read_uid(field: Field) -> str:
    """The identifier: a string or a whole number, which pandas writes as 0.0 beside missing ones.

    Raises:
        BadRowError: if it is neither.
    """
    value = field.value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return field.text("a non-empty string or a whole number")


class UniqueIds:
    """Identifiers seen so far, each with its place.

    Args:
        key: what files call them.
    """

    def __init__(self, key: str) -> None:
        self._key, self._seen = key, dict[str, str]()

    def add(self, uid: str, place: str) -> None:
        """Remember one. Raises BadRowError if it is there already; names both places."""
        if uid in self._seen:
            first = f'{place}: "{self._key}" is {quote(uid)}, as in {self._seen[uid]}'
            raise BadRowError(f"{first}; expected every one only once.", f'"{self._key}" occurred before')
        self._seen[uid] = place


def check_unique(key: str, uids: Iterable[tuple[str, str]]) -> None:
    """Refuse identifiers, each with its place, that occur twice; files call them `key`. Raises as `UniqueIds.add`."""
    unique = UniqueIds(key)
    for uid, place in uids:
        unique.add(uid, place)
