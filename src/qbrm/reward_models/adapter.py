"""Reward models that were saved as an adapter (LoRA and its kin), merged into the base that they were trained on."""

from __future__ import annotations

import importlib
import json
import logging
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load_file

from qbrm.errors import InputError, reason
from qbrm.reward_models.checkpoint import CONFIG, Place, few, has_whole_model, locate, read_shapes
from qbrm.reward_models.heads import LAYER_NAMES
from qbrm.reward_models.hub import HUB_ID

ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
# A layer of the base that was trained as a whole lies in the adapter under its own name, without a factor's.
FACTOR = re.compile(r"\.(lora|hada|lokr|oft|boft|vera|ia3|fourierft|ln_tuning|hra|bone|shira|randlora)_")
LEFT_OVER = re.compile(r"(^|\.)lm_head\.")

logger = logging.getLogger(__name__)


class Adapter(NamedTuple):
    """An adapter and the model that it was trained on.

    Attributes:
        place: where the adapter is.
        base: where its base is.
        kind: what peft calls it, such as LORA.
        shapes: the shapes of its tensors, by name.
    """

    place: Place
    base: Place
    kind: str
    shapes: Mapping[str, tuple[int, ...]]

    def layers(self) -> dict[str, tuple[int, ...]]:
        """The tensors of layers that were trained as a whole, by their names in the base, with their shapes."""
        whole = {_present(name): shape for name, shape in self.shapes.items() if not FACTOR.search(name)}
        return {name.removeprefix(PREFIX): shape for name, shape in whole.items()}


def _present(name: str) -> str:
    """A tensor's name as peft has it now: earlier ones said how a layer was saved, too."""
    return re.sub(r"\.modules_to_save(\.default)?\.", ".", name)


def find_adapter(place: Place) -> Adapter | None:
    """The adapter in a folder with its base, which is fetched if need be; None if the folder holds no adapter.

    A base that is no absolute path is looked for from the working directory, as peft does, then from the adapter's
    folder, then on the Hub.

    Raises:
        InputError: if the adapter is damaged or pickled, or its base cannot be had.
    """
    name, folder, _ = place
    if not (folder / ADAPTER).is_file():
        return None
    if has_whole_model(folder):
        raise InputError(
            f"{name} has {ADAPTER} beside the weights of a whole model; expected one of them: remove {ADAPTER} if the "
            f"adapter is merged into the weights, else the weights and {CONFIG}."
        )
    config = _read_config(place)
    kind, base = str(config.get("peft_type") or "adapter"), config.get("base_model_name_or_path")
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise InputError(
            f"{name} is an adapter ({kind}) without {ADAPTER_WEIGHTS}; expected its weights in that file (pickled ones "
            "are not read)."
        )
    if not base:
        raise InputError(f'{name} is an adapter ({kind}) without "base_model_name_or_path" in {ADAPTER}; expected it.')
    shapes = read_shapes(name, [folder / ADAPTER_WEIGHTS])
    below = _locate_base(place, str(base), config.get("revision"))
    if (below.folder / ADAPTER).is_file():
        raise InputError(
            f"{name} is an adapter ({kind}) of {base}, which is an adapter too; expected a whole model: merge that one "
            "into its base, and save it."
        )
    return Adapter(place, below, kind, shapes)


def merge(model: Any, adapter: Adapter) -> Any:
    """Add an adapter to the weights of its base.

    Args:
        model: the base as a sequence classifier; changed.
        adapter: what :func:`find_adapter` found.

    Raises:
        InputError: if peft is not installed or cannot merge such an adapter, or tensors are missing, extra or
            misshapen.
    """
    peft = _import_peft(adapter)
    dtype, heads = model.dtype, {part for name in adapter.layers() for part in name.split(".")} & {*LAYER_NAMES}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what peft warns of is refused here
        config = peft.PeftConfig.from_pretrained(adapter.place.folder)
        if config.is_prompt_learning:
            raise InputError(
                f"{adapter.place.name} is an adapter of kind {adapter.kind}, which learned a prompt and has nothing to "
                "merge; expected LoRA or another that changes weights."
            )
        _require_whole_layers(model, adapter, config.modules_to_save or [])
        config.modules_to_save = sorted({*(config.modules_to_save or []), *heads}) or None
        config.task_type = None  # the classes for tasks want methods that a classifier has not
        _resize_vocabulary(model, adapter)
        merged = _filled(peft, peft.PeftModel(model, config), adapter).merge_and_unload(safe_merge=True)
    for head in heads:
        if hasattr(merged, head):  # peft keeps what it loads in float32
            getattr(merged, head).to(dtype)
    return merged


