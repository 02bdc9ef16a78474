"""A value from a file together with its place there, so that an error names the place in one line."""

from __future__ import annotations

from typing import Final, NamedTuple

from qbrm.errors import InputError
from qbrm.preferences.quoting import show

MISSING: Final = object()


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

    def child(self, key: str) -> Field:
        """The field at `key`, whose value is `MISSING` where there is none.

        Raises:
            InputError: if this is not an object.
        """
        if not isinstance(self.value, dict):
            raise self.refused("an object")
        return Field(self.place, f"{self.path}.{key}" if self.path else key, self.value.get(key, MISSING))

    def elements(self, expected: str) -> list[Field]:
        """The fields of a list that is not empty.

        Raises:
            InputError: if this is not a list, or an empty one; says that `expected` was expected.
        """
        if not isinstance(self.value, list) or not self.value:
            raise self.refused(expected)
        return [Field(self.place, f"{self.path}[{index}]", value) for index, value in enumerate(self.value)]

    def string(self, expected: str = "a string") -> str:
        """The value as text that UTF-8 can hold; it may be empty.

        Raises:
            InputError: if it is not a string, or has half a surrogate pair in it, which no tokenizer takes.
        """
        if not isinstance(self.value, str):
            raise self.refused(expected)
        try:
            self.value.encode()
        except UnicodeEncodeError as error:
            half = f"holds half a surrogate pair, \\u{ord(self.value[error.start]):x}, at character {error.start + 1}"
            raise self.refused("text that UTF-8 can hold", half) from error
        return self.value

    def text(self, expected: str = "a non-empty string") -> str:
        """The value as text of more than white space. Raises InputError if it is anything else."""
        text = self.string(expected)
        if not text.strip():
            raise self.refused(expected)
        return text

    def refused(self, expected: str, actual: str | None = None) -> InputError:
        """The error that says what was expected here, and what is there."""
        subject = f'{self.place}: "{self.path}"' if self.path else self.place
        return InputError(f"{subject} {actual or _described(self.value)}; expected {expected}.")


def _described(value: object) -> str:
    if value is MISSING:
        return "is missing"
    if value in ("", [], {}):
        return "is empty"
    if isinstance(value, str) and not value.strip():
        return "is only white space"
    return f"is {show(value)}"
