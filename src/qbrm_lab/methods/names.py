"""Names of methods with options: read, checked, put in order, and built."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from qbrm.errors import InputError, check_known
from qbrm_lab.methods.catalogue import METHODS, RENAMED, MethodDescription, Option

if TYPE_CHECKING:
    from qbrm.samplers import Sampler
    from qbrm_lab.methods.base import Method

Value = bool | int | str


class MethodName(NamedTuple):
    """A method and the values of its options, in the description's order; True for a flag."""

    description: MethodDescription
    options: Mapping[str, Value]

    def __str__(self) -> str:
        options = [name if value is True else f"{name}={value}" for name, value in self.options.items()]
        return ":".join([self.description.name, *([",".join(options)] if options else [])])


@dataclass(frozen=True)
class Defaults:
    """What methods are told that their names do not say; each takes what it has.

    Attributes:
        epochs: passes over the training pairs; None for the method's own number.
        hidden: hidden units of a Boltzmann machine; None for its own number.
        sampler: draws the hidden spins of ``qbm`` and ``tqbm``; None to sum over them.
    """

    epochs: int | None = None
    hidden: int | None = None
    sampler: str | Sampler | None = None


def method_name(text: str) -> MethodName:
    """Read ``NAME[:OPTION[,OPTION...]]``.

    Raises:
        InputError: if the method or an option is unknown, a value is not one, two options exclude each other, or one
            stands without the other that it needs.
    """
    if text in RENAMED:
        raise InputError(f"method {text!r} is called {RENAMED[text]!r} now.")
    name, colon, rest = text.partition(":")
    check_known("method", name, METHODS)
    description, given = METHODS[name], dict[str, Value]()
    for part in rest.split(",") if colon else ():
        option, value = _option(text, description, part)
        if option.name in given:
            raise InputError(f"method {text!r} has the option {option.name} twice; expected it once.")
        given[option.name] = value
    for option in description.options:
        rivals = [other for other in option.excludes if other in given and other != option.name]
        if option.name in given and rivals:
            raise InputError(f"method {text!r} has both {option.name} and {rivals[0]}; expected one of them.")
        if option.name in given and option.needs and option.needs not in given:
            needed = description.option(option.needs)
            assert needed is not None
            raise InputError(f"method {text!r} has {option.name} alone; expected {needed.usage} too.")
    return MethodName(description, {o.name: given[o.name] for o in description.options if o.name in given})


def split_methods(parts: Sequence[str]) -> tuple[str, ...]:
    """Methods from a list that was split at all commas: an option belongs to the method before it."""
    flags = {option.name for description in METHODS.values() for option in description.options if not option.value}
    methods: list[str] = []
    for part in parts:
        if methods and ":" in methods[-1] and ":" not in part and ("=" in part or part in flags):
            methods[-1] += f",{part}"
        else:
            methods.append(part)
    return tuple(methods)


def folder_name(method: str) -> str:
    """A method's name as part of the names of files and folders, such as ``sqrbm-gate-members-5``."""
    return method.translate(str.maketrans(":,=", "---"))


def build_method(text: str, defaults: Defaults | None = None) -> Method:
    """The method of that name.

    Raises:
        InputError: as for :func:`method_name`, or if the method cannot be built with such options.
    """
    name = method_name(text)
    method: Method = _imported(f"qbrm_lab.methods.{name.description.build}")(name, defaults or Defaults())
    return method


def _option(text: str, description: MethodDescription, part: str) -> tuple[Option, Value]:
    name, equals, value = part.partition("=")
    known = [option.name for option in description.options]
    if not known:
        raise InputError(f"method {text!r}: {description.name} has no options; expected {description.name!r}.")
    check_known(f"option of {description.name}", name, known)
    option = description.options[known.index(name)]
    if bool(equals) != bool(option.value):
        raise InputError(f"method {text!r} has {part!r}; expected {option.usage}.")
    if option.value == "N":
        if not (value.isascii() and value.isdigit() and int(value) >= option.least):
            raise InputError(f"method {text!r} has {part!r}; expected a whole number of at least {option.least}.")
        return option, int(value)
    if option.value:
        check_known(name, value, _imported(option.choices))
    return option, value or True


def _imported(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)
