"""A value from a file together with its place there, so that an error names the place in one line."""

from __future__ import annotations

import math
import re
from typing import Final, NamedTuple

from qbrm.errors import BadRowError
from qbrm.preferences.quoting import show

MISSING: Final = object()
LONGEST_TEXT = 10_000_000  # characters: more than any model reads
INDEX = re.compile(r"\[\d+\]")


class Field(NamedTuple):
    """One value of a file.

    Attributes:
        place: file and line, row or item, as in ``prefs.jsonl, line 12``.
        path: key inside that record, as in ``loser_list[0].answer``; empty for the record itself.
        value: the value, or `MISSING`.
    """

    place: str
    path: str
    value: object

    @property
    def absent(self) -> bool:
        """Whether there is no value: none, null, or the NaN that pandas writes for one."""
        return self.value is MISSING or self.value is None or _is_nan(self.value)

    def child(self, key: str) -> Field:
        """The field at `key`, whose value is `MISSING` where there is none.

        Raises:
            BadRowError: if this is not an object.
        """
        if not isinstance(self.value, dict):
            raise self.refused("an object")
        return Field(self.place, f"{self.path}.{key}" if self.path else key, self.value.get(key, MISSING))

    def elements(self, expected: str) -> list[Field]:
        """The fields of a list that is not empty.

        Raises:
            BadRowError: if this is not a list, or an empty one; says that `expected` was expected.
        """
        if not isinstance(self.value, list) or not self.value:
            raise self.refused(expected)
        return [Field(self.place, f"{self.path}[{index}]", value) for index, value in enumerate(self.value)]

    def string(self, expected: str = "a string") -> str:
        """The value as text that UTF-8 can hold; it may be empty.

        Raises:
            BadRowError: if it is not a string, is longer than `LONGEST_TEXT` characters, or has half a surrogate pair,
                which no tokenizer takes.
        """
        if not isinstance(self.value, str):
            raise self.refused(expected)
        try:
            self.value.encode()
        except UnicodeEncodeError as error:
            half = f"holds half a surrogate pair, \\u{ord(self.value[error.start]):x}, at character {error.start + 1}"
            raise self.refused("text that UTF-8 can hold", half) from error
        if len(self.value) > LONGEST_TEXT:
            found = f"has {len(self.value):,} characters"
            raise self.refused(f"at most {LONGEST_TEXT:,}", found, "a text is too long")
        return self.value

    def text(self, expected: str = "a non-empty string") -> str:
        """The value as text of more than white space. Raises BadRowError if it is anything else."""
        text = self.string(expected)
        if not text.strip():
            raise self.refused(expected)
        return text

    def refused(self, expected: str, actual: str | None = None, kind: str | None = None) -> BadRowError:
        """The error that says what was expected here, and what is there.

        Args:
            expected: what was expected.
            actual: what is there, as in "is too long"; None for the value.
            kind: the fault in words that rows with the same fault share; None for words made of the others.
        """
        subject = f'{self.place}: "{self.path}"' if self.path else self.place
        named = _named(self.value)
        found = actual or f"is {named or show(self.value)}"
        if kind is None:
            key = f'"{INDEX.sub("", self.path)}"' if self.path else "the row"
            kind = f"{key} is {named}" if named and not actual else f"{key} is not {expected}"
        return BadRowError(f"{subject} {found}; expected {expected}.", kind)


def _named(value: object) -> str | None:
    """The word for a value that is nothing, or none for others."""
    if value is MISSING:
        return "missing"
    if value is None:
        return "null"
    if _is_nan(value):
        return "NaN"
    if value in ("", [], {}):
        return "empty"
    return "only white space" if isinstance(value, str) and not value.strip() else None


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)
