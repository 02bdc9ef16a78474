"""Sphinx's roles and formulas in docstrings as Markdown, for mkdocstrings."""

from __future__ import annotations

import re
from textwrap import dedent
from typing import Any

import griffe

FORMULA = re.compile(r"^( *)\.\. math::((?:.+\n?)+)", re.MULTILINE)
INLINE = re.compile(r":math:`([^`]+)`")
ROLE = re.compile(r":(?:class|func|meth|mod|attr):`(~?)([\w.]+)`")


class SphinxRoles(griffe.Extension):
    """Rewrites every docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(docstring: str) -> str:
    """``.. math::`` blocks between dollar signs, roles as references where the site has the object, else as code."""
    docstring = FORMULA.sub(_formula, docstring).replace("[, ", r"\[, ")  # optional columns, not links
    return ROLE.sub(_reference, INLINE.sub(r"$\1$", docstring))


def _formula(block: re.Match[str]) -> str:
    indent, formula = block[1], " ".join(dedent(block[2]).split())
    return f"{indent}$$\n{indent}{formula}\n{indent}$$\n"


def _reference(role: re.Match[str]) -> str:
    shown = role[2].rpartition(".")[2] if role[1] else role[2]
    return f'<autoref identifier="{role[2]}" optional><code>{shown}</code></autoref>'
