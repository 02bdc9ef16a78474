"""Refined reward models on disk: JSON and safetensors, by the conventions of the Hugging Face Hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

import qbrm
from qbrm.durable import make_folder, write_atomically
from qbrm.energies import ENERGY_SCORES, EnergyScore
from qbrm.errors import InputError
from qbrm.refinement import REFINEMENTS
from qbrm.reward_models import Identity, load_reward_model
from qbrm.reward_models.encoder_reward_model import EncoderRewardModel
from qbrm.reward_models.trunk import Trunk

CONFIG, WEIGHTS = "config.json", "model.safetensors"
SCHEMA = 1


def save_model(folder: Path, reward_model: EncoderRewardModel, score: EnergyScore, refinement: str) -> None:
    """Write a refined reward model; the configuration, which makes the folder a model, comes last.

    Raises:
        InputError: if the folder cannot be written.
    """
    names = {build: name for name, build in ENERGY_SCORES.items()}
    config = {
        "schema": SCHEMA,
        "qbrm": qbrm.__version__,
        "encoder": reward_model.encoder.identity.to_dict(),
        "trunk": reward_model.trunk.settings(),
        "score": {"name": names[type(score)], **score.settings()},
        "refinement": refinement,
    }
    tensors = {f"trunk.{name}": value for name, value in reward_model.trunk.state_dict().items()}
    tensors |= {f"score.{name}": value for name, value in score.state_dict().items()}
    make_folder(folder)
    write_atomically(folder / WEIGHTS, save({name: value.contiguous() for name, value in tensors.items()}))
    write_atomically(folder / CONFIG, (json.dumps(config, indent=2) + "\n").encode())


def load_model(folder: Path) -> tuple[EncoderRewardModel, EnergyScore, str]:
    """Read what :func:`save_model` wrote.

    Raises:
        InputError: if a file is missing or damaged, the encoder is not the one trained with, or tensors do not fit.
    """
    config = _read_config(folder / CONFIG)
    try:
        trunk, score = _build(config)
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"{folder / CONFIG} describes no model that can be built ({error}).") from error
    encoder = load_reward_model(config["encoder"]["name"])
    if encoder.identity.to_dict() != config["encoder"]:
        trained = f"{config['encoder']['name']}@{config['encoder']['revision'][:7]}"
        raise InputError(f"{folder} was trained on {trained} with its template; {encoder.identity} is installed.")
    tensors = _read_tensors(folder / WEIGHTS)
    _fill(trunk, "trunk.", tensors, folder)
    _fill(score, "score.", tensors, folder)
    return EncoderRewardModel(encoder, trunk), score, config["refinement"]


def _build(config: dict[str, Any]) -> tuple[Trunk, EnergyScore]:
    """Modules as configured, untrained; any error is the configuration's."""
    settings = dict(config["score"])
    name = settings.pop("name")
    if name not in ENERGY_SCORES:
        raise ValueError(f"unknown score {name!r}, known are {', '.join(ENERGY_SCORES)}")
    if config["refinement"] not in REFINEMENTS:
        raise ValueError(f"unknown refinement {config['refinement']!r}, known are {', '.join(REFINEMENTS)}")
    Identity(**config["encoder"])
    return Trunk(**config["trunk"]), ENERGY_SCORES[name](**settings)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is missing or not JSON; expected a folder that save_pretrained wrote.") from error
    if not isinstance(config, dict) or config.get("schema") != SCHEMA:
        raise InputError(f"{path} is not of schema {SCHEMA}; expected a folder that this version of qbrm wrote.")
    return config


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors = load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} is missing or not a safetensors file ({error}).") from error
    for name, value in tensors.items():
        if not name.startswith(("trunk.", "score.")):
            raise InputError(f"{path} holds a tensor {name!r}; expected names that begin with trunk. or score.")
        if not torch.isfinite(value).all():
            raise InputError(f"{path}: tensor {name!r} holds NaN or infinite values.")
    return tensors


def _fill(module: nn.Module, prefix: str, tensors: dict[str, Tensor], folder: Path) -> None:
    given = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    try:
        module.load_state_dict(given)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder / WEIGHTS} does not fit its configuration: {reason}") from error
