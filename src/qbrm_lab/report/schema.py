"""Whether JSON fits a typed dictionary, and where it does not."""

from __future__ import annotations

import json
import math
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from typing_extensions import NotRequired, get_type_hints, is_typeddict

_WORDS = {str: "text", int: "a whole number", float: "a number", NoneType: "null"}


def mismatch(value: Any, kind: Any, place: str = "the file") -> str | None:
    """The first place where a JSON value is not of a kind.

    Args:
        value: what `json.loads` gave.
        kind: a typed dictionary, or what its fields are annotated with.
        place: what to call the value.

    Returns:
        The place, its value and what was expected; None if all fits.
    """
    if is_typeddict(kind):
        return _field_mismatch(value, kind, place)
    if get_origin(kind) is list:
        return _entry_mismatch(value, get_args(kind)[0], place)
    if _fits(value, kind):
        return None
    return _expected(value, place, _words(kind))


def non_finite(value: Any) -> str | None:
    """The place of the first NaN or infinity, as a path of keys such as ``['epochs'][3]['loss']``."""
    if isinstance(value, float):
        return None if math.isfinite(value) else ""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, item in items:
        place = non_finite(item)
        if place is not None:
            return f"[{key!r}]{place}"
    return None


def _field_mismatch(value: Any, kind: Any, place: str) -> str | None:
    if not isinstance(value, dict):
        return _expected(value, place, "an object")
    for name, field in get_type_hints(kind, include_extras=True).items():
        origin: Any = get_origin(field)
        optional = origin is NotRequired
        if name in value:
            problem = mismatch(value[name], get_args(field)[0] if optional else field, f'"{name}" of {place}')
        else:
            problem = None if optional else f'{place} lacks "{name}"'
        if problem:
            return problem
    return None


def _entry_mismatch(value: Any, kind: Any, place: str) -> str | None:
    if not isinstance(value, list):
        return _expected(value, place, "a list")
    problems = (mismatch(entry, kind, f"entry {number} of {place}") for number, entry in enumerate(value, start=1))
    return next(filter(None, problems), None)


def _fits(value: Any, kind: Any) -> bool:
    origin = get_origin(kind)
    if is_typeddict(kind):
        return mismatch(value, kind) is None
    if origin in (Union, UnionType):
        return any(_fits(value, option) for option in get_args(kind))
    if origin is Literal:
        return value in get_args(kind)
    if kind in (int, float):
        return isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
    return isinstance(value, origin or kind)


def _words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(map(json.dumps, get_args(kind)))
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(map(_words, get_args(kind)))
    return _WORDS.get(kind, "an object")


def _expected(value: Any, place: str, words: str) -> str:
    return f"{place} is {json.dumps(value)[:40]}; expected {words}"
