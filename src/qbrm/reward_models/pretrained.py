"""Loading a sequence classifier from a folder or the Hugging Face Hub: safetensors only, every tensor in its place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import is_accelerate_available

from qbrm.data.device import default_device
from qbrm.durable import sha256
from qbrm.errors import InputError, reason
from qbrm.reward_models.hub import download
from qbrm.reward_models.quiet import quiet_transformers
from qbrm.reward_models.sequence_classifier import SequenceClassifier

DTYPES = ("auto", "float32", "bfloat16", "float16")
MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.py")
# Left over in reward models that were trained on from a language model; no reward depends on them.
IGNORED_TENSORS = re.compile(r"(^|\.)lm_head\.|rotary_emb\.inv_freq$|position_ids$")
TRUST = "--trust-remote-code, if you trust the code that comes with it"


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

    Raises:
        InputError: if there is no such model, it cannot be built, or tensors are missing, extra or misshapen.
    """
    if dtype not in DTYPES:
        raise InputError(f"unknown dtype {dtype!r}; expected one of: {', '.join(DTYPES)}.")
    if device_map is not None and not is_accelerate_available():
        raise InputError(f"device map {device_map!r} needs accelerate; expected: pip install 'qbrm[hf]'.")
    folder, commit = _located(name, revision)
    with quiet_transformers(), _one_line(name):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)
        model, report = AutoModelForSequenceClassification.from_pretrained(
            folder,
            dtype=dtype,
            device_map=device_map,
            trust_remote_code=trust_remote_code,
            local_files_only=True,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            output_loading_info=True,
        )
    own_code = bool(getattr(model.config, "auto_map", None)) and not trust_remote_code
    _require_all_tensors(name, report, own_code=own_code)
    if device_map is None:
        model = model.to(default_device())
    for config in (model.config, model.config.get_text_config()):
        config.use_cache = False
    return SequenceClassifier(model.eval().requires_grad_(False), tokenizer, name=name, revision=commit, **settings)


def folder_digest(folder: Path) -> str:
    """SHA-256 over names and contents of weights, configuration, tokenizer and code, at 1 to 2 GB/s if cached."""
    return sha256(*sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern)}), named=True)


def _located(name: str, revision: str | None) -> tuple[Path, str]:
    """The model's folder, and its commit or digest."""
    folder = Path(name)
    if not folder.is_dir():
        snapshot = download(name, revision, MODEL_FILES)
        _require_files(name, snapshot)
        return snapshot, snapshot.name
    _require_files(name, folder)
    digest = folder_digest(folder)
    if revision not in (None, digest):
        raise InputError(f"{name} has the digest {digest}; expected the revision asked for, {revision}.")
    return folder, digest


def _require_files(name: str, folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise InputError(f"{name} has no config.json; expected a model that save_pretrained of transformers wrote.")
    if not any(folder.glob("*.safetensors")):
        raise InputError(f"{name} has no *.safetensors file; expected weights in it (pickled ones are not read).")


def _require_all_tensors(name: str, report: dict[str, Any], *, own_code: bool) -> None:
    problems = {
        "lacks": report["missing_keys"],
        "has another shape for": {key for key, *_ in report["mismatched_keys"]},
        "has no place for": {key for key in report["unexpected_keys"] if not IGNORED_TENSORS.search(key)},
    }
    faults = [f"{problem} {_few(sorted(keys))}" for problem, keys in problems.items() if keys]
    if faults:
        hint = f", or {TRUST}" if own_code else ""
        raise InputError(
            f"the checkpoint of {name} {' and '.join(faults)}; expected a sequence classifier with a trained score "
            f"head{hint}."
        )


def _few(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


@contextmanager
def _one_line(name: str) -> Iterator[None]:
    """Whatever transformers or a model's own code raises while a model is built, as one line."""
    try:
        yield
    except Exception as error:
        allowed = "trust_remote_code" not in str(error)
        expected = "a sequence classifier of transformers" if allowed else TRUST
        raise InputError(f"{name} cannot be loaded ({reason(error)}); expected {expected}.") from error
