"""Refined reward models on disk: JSON and safetensors, by the conventions of the Hugging Face Hub."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import UInt64
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

import qbrm
from qbrm.durable import SUMS, make_folder, read_checked, write_atomically
from qbrm.energies import EnergyScore, describe, from_description
from qbrm.energies.candidates import CandidateMachine
from qbrm.errors import DamagedFileError, InputError
from qbrm.features.recorded import RecordedRewardModel
from qbrm.model.model_card import Provenance, model_card
from qbrm.model.training_prompts import FILE, read_training_prompts, write_training_prompts
from qbrm.refinement import REFINEMENTS
from qbrm.reward_models import REWARD_MODELS, Identity, RewardModel, RewardModelOptions, load_reward_model
from qbrm.reward_models.base import Configured
from qbrm.reward_models.encoder_reward_model import EncoderRewardModel
from qbrm.reward_models.hub import download
from qbrm.reward_models.trunk import Trunk

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
SCHEMA = 2
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
# The revision of a model from a folder; a commit on the Hub is shorter.
FOLDER_DIGEST = re.compile(r"[0-9a-f]{64}")
# Settings of the reward model that are saved. Its device, and whether its own code may run, is set when it is loaded.
SETTINGS = ("head", "output", "embedding", "template", "fold_system", "max_length", "padding_side", "dtype")


class Parts(NamedTuple):
    """The parts of a refined reward model: the arguments of :class:`~qbrm.EnergyRewardModel`."""

    reward_model: RewardModel
    score: EnergyScore
    refinement: str
    provenance: Provenance | None
    training_prompts: UInt64[np.ndarray, " prompts"] | None = None
    candidates: CandidateMachine | None = None


def save_model(folder: Path, parts: Parts, name: str | None = None) -> None:
    """Write a refined reward model without its reward model's own weights, and its model card.

    The configuration, which makes the folder a model, comes last. The card calls the model by `name`, its id on the
    Hub, if it goes there, else by its folder.

    Raises:
        InputError: if the folder cannot be written.
    """
    reward_model, score = parts.reward_model, parts.score
    trunk = reward_model.trunk if isinstance(reward_model, EncoderRewardModel) else None
    base = reward_model.encoder if isinstance(reward_model, EncoderRewardModel) else reward_model
    typed = base.identity
    if name is not None and Path(typed.name).is_absolute():  # the path is private and means nothing elsewhere
        typed = replace(typed, name=Path(typed.name).name)
    described = describe(score)
    config = {
        "schema": SCHEMA,
        "qbrm": qbrm.__version__,
        "reward_model": _located(typed).to_dict() if name is None else typed.to_dict(),
        "reward_model_settings": base.settings() if isinstance(base, Configured) else {},
        "trunk": trunk.settings() if trunk else None,
        "score": described,
        "refinement": parts.refinement,
        "provenance": asdict(parts.provenance) if parts.provenance else None,
    }
    tensors = {f"score.{key}": value for key, value in score.state_dict().items()}
    tensors |= {f"trunk.{key}": value for key, value in trunk.state_dict().items()} if trunk else {}
    if parts.candidates is not None:
        config["candidates"] = parts.candidates.settings()
        tensors |= {f"candidates.{key}": value for key, value in parts.candidates.state_dict().items()}
    card = model_card(name or str(folder), typed, described, parts.refinement, parts.provenance)
    make_folder(folder)
    if parts.training_prompts is not None and name is None:  # digests of private prompts are not for everyone
        write_training_prompts(folder, parts.training_prompts)
    write_atomically(folder / WEIGHTS, save({key: value.contiguous() for key, value in tensors.items()}))
    write_atomically(folder / CARD, card.encode())
    write_atomically(folder / CONFIG, (json.dumps(config, indent=2) + "\n").encode())


def load_model(
    name: str | Path, *, revision: str | None, reward_model: str | None, options: RewardModelOptions
) -> Parts:
    """Read what :func:`save_model` wrote, as :meth:`qbrm.EnergyRewardModel.from_pretrained` says.

    Raises:
        InputError: if a file is missing or damaged, tensors do not fit, or the reward model is another one.
    """
    stored = _read(name, revision)
    return stored.parts(_load_base(stored.folder, stored.built, reward_model, options))


def load_without_weights(name: str | Path) -> Parts:
    """Read what :func:`save_model` wrote, without its reward model's weights, which are not needed to save it again.

    Raises:
        InputError: if a file is missing or damaged, or tensors do not fit.
    """
    stored = _read(name, None)
    identity, score = stored.built.identity, stored.built.score
    return stored.parts(RecordedRewardModel(identity, score.dim, stored.built.settings))


class _Stored(NamedTuple):
    """A saved model, but for the weights of its reward model."""

    folder: Path
    built: _Built
    refinement: str

    def parts(self, base: RewardModel) -> Parts:
        """The model on a loaded reward model."""
        built = self.built
        reward_model = base if built.trunk is None else EncoderRewardModel(base, built.trunk)
        prompts = read_training_prompts(self.folder)
        return Parts(reward_model, built.score, self.refinement, built.provenance, prompts, built.candidates)


def _read(name: str | Path, revision: str | None) -> _Stored:
    folder = Path(name) if Path(name).is_dir() else download(str(name), revision, (CONFIG, WEIGHTS, CARD, FILE, SUMS))
    _refuse_pickles(folder)
    config = _read_config(folder / CONFIG)
    try:
        built = _build(config)
    except (TypeError, ValueError, LookupError, ArithmeticError, RuntimeError, AttributeError, MemoryError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{folder / CONFIG} describes no model that can be built ({reason}).") from error
    modules = {"score.": built.score, "trunk.": built.trunk, "candidates.": built.candidates}
    tensors = _read_tensors(folder / WEIGHTS, tuple(prefix for prefix, module in modules.items() if module is not None))
    _fill(built.score, "score.", tensors, folder)
    if built.candidates is not None:
        _fill(built.candidates, "candidates.", tensors, folder)
    if built.trunk is not None:
        _fill(built.trunk, "trunk.", tensors, folder)
    return _Stored(folder, built, config["refinement"])


def is_refined(name: str | Path, revision: str | None = None) -> bool:
    """Whether a folder, or an id on the Hub, is of a refined reward model, as :func:`save_model` writes them.

    Raises:
        InputError: if there is no folder of that name and the Hub has none either, or cannot be reached.
    """
    if str(name) in REWARD_MODELS:
        return False
    if not Path(name).is_dir() and "/" not in str(name):
        return False
    folder = Path(name) if Path(name).is_dir() else download(str(name), revision, (CONFIG,))
    try:
        config = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and {"qbrm", "score", "reward_model"} <= config.keys()


def _located(identity: Identity) -> Identity:
    """A reward model's folder by its absolute path, which does not depend on the working directory."""
    if identity.name in REWARD_MODELS or not Path(identity.name).is_dir():
        return identity
    return replace(identity, name=str(Path(identity.name).resolve()))


