"""Lets mkdocstrings read docstrings with Sphinx's roles and its math directive, by rewriting them to Markdown."""

import re
from typing import Any

import griffe

INLINE_MATH = re.compile(r":math:`([^`]+)`")
ROLE = re.compile(r":(?:class|func|meth|attr|mod):`~?([^`]+)`")
TILDE = re.compile(r":\w+:`~[\w.]*\.(\w+)`")
DISPLAYED_MATH = re.compile(r"^( *)\.\. math:: *(.*(?:\n+\1 +\S.*)*)", re.MULTILINE)


def markdown(docstring: str) -> str:
    """The same docstring with Markdown's code and formulas."""
    docstring = DISPLAYED_MATH.sub(lambda match: f"{match[1]}$$\n{match[1]}{match[2].strip()}\n{match[1]}$$", docstring)
    docstring = INLINE_MATH.sub(r"$\1$", docstring)
    return ROLE.sub(r"`\1`", TILDE.sub(r"`\1`", docstring))


class SphinxRoles(griffe.Extension):
    """Rewrites every docstring that griffe loads."""

    def on_object(self, *, obj: griffe.Object, **context: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)
