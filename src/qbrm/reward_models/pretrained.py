"""Loading a sequence classifier from a folder or the Hugging Face Hub: safetensors only, every tensor in its place."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import is_accelerate_available

from qbrm.data.device import default_device
from qbrm.errors import InputError, reason
from qbrm.reward_models.adapter import Adapter, find_adapter, merge
from qbrm.reward_models.checkpoint import Checkpoint, Place, few, locate, read_checkpoint
from qbrm.reward_models.heads import LAYER_NAMES
from qbrm.reward_models.kinds import WRITERS, has_score_layer, require_score_layer
from qbrm.reward_models.quiet import quiet_transformers
from qbrm.reward_models.sequence_classifier import SequenceClassifier

DTYPES = ("auto", "float32", "bfloat16", "float16")
# Left over in reward models that were trained on from a language model; no reward depends on them.
IGNORED_TENSORS = re.compile(r"(^|\.)lm_head\.|rotary_emb\.inv_freq$|position_ids$")
TRUST = "--trust-remote-code, if you trust the code that comes with it"
MODEL, SEQUENCE_CLASSIFIER = "AutoModel", "AutoModelForSequenceClassification"
TOKENIZER_FILES = ("tokenizer_config.json", "tokenizer.json", "tokenizer.model", "vocab.txt", "vocab.json")
# Score layers of other trainers that decoders of transformers call `score`; OpenRLHF's was `value_head` once.
RENAMED = ("value_head", "reward_head", "v_head", "regression_head")

OPENRLHF = "value_head_prefix"  # which trainer wrote a configuration

Shapes = Mapping[str, tuple[int, ...]]

logger = logging.getLogger(__name__)


def load_sequence_classifier(
    name: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device_map: str | None = None,
    trust_remote_code: bool = False,
    **settings: Any,
) -> SequenceClassifier:
    """Load a reward model from a folder or an id on the Hugging Face Hub; see `RewardModelOptions`.

    An adapter is merged into the base it was trained on.

    Raises:
        InputError: if there is no such model, it cannot be built, or tensors are missing, extra or misshapen.
    """
    if dtype not in DTYPES:
        raise InputError(f"unknown dtype {dtype!r}; expected one of: {', '.join(DTYPES)}.")
    if device_map is not None and not is_accelerate_available():
        raise InputError(f"device map {device_map!r} needs accelerate; expected: pip install 'qbrm[hf]'.")
    place = locate(name, revision)
    adapter = find_adapter(place)
    base = adapter.base if adapter else place
    checkpoint = read_checkpoint(base)
    layers = adapter.layers() if adapter else {}
    own_class = _own_class(checkpoint, trust_remote_code=trust_remote_code)
    if own_class is None and SEQUENCE_CLASSIFIER not in checkpoint.own_code:
        require_score_layer(checkpoint, [*checkpoint.shapes, *layers])
    options = {"trust_remote_code": trust_remote_code, "local_files_only": True}
    with quiet_transformers(), _one_line(checkpoint):
        tokenizer = AutoTokenizer.from_pretrained(_tokenizer_folder(place, base), **options)
        config = AutoConfig.from_pretrained(base.folder, **options)
        _mend(config, checkpoint, layers)
        _warn_of_padding(config, checkpoint)
        build = AutoModel if own_class == MODEL else AutoModelForSequenceClassification
        model, report = build.from_pretrained(
            base.folder,
            config=config,
            dtype=dtype,
            device_map=device_map,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            key_mapping=None if checkpoint.own_code else _renamed(checkpoint.shapes),
            output_loading_info=True,
            **options,
        )
        _require_all_tensors(checkpoint, report, layers, trusted=trust_remote_code)
        model = model if device_map is not None else model.to(default_device())
    model = _merged(model, adapter).eval().requires_grad_(False)
    for part in (model.config, model.config.get_text_config()):
        part.use_cache = False
    settings |= {"base": base.revision} if adapter else {}
    return SequenceClassifier(model, tokenizer, name=name, revision=place.revision, **settings)


def _own_class(checkpoint: Checkpoint, *, trust_remote_code: bool) -> str | None:
    """The class of transformers that a model's own class stands in for; None if its own code is not needed.

    Raises:
        InputError: if the model is nothing without code that may not run.
    """
    own = checkpoint.own_code
    if SEQUENCE_CLASSIFIER in own:
        return SEQUENCE_CLASSIFIER if trust_remote_code else None
    language_model = checkpoint.architecture.endswith(WRITERS) and not has_score_layer(checkpoint.shapes)
    if MODEL not in own or checkpoint.architecture.endswith("ForSequenceClassification") or language_model:
        return None
    if not trust_remote_code:
        raise InputError(f"{checkpoint.name} is built by code of its own ({own[MODEL]}); expected {TRUST}.")
    return MODEL


def _mend(config: Any, checkpoint: Checkpoint, layers: Shapes) -> None:
    """Put right what a configuration leaves out, or says of a table that the model does not have."""
    shapes = {**checkpoint.shapes, **layers}
    rows = _outputs(layers) or (None if _says_outputs(checkpoint.config) else _outputs(shapes))
    if rows is not None and rows != config.num_labels:
        config.num_labels = rows
    for part in (config, config.get_text_config()):
        pad, tokens = getattr(part, "pad_token_id", None), getattr(part, "vocab_size", None)
        if pad is not None and tokens is not None and pad >= tokens:
            part.pad_token_id = None  # transformers would not build the table; no text has such a token


def _says_outputs(config: Mapping[str, Any]) -> bool:
    """Whether a configuration says how many outputs there are; the names that transformers makes up say nothing."""
    names = config.get("id2label") or {}
    made_up = all(name == f"LABEL_{number}" for number, name in names.items())
    return bool({"num_labels", "_num_labels"} & config.keys()) or not made_up


def _warn_of_padding(config: Any, checkpoint: Checkpoint) -> None:
    text = config.get_text_config()
    pad, ends = getattr(text, "pad_token_id", None), getattr(text, "eos_token_id", None)
    if OPENRLHF in checkpoint.config and pad is not None and pad in (ends if isinstance(ends, list) else [ends]):
        logger.warning(
            "%s pads with its end token. OpenRLHF reads a reward at the last token of a text, transformers at the last "
            "that is no padding; without pad_token_id in config.json it is read as in training.",
            checkpoint.name,
        )


def _outputs(shapes: Shapes) -> int | None:
    """How many outputs the score layer in a checkpoint has: OpenRLHF's configurations do not say."""
    layers = [
        (name, shape)
        for name, shape in sorted(shapes.items())
        if name.endswith(".weight") and len(shape) == 2 and set(name.split(".")) & set(LAYER_NAMES)
    ]
    return layers[-1][1][0] if layers else None