class _Built(NamedTuple):
    """A configuration as objects; modules are untrained."""

    identity: Identity
    settings: RewardModelOptions
    trunk: Trunk | None
    score: EnergyScore
    provenance: Provenance | None
    candidates: CandidateMachine | None


def _build(config: Mapping[str, Any]) -> _Built:
    """What a configuration describes; any error is the configuration's."""
    if config["refinement"] not in REFINEMENTS:
        raise ValueError(f"unknown refinement {config['refinement']!r}, known are {', '.join(REFINEMENTS)}")
    settings = config["reward_model_settings"]
    if not set(settings) <= set(SETTINGS):
        raise ValueError(f"settings {', '.join(settings)}, known are {', '.join(SETTINGS)}")
    return _Built(
        Identity.from_dict(config["reward_model"]),
        cast("RewardModelOptions", settings),
        Trunk(**config["trunk"]) if config["trunk"] is not None else None,
        from_description(config["score"]),
        Provenance.from_dict(config["provenance"]) if config["provenance"] is not None else None,
        CandidateMachine(**config["candidates"]) if config.get("candidates") is not None else None,
    )


def _load_base(folder: Path, built: _Built, reward_model: str | None, options: RewardModelOptions) -> RewardModel:
    trained = built.identity
    name = reward_model or trained.name
    if trained.own_code and not options.get("trust_remote_code"):
        own = f"{folder} was trained on {trained} with the model's own code"
        expected = "--trust-remote-code (trust_remote_code=True), if you trust that code"
        raise InputError(f"{own}; expected {expected}.")
    if name == trained.name and FOLDER_DIGEST.fullmatch(trained.revision) and not _is_here(name):
        absent = f"{folder} was trained on {trained}, which is not a folder here"
        raise InputError(f"{absent}; say where it is with --reward-model (reward_model=...).")
    asked: RewardModelOptions = {**built.settings, **options}
    if built.settings:  # which had no embedding while there was one default for all
        asked.setdefault("embedding", trained.embedding)
    if not _is_here(name):
        asked["revision"] = trained.revision
    base = load_reward_model(name, **asked)
    loaded = base.identity.to_dict() | {"name": trained.name}
    if options.get("dtype") is not None:  # another number format was asked for
        loaded["dtype"] = trained.dtype
    differ = [key for key, value in trained.to_dict().items() if loaded[key] != value]
    if differ:
        raise InputError(
            f"{folder} was trained on {trained}, the reward model loaded is {base.identity}: {', '.join(differ)} "
            f"{'differs' if len(differ) == 1 else 'differ'}; expected the reward model that it was trained on."
        )
    return base


def _is_here(name: str) -> bool:
    return name in REWARD_MODELS or Path(name).is_dir()


def _refuse_pickles(folder: Path) -> None:
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise InputError(f"{folder} holds {pickles[0]}, a pickle; expected {CONFIG} and {WEIGHTS} only.")


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads(read_checked(path))
    except DamagedFileError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is missing or not JSON; expected a folder that save_pretrained wrote.") from error
    if not isinstance(config, dict) or config.get("schema") != SCHEMA:
        raise InputError(f"{path} is not of schema {SCHEMA}; expected a folder that this version of qbrm wrote.")
    return config


def _read_tensors(path: Path, prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    try:
        tensors = load(read_checked(path))
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} is missing or not a safetensors file ({error}).") from error
    for name, value in tensors.items():
        if not name.startswith(prefixes):
            raise InputError(f"{path} holds a tensor {name!r}; expected names that begin with {' or '.join(prefixes)}")
        if not torch.isfinite(value).all():
            raise InputError(f"{path}: tensor {name!r} holds NaN or infinite values.")
    return tensors


def _fill(module: nn.Module, prefix: str, tensors: dict[str, Tensor], folder: Path) -> None:
    expected = module.state_dict()
    for name, value in tensors.items():
        own = expected.get(name.removeprefix(prefix), value)
        if own.is_floating_point() != value.is_floating_point():
            raise InputError(f"{folder / WEIGHTS}: tensor {name!r} is of {value.dtype}; expected {own.dtype}.")
    given = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    try:
        module.load_state_dict(given)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder / WEIGHTS} does not fit its configuration: {reason}") from error
