"""A refined reward model as a sequence classifier that transformers loads without QBRM."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import nn

from qbrm.durable import make_folder
from qbrm.energies import EnergyScore, Product
from qbrm.energies.boltzmann import LogConcaveScore
from qbrm.errors import InputError, reason
from qbrm.model.energy_reward_model import EnergyRewardModel
from qbrm.model.export.card import classifier_card
from qbrm.model.export.linear import Affine, refined, reward_of, score_layer
from qbrm.model.export.modeling_qbrm import (
    MACHINE,
    Energy,
    QBRMConfig,
    QBRMForSequenceClassification,
    energy_of,
)
from qbrm.model.export.modeling_qbrm import Product as ExportedProduct
from qbrm.model.export.response import found_by
from qbrm.model.export.tokenizer import Takes, exported_tokenizer, taken_by
from qbrm.refinement import refine
from qbrm.reward_models.quiet import quiet_transformers
from qbrm.reward_models.sequence_classifier import ClassifierParts, SequenceClassifier

LABELS: dict[str, Any] = {"id2label": {0: "reward"}, "label2id": {"reward": 0}, "problem_type": "regression"}
CARD = "README.md"
PROBES = 64  # embeddings on which the exported score is compared with the score
TOLERANCE = 1e-3


Exportable: TypeAlias = LogConcaveScore | Product


class ExportedClassifier(NamedTuple):
    """What was written.

    Attributes:
        remote_code: whether transformers has to run code that comes with it.
        takes: what its tokenizer takes: a conversation (by its chat template), a pair of prompt and response, or one
            text of both with a blank line between.
    """

    remote_code: bool
    takes: Takes


def export_classifier(model: EnergyRewardModel, folder: str | Path) -> ExportedClassifier:
    """Write a folder that ``AutoModelForSequenceClassification`` loads, whose one logit is the refined reward r*.

    A correction that is linear in the embedding is folded into the reward model's score layer. Any other comes as
    tensors, with code that transformers runs when told to with ``trust_remote_code=True``. The reward model's weights
    are written from where they are; no second copy is made in memory.

    Args:
        model: a sequence classifier of transformers, refined by one Boltzmann machine without couplings, or several.
        folder: new or empty; appears only when complete.

    Raises:
        InputError: if the model cannot be exported, or the folder not be written or not empty.
    """
    parts, score = _exportable(model)
    folder = Path(folder)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InputError(f"{folder} is not empty; expected a new or empty folder.")
    base = model.reward_model.identity
    tokenizer = exported_tokenizer(parts, base.max_length, str(base))
    function = _foldable(score, parts)
    found = found_by(parts, base.embedding) if function is None and parts.averaged else {}
    aside = folder.with_name(folder.name + ".partial")
    rmtree(aside, ignore_errors=True)  # of an export that was killed
    make_folder(aside)
    try:
        with quiet_transformers():
            if function is not None:
                _save_folded(parts, function, tokenizer.pad_token_id, aside)
            else:
                _save_with_code(parts, score, tokenizer.pad_token_id, found, aside)
            tokenizer.save_pretrained(aside)
        exported = ExportedClassifier(function is None, taken_by(tokenizer))
        (aside / CARD).write_text(classifier_card(base, score, **exported._asdict()))
        if folder.exists():
            folder.rmdir()
        aside.replace(folder)
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({reason(error)}); expected a writable folder.") from error
    finally:
        rmtree(aside, ignore_errors=True)
    return exported


def _exportable(model: EnergyRewardModel) -> tuple[ClassifierParts, Exportable]:
    """The reward model's parts and the score. Raises InputError if transformers could not compute r* from them."""
    reward_model, score = model.reward_model, model.energy_score
    name = f"the reward model {reward_model.identity}"
    if not isinstance(reward_model, SequenceClassifier):
        raise InputError(f"{name} is no sequence classifier of transformers; expected one, which can be exported.")
    parts = reward_model.parts()
    if reward_model.identity.own_code or not type(parts.model).__module__.startswith("transformers."):
        raise InputError(f"{name} comes with code of its own; expected an architecture of transformers.")
    if parts.ending is not None:
        raise InputError(f"{name} ends every text with token {parts.ending}; expected one whose template ends texts.")
    if parts.head.name == "gated":
        raise InputError(f"{name} has a gated head, whose reward is no function of the embedding; expected another.")
    for machine in score.settings()["machines"] if isinstance(score, Product) else [score]:
        if not isinstance(machine, LogConcaveScore):
            is_a = f"the score is of class {type(machine).__name__}"
            raise InputError(f"{is_a}; expected residual, rbm or sqrbm, which can be exported.")
    assert isinstance(score, (LogConcaveScore, Product))
    if model.refinement != "mode":
        raise InputError(f"the model refines by {model.refinement!r}; expected 'mode', which can be exported.")
    return parts, score