def _filled(peft: Any, adapted: Any, adapter: Adapter) -> Any:
    """The model with the adapter's tensors. Raises InputError if some are missing or extra."""
    stored = load_file(adapter.place.folder / ADAPTER_WEIGHTS)
    result = peft.set_peft_model_state_dict(adapted, {_present(name): value for name, value in stored.items()})
    wanted = set(peft.get_peft_model_state_dict(adapted, save_embedding_layers=False))
    zero_at_first = getattr(adapted.peft_config["default"], "init_lora_weights", None) is True
    untrained = _untrained(adapter, wanted) if zero_at_first else set()
    _require_all(adapter, wanted - untrained, list(result.unexpected_keys))
    return adapted


def _require_whole_layers(model: Any, adapter: Adapter, saved: Iterable[str]) -> None:
    """Refuse an adapter without a layer that its settings say it has."""
    there = {part for name, _ in model.named_modules() for part in name.split(".")}
    given = {part for name in adapter.layers() for part in name.split(".")}
    missing = sorted({*saved} & there - given)
    if missing:
        raise InputError(
            f"the adapter {adapter.place.name} lacks {few(missing)}, which was trained as a whole (modules_to_save in "
            f"{ADAPTER}); expected its weights in {ADAPTER_WEIGHTS}."
        )


def _untrained(adapter: Adapter, wanted: set[str]) -> set[str]:
    """Factors of the layers for which a LoRA adapter has none: they are zero, and the layers stay as in the base."""
    layers = {name: FACTOR.split(name)[0] for name in wanted if FACTOR.search(name)}
    trained = {FACTOR.split(name)[0] for name in adapter.shapes if FACTOR.search(name)}
    left = {name for name, layer in layers.items() if layer not in trained}
    if left:
        of = set(layers.values())
        logger.warning(
            "the adapter %s has factors for %d of the %d layers that it names; the others stay as in its base.",
            adapter.place.name,
            len(of & trained),
            len(of),
        )
    return left


def _require_all(adapter: Adapter, wanted: set[str], unexpected: list[str]) -> None:
    given = set(map(_present, adapter.shapes))
    problems = {
        "lacks": sorted(wanted - given),
        "has no place for": sorted(name for name in unexpected if not LEFT_OVER.search(name)),
    }
    faults = [f"{problem} {few(names)}" for problem, names in problems.items() if names]
    if faults:
        raise InputError(
            f"the adapter {adapter.place.name} {' and '.join(faults)} on its base {adapter.base.name}; expected the "
            "base that it was trained on."
        )


def _resize_vocabulary(model: Any, adapter: Adapter) -> None:
    """Give the base as many tokens as the adapter's own embedding table has: some were added before training."""
    table = model.get_input_embeddings()
    name = next(name for name, module in model.named_modules() if module is table)
    shape = adapter.layers().get(f"{name}.weight")
    if shape is not None and shape[0] != table.num_embeddings:
        model.resize_token_embeddings(shape[0], mean_resizing=False)


def _read_config(place: Place) -> dict[str, Any]:
    try:
        config = json.loads((place.folder / ADAPTER).read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("no JSON object")
    except (OSError, ValueError) as error:
        raise InputError(f"{place.name} has a damaged {ADAPTER} ({reason(error)}); expected JSON.") from error
    return config


def _locate_base(place: Place, base: str, revision: str | None) -> Place:
    here = next((path for path in (Path(base), place.folder / base) if path.is_dir()), None)
    if here is not None:
        return locate(str(here), None)._replace(name=base)
    if not HUB_ID.fullmatch(base):
        raise InputError(
            f"{place.name} is an adapter of {base}, which is no folder here; expected its place, or its id on the "
            f'Hugging Face Hub, as "base_model_name_or_path" in {ADAPTER}.'
        )
    return locate(base, revision)


def _import_peft(adapter: Adapter) -> Any:
    try:
        return importlib.import_module("peft")
    except ImportError as error:
        raise InputError(
            f"{adapter.place.name} is an adapter ({adapter.kind}) of {adapter.base.name}, and peft, which merges them, "
            "is not installed; pip install 'qbrm[hf]'."
        ) from error
