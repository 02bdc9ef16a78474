"""Records of {"prompt", "chosen", "rejected"[, "category"][, "id"]}: what lines of JSONL and rows of Parquet hold."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from qbrm.errors import InputError
from qbrm.preferences.base import Preference
from qbrm.preferences.conversation import read_prompt
from qbrm.preferences.field import MISSING, Field
from qbrm.preferences.labels import UNCATEGORISED, check_unique, read_category, read_uid
from qbrm.preferences.quoting import one_line, quote

REQUIRED = ("prompt", "chosen", "rejected")
UID_KEYS = ("id", "uid")
OPTIONAL = ("category", *UID_KEYS)

_REJECTED = "one or more non-empty strings"


def read_records(path: Path, unit: str, records: Iterable[tuple[int, object]]) -> tuple[Preference, ...]:
    """Make preferences of the records of one file.

    Args:
        path: the file.
        unit: what its records stand on, as in "line" 12.
        records: number of that, counted from 1, and its value.

    Raises:
        InputError: if a record is not a preference, two have one id, or there is none.
    """
    placed = []
    for number, value in records:
        place = f"{one_line(path)}, {unit} {number}"
        placed.append((place, _read_record(Field(place, "", value), uid=f"{path.name}:{number}")))
    if not placed:
        raise InputError(f"{one_line(path)} holds no preferences; expected one or more.")
    check_unique("id", ((preference.uid, place) for place, preference in placed))
    return tuple(preference for _, preference in placed)


def _read_record(record: Field, uid: str) -> Preference:
    if not isinstance(record.value, dict):
        raise record.refused('an object with "prompt", "chosen" and "rejected"')
    prompt = read_prompt(record.child("prompt"))
    chosen = record.child("chosen").text()
    rejected = _read_rejected(record.child("rejected"), chosen)
    given = next((field for field in map(record.child, UID_KEYS) if not _absent(field)), None)
    category = record.child("category")
    return Preference(
        uid=read_uid(given) if given else uid,
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        category=UNCATEGORISED if _absent(category) else read_category(category),
        set="pairwise" if len(rejected) == 1 else "bon",
        place=record.place,
    )


def _read_rejected(field: Field, chosen: str) -> tuple[str, ...]:
    answers = [field] if isinstance(field.value, str) else field.elements(_REJECTED)
    for answer in answers:
        if answer.text(_REJECTED) == chosen:
            raise answer.refused("another answer", f"is {quote(chosen)}, the same as the chosen answer")
    return tuple(answer.text() for answer in answers)


def _absent(field: Field) -> bool:
    return field.value is MISSING or field.value is None
