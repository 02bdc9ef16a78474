"""The command line: parses, calls, and turns errors into one line."""

from __future__ import annotations

import io
import logging
import os
import sys
from contextlib import suppress
from typing import Annotated

import typer

from qbrm import __version__
from qbrm.cli import commands
from qbrm.cli.laboratory import add_commands
from qbrm.errors import BadRowsError, InputError, TrainingError, WorkerError

try:
    from typer import TyperException as UsageError
except ImportError:  # the last typer for Python 3.10 builds on click and raises its errors
    from click import ClickException as UsageError  # type: ignore[assignment]

INTERRUPTED = 130

app = typer.Typer(
    name="qbrm",
    help="Refine the rewards of a frozen reward model, and measure whether that helped.\n\n"
    "Start with [bold]qbrm demo[/bold]; then "
    "[bold]qbrm fit prefs.jsonl --reward-model MODEL --out runs/refined[/bold].",
    rich_markup_mode="rich",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
_COMMANDS = (
    commands.fit,
    commands.embed,
    commands.train,
    commands.merge,
    commands.evaluate,
    commands.probe,
    commands.export,
    commands.serve,
)
for command in _COMMANDS:
    app.command()(command)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"qbrm {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command; print an input error as one line on standard error, or one per bad row; exit with code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    _show_warnings()
    add_commands(app)
    try:
        code = app(standalone_mode=False)
    except BadRowsError as error:
        _fail(error.lines[0], 2, *error.lines[1:])
    except InputError as error:
        _fail(str(error), 2)
    except (TrainingError, WorkerError) as error:
        _fail(str(error), 1)
    except UsageError as error:
        _fail(error.format_message(), 2)
    except BrokenPipeError:
        # The reader has closed the pipe; the interpreter must not flush into it.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    if code == INTERRUPTED:
        _fail("interrupted; the same command continues where it stopped.", INTERRUPTED)
    else:
        sys.exit(code if isinstance(code, int) else 0)


def _show_warnings() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("qbrm: %(message)s"))
    handler.setLevel(logging.WARNING)
    logging.getLogger("qbrm").addHandler(handler)


def _fail(message: str, code: int, *more: str) -> None:
    for line in (f"qbrm: {message}", *more):
        print(" ".join(line.split()), file=sys.stderr)
    sys.exit(code)
