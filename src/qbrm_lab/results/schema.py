"""Frozen dataclasses to JSON and back, with the place that does not fit."""

from __future__ import annotations

import json
import math
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", NoneType: "null"}


def as_json(value: Any) -> Any:
    """Dataclasses as objects, all else as it is; fields that may be absent are left out where they are None."""
    if is_dataclass(value):
        content = {field.name: getattr(value, field.name) for field in fields(value)}
        absent = {field.name for field in fields(value) if field.default is None and content[field.name] is None}
        kind = {"kind": value.kind} if hasattr(value, "kind") else {}
        return kind | {name: as_json(part) for name, part in content.items() if name not in absent}
    if isinstance(value, list | tuple):
        return [as_json(entry) for entry in value]
    return value


def parsed(value: Any, kind: Any, place: str = "the file") -> Any:
    """A value of a kind, from what `json.loads` gave.

    Args:
        value: JSON; keys that a dataclass does not have are ignored.
        kind: a dataclass, or what its fields are annotated with. Of several dataclasses the one is meant whose `kind`
            is that of the value.
        place: what to call the value.

    Raises:
        ValueError: if it does not fit; the message has the first such place, its value and what was expected.
    """
    if is_dataclass(kind):
        return _object(value, kind, place)
    if get_origin(kind) in (list, tuple):
        if not isinstance(value, list):
            raise _mismatch(value, place, "a list")
        entry_kind = get_args(kind)[0]
        entries = [parsed(entry, entry_kind, f"entry {n} of {place}") for n, entry in enumerate(value, start=1)]
        return entries if get_origin(kind) is list else tuple(entries)
    classes = [option for option in get_args(kind) if is_dataclass(option)]
    if classes and value is not None:
        return parsed(value, classes[0] if len(classes) == 1 else _named(value, classes, place), place)
    if not _fits(value, kind):
        raise _mismatch(value, place, _words(kind))
    return value


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


def _object(value: Any, kind: Any, place: str) -> Any:
    if not isinstance(value, dict):
        raise _mismatch(value, place, "an object")
    content = {}
    for field in fields(kind):
        if field.name in value:
            content[field.name] = parsed(value[field.name], _hints(kind)[field.name], f'"{field.name}" of {place}')
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f'{place} lacks "{field.name}"')
    return kind(**{field.name: content[field.name] for field in fields(kind) if field.init and field.name in content})


def _named(value: Any, classes: list[Any], place: str) -> Any:
    by_name = {option.kind: option for option in classes}
    name = value.get("kind") if isinstance(value, dict) else None
    if name not in by_name:
        raise _mismatch(name, f'"kind" of {place}', " or ".join(map(json.dumps, by_name)))
    return by_name[name]


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _fits(value: Any, kind: Any) -> bool:
    origin = get_origin(kind)
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


def _mismatch(value: Any, place: str, words: str) -> ValueError:
    return ValueError(f"{place} is {json.dumps(value)[:40]}; expected {words}")
