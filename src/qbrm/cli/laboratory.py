"""Commands and plots of the laboratory, where it is installed; where not, how to get it."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, requires, version

import typer

from qbrm.errors import InputError

GROUP, PLOTS = "qbrm.commands", "qbrm.plots"
EXTRA = "lab"
PANEL = "Laboratory"
ANY_ARGUMENTS = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


def add_commands(app: typer.Typer) -> None:
    """Add every command that is registered as an entry point of the group ``qbrm.commands``."""
    missing = missing_packages()
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        if missing:
            words = f"Needs pip install 'qbrm\\[{EXTRA}]'."  # the bracket would be read as markup
            register = app.command(point.name, help=words, rich_help_panel=PANEL, context_settings=ANY_ARGUMENTS)
            register(_refusal(point, missing[0]))
        else:
            app.command(point.name, rich_help_panel=PANEL)(point.load())


def plot_of(name: str) -> Callable[..., bytes] | None:
    """What draws the plot of that name, as a PNG, among the entry points of the group ``qbrm.plots``; None without."""
    points = [] if missing_packages() else entry_points(group=PLOTS, name=name)
    return next((point.load() for point in points), None)


def missing_packages() -> list[str]:
    """Requirements of the extra ``lab`` that are not installed."""
    wanted = [line for line in requires("qbrm") or [] if re.search(rf"extra == ['\"]{EXTRA}['\"]", line)]
    names = [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in wanted]
    return [name for name in names if not _is_installed(name)]


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _refusal(point: EntryPoint, package: str) -> Callable[[typer.Context], None]:
    def explain(context: typer.Context) -> None:
        raise InputError(f"{point.name}: the package {package} is not installed; pip install 'qbrm[{EXTRA}]'.")

    return explain
