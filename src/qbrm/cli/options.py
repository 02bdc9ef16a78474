"""Options that several commands have."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from qbrm.data.seeds import MOST_SEED
from qbrm.errors import InputError

REWARD_MODEL = "Reward models from a folder or the Hugging Face Hub"
SOURCE_HELP = (
    "a JSONL, JSON or Parquet file of chosen and rejected answers, a folder of such, an RMB folder, or a data set as "
    "OWNER/NAME:SPLIT"
)

# PyTorch and NumPy take 64 bits, and the seeds of epochs and members are made of this one.
MOST_HIDDEN, MOST_MEMBERS, MOST_EPOCHS = 65_536, 1000, 1_000_000

Seed = Annotated[int, typer.Option(help="First seed; the same seed gives the same results.", min=0, max=MOST_SEED)]
Seeds = Annotated[int, typer.Option(help="How many seeds to run and average over.", min=1, max=1000)]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out rows that are no preferences, and say how many of which kind.")
]
Epochs = Annotated[int, typer.Option(help="Passes over the training pairs.", min=1, max=MOST_EPOCHS)]
RewardModelName = Annotated[
    str,
    typer.Option(
        help="The embedded default, a folder of a sequence classifier, or its id on the Hugging Face Hub.",
        metavar="NAME_OR_PATH",
    ),
]
RewardModelPlace = Annotated[
    str | None,
    typer.Option(
        "--reward-model",
        help="Where the reward model is now: folder or id. Default: where it was when the score was trained.",
        metavar="NAME_OR_PATH",
        rich_help_panel=REWARD_MODEL,
    ),
]
RefinedRevision = Annotated[
    str | None,
    typer.Option("--revision", help="Of MODEL on the Hub: commit, tag or branch.", rich_help_panel=REWARD_MODEL),
]
Revision = Annotated[
    str | None,
    typer.Option(help="Commit, tag or branch on the Hub; for a folder, its digest.", rich_help_panel=REWARD_MODEL),
]
Head = Annotated[
    str | None,
    typer.Option(help="linear, gated or quantiles. Default: what the weights say.", rich_help_panel=REWARD_MODEL),
]
Output = Annotated[
    int | None,
    typer.Option(
        help="Which of several outputs is the reward, counted from 0.",
        metavar="INDEX",
        show_default="a model has one",
        rich_help_panel=REWARD_MODEL,
    ),
]
Embedding = Annotated[
    str | None,
    typer.Option(
        help="last: the score layer's input. mean: and the last layer's mean over the response. layers: and that of "
        "the layer at 2/3 of the depth; others as in layers:0.5,0.67. Default: mean for decoders whose chat template "
        "marks answers by special tokens, else last.",
        metavar="NAME",
        rich_help_panel=REWARD_MODEL,
    ),
]
FoldSystem = Annotated[
    bool,
    typer.Option(
        "--fold-system",
        help="Put system text at the beginning of the user turn, for templates without a system role.",
        rich_help_panel=REWARD_MODEL,
    ),
]
Template = Annotated[
    str | None,
    typer.Option(
        help="'chat': the tokenizer's chat template (default). 'plain': prompt and response as they are.",
        rich_help_panel=REWARD_MODEL,
    ),
]
MaxLength = Annotated[
    int | None,
    typer.Option(
        help="Tokens of prompt and response; longer texts lose the beginning of the prompt. Default: 4096, or what the "
        "model takes.",
        min=1,
        rich_help_panel=REWARD_MODEL,
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        help="auto, float32, bfloat16 or float16. Default: as stored, or as trained with.", rich_help_panel=REWARD_MODEL
    ),
]
DeviceMap = Annotated[
    str | None,
    typer.Option(help="As in transformers, such as auto. Default: first GPU, else CPU.", rich_help_panel=REWARD_MODEL),
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run Python code of the model.", rich_help_panel=REWARD_MODEL)
]

# Commands that load a reward model have these.
READING = (
    *("revision", "head", "output", "embedding", "template", "fold_system", "max_length"),
    *("dtype", "device_map", "trust_remote_code"),
)


def given(**options: Any) -> Any:
    """The options that were given, neither None nor False, for a function that takes them by name."""
    return {name: value for name, value in options.items() if value is not None and value is not False}


def reading(arguments: Mapping[str, Any]) -> Any:
    """How a reward model is to be read: the options of `READING` that a command was given, of its arguments by name."""
    return given(**{name: arguments[name] for name in READING})


def listed(option: str, names: str) -> tuple[str, ...]:
    """The names in a comma-separated list.

    Raises:
        InputError: if one is empty.
    """
    parts = tuple(name.strip() for name in names.split(","))
    if not all(parts):
        raise InputError(f"{option} {names!r}: a name is empty; expected names separated by commas.")
    return parts


def numbers(option: str, text: str) -> tuple[int, ...]:
    """The whole numbers in a comma-separated list.

    Raises:
        InputError: if one is none, or below one.
    """
    parts = listed(option, text)
    for part in parts:
        if not (part.isascii() and part.isdigit() and int(part)):
            raise InputError(f"{option} {text!r} has {part!r}; expected whole numbers of at least 1.")
    return tuple(map(int, parts))


def command_line() -> str:
    """The command as the user typed it."""
    return shlex.join(["qbrm", *sys.argv[1:]])