def _foldable(score: EnergyScore, parts: ClassifierParts) -> Affine | None:
    """The refined reward as a score layer of the model's architecture computes it, or None."""
    function, read = refined(score, reward_of(parts.head, parts.layer)), parts.layer.in_features
    if function is None or function.weight[read:].any():
        return None
    representable = function.constant == 0 or parts.layer.bias is not None
    return Affine(function.weight[:read], function.constant) if representable else None


def _save_folded(parts: ClassifierParts, function: Affine, pad_token: int, folder: Path) -> None:
    network = parts.model
    config = _padded_with(pad_token, copy.deepcopy(network.config))
    config.num_labels = 1
    for name, value in LABELS.items():
        setattr(config, name, value)
    with _replaced(network, parts.layer, score_layer(function, parts.layer)), _configured(network, config):
        network.save_pretrained(folder)


def _save_with_code(
    parts: ClassifierParts, score: Exportable, pad_token: int, found: Mapping[str, Any], folder: Path
) -> None:
    network = parts.model
    layer = score_layer(reward_of(parts.head, parts.layer), parts.layer)
    config = QBRMConfig(
        base_config=_padded_with(pad_token, copy.deepcopy(network.config)),
        score_layer=_name_of(parts.layer, network),
        score_bias=layer.bias is not None,
        score_dim=layer.in_features,
        averaged=[_name_of(module, network) for module in parts.averaged],
        dim=score.dim,
        dtype=network.dtype,
        pad_token_id=pad_token,
        **found,
        **_described(score),
        **LABELS,
    )
    with torch.device("meta"):
        exported = QBRMForSequenceClassification(config)
    exported.score, exported.energy = layer, _checked_energy(score, config)
    with _replaced(network, parts.layer, nn.Identity()):
        exported.base = network
        exported.save_pretrained(folder)


def _described(score: Exportable) -> dict[str, Any]:
    """A score as the exported configuration has it."""
    if isinstance(score, Product):
        machines = [_described(machine) for machine in score.settings()["machines"]]
        return {"machines": machines, "weights": score.settings()["weights"]}
    gate_rank = score.gate.rank if score.gate else None
    return {name: gate_rank if name == "gate_rank" else getattr(score, name) for name in MACHINE}


def _checked_energy(score: Exportable, config: QBRMConfig) -> Energy | ExportedProduct:
    """The score's tensors in the exported code. Raises InputError if that computes other rewards than the score does.

    That is what would happen to a score with a feature that the exported code does not know.
    """
    energy, generator = energy_of(config), torch.Generator().manual_seed(0)
    tensors = {name: value.cpu() for name, value in score.state_dict().items()}
    try:
        energy.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(f"the score has tensors that cannot be exported ({reason(error)}).") from error
    embedding, reward = (torch.randn(*shape, generator=generator) for shape in ((PROBES, score.dim), (PROBES,)))
    machine = score.settings()["machines"][0] if isinstance(score, Product) else score
    embedding = embedding * machine.embedding_scale.cpu() + machine.embedding_loc.cpu()
    reward = reward * tensors["reward_scale"] + tensors["reward_loc"]
    off = (energy(embedding, reward) - refine(score, embedding, reward).cpu()).abs().max()
    if not off <= TOLERANCE * tensors["reward_scale"]:
        raise InputError(
            f"the exported rewards would be off by up to {off:.2g}; expected a residual, rbm or sqrbm score."
        )
    return energy


def _padded_with(token: int, config: Any) -> Any:
    for part in (config, config.get_text_config()):
        part.pad_token_id = token
    return config


def _name_of(layer: nn.Module, network: nn.Module) -> str:
    names: dict[nn.Module, str] = {module: name for name, module in network.named_modules()}
    return names[layer]


@contextmanager
def _replaced(network: nn.Module, layer: nn.Module, replacement: nn.Module) -> Iterator[None]:
    name = _name_of(layer, network)
    network.set_submodule(name, replacement)
    try:
        yield
    finally:
        network.set_submodule(name, layer)


@contextmanager
def _configured(network: Any, config: Any) -> Iterator[None]:
    network.config, kept = config, network.config
    try:
        yield
    finally:
        network.config = kept
