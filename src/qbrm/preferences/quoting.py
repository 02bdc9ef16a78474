"""How texts, values and paths are quoted in messages: short, and on one line."""

from __future__ import annotations

import json


def one_line(text: object, width: int = 200) -> str:
    """Put text on one printable line, its end cut off where it is longer than `width` characters."""
    encodable = str(text).encode("utf-8", "backslashreplace").decode()
    joined = " ".join(encodable.split())
    visible = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in joined)
    return visible if len(visible) <= width else visible[: width - 1].rstrip() + "…"


def quote(text: str, width: int = 60) -> str:
    """The same between quotation marks."""
    return f'"{one_line(text, width)}"'


def show(value: object, width: int = 60) -> str:
    """A value as JSON would write it; what JSON cannot hold, as Python would."""
    return one_line(json.dumps(value, ensure_ascii=False, default=repr), width)