def _renamed(shapes: Shapes) -> dict[str, str] | None:
    """Where a score layer under another trainer's name goes."""
    if any(name.startswith("score.") for name in shapes):
        return None
    return next(({rf"^{name}\.": "score."} for name in RENAMED if f"{name}.weight" in shapes), None)


def _tokenizer_folder(place: Place, base: Place) -> Path:
    """An adapter may come with a tokenizer; if not, its base's is meant."""
    return place.folder if any((place.folder / file).is_file() for file in TOKENIZER_FILES) else base.folder


def _merged(model: Any, adapter: Adapter | None) -> Any:
    if adapter is None:
        return model
    try:
        return merge(model, adapter)
    except InputError:
        raise
    except Exception as error:  # whatever peft raises for an adapter that does not fit
        raise InputError(
            f"the adapter {adapter.place.name} ({adapter.kind}) cannot be merged into {adapter.base.name} "
            f"({reason(error)}); expected the base that it was trained on."
        ) from error


def _require_all_tensors(checkpoint: Checkpoint, report: dict[str, Any], layers: Shapes, *, trusted: bool) -> None:
    """Refuse a model that is not made of the checkpoint's tensors, those aside that an adapter replaces."""
    problems = {
        "lacks": set(report["missing_keys"]) - layers.keys(),
        "has another shape for": {key for key, *_ in report["mismatched_keys"]} - layers.keys(),
        "has no place for": {key for key in report["unexpected_keys"] if not IGNORED_TENSORS.search(key)},
    }
    faults = [f"{problem} {few(sorted(keys))}" for problem, keys in problems.items() if keys]
    if not faults:
        return
    hint = f", or {TRUST}" if checkpoint.own_code and not trusted else ""
    raise InputError(
        f"the checkpoint of {checkpoint.name} {' and '.join(faults)}; expected a sequence classifier with a trained "
        f"score head{hint}.{_rows_hint(checkpoint, problems['has another shape for'])}"
    )


def _rows_hint(checkpoint: Checkpoint, misshapen: set[str]) -> str:
    """What to write into the configuration, where only the number of outputs is wrong."""
    (name, *others) = sorted(misshapen) or [""]
    rows = _outputs({key: shape for key, shape in checkpoint.shapes.items() if key == name})
    return f' "num_labels": {rows} in config.json says what {name} has.' if rows and not others else ""


@contextmanager
def _one_line(checkpoint: Checkpoint) -> Iterator[None]:
    """Whatever transformers or a model's own code raises while a model is built, as one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        quantised = (checkpoint.config.get("quantization_config") or {}).get("quant_method")
        if "trust_remote_code" in str(error):
            expected = TRUST
        elif quantised:
            expected = f"what {quantised} needs (its weights are quantised), or weights that are not quantised"
        else:
            expected = "a sequence classifier of transformers"
        raise InputError(f"{checkpoint.name} cannot be loaded ({reason(error)}); expected {expected}.") from error
