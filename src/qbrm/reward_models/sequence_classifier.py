"""Any sequence classifier of transformers as a reward model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.utils import TRANSFORMERS_DYNAMIC_MODULE_NAME

from qbrm.errors import InputError
from qbrm.preferences.base import Prompt
from qbrm.reward_models.base import Embedded, Identity
from qbrm.reward_models.batches import TokenBudget
from qbrm.reward_models.heads import Head, find_head
from qbrm.reward_models.padding import Padding
from qbrm.reward_models.template import TEMPLATES, ChatTemplate, PlainTemplate, Tokens

TOKEN_BUDGET = 16_384
LONGEST_BY_DEFAULT = 4096


class SequenceClassifier:
    """A sequence classifier of transformers as a reward model.

    One forward pass gives both: the embedding is the input of the score layer at the position that the model pools, the
    reward is what the model itself returns. That they belong together is checked in every pass, by finding the returned
    logit at that position of the layer's output, bit for bit. Threads that share a model take turns.

    Args:
        model: in evaluation mode, on its device.
        tokenizer: the model's.
        name: what a user calls it.
        revision: commit or digest of the weights.
        head: one of `qbrm.reward_models.heads.HEADS`; None to find out.
        template: ``chat`` for the tokenizer's chat template, ``plain`` for prompt and response as they are.
        max_length: tokens of prompt and response together; None for 4,096, or fewer if the model takes fewer.
        padding_side: ``right`` or ``left``; None for the tokenizer's.
        token_budget: padded tokens per forward pass; halved for good whenever memory runs out.

    Raises:
        InputError: if the model has no score head, the tokenizer no chat template, or an option is not usable.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        revision: str,
        head: str | None = None,
        template: str = "chat",
        max_length: int | None = None,
        padding_side: str | None = None,
        token_budget: int = TOKEN_BUDGET,
    ) -> None:
        if template not in TEMPLATES:
            raise InputError(f"unknown template {template!r}; expected one of: {', '.join(TEMPLATES)}.")
        if token_budget < 1:
            raise InputError(f"token budget {token_budget}; expected at least 1.")
        self._model, self._template_name = model, template
        self._head, self._layer = find_head(model, head, name)
        self._template = TEMPLATES[template](tokenizer, name)
        self._padding = Padding(model, tokenizer, padding_side)
        self._budget = TokenBudget(token_budget)
        self._turn = Lock()
        length = _checked_length(max_length, model, tokenizer, name)
        dtype = str(model.dtype).removeprefix("torch.")
        modules = (type(part).__module__ for part in (model, model.config, tokenizer))
        own_code = any(module.startswith(f"{TRANSFORMERS_DYNAMIC_MODULE_NAME}.") for module in modules)
        self.identity = Identity(name, revision, self._describe(), length, dtype, own_code)

    @property
    def dim(self) -> int:
        """Embedding size: inputs of the score layer."""
        return int(self._layer.in_features)

    def settings(self) -> dict[str, Any]:
        """What to give `load_reward_model` besides name and revision to get the same embeddings."""
        return {
            "head": self._head.name,
            "template": self._template_name,
            "max_length": self.identity.max_length,
            "padding_side": self._padding.side,
            "dtype": self.identity.dtype,
        }

    def parts(self) -> ClassifierParts:
        """What this model is made of, not copied: what an export takes over."""
        return ClassifierParts(self._model, self._layer, self._head, self._template, self._padding.token)

    def embed(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Embedded:
        """Embed response i as an answer to prompt i, for all i.

        Raises:
            InputError: if the chat template refuses a prompt, or a single text does not fit into memory.
        """
        texts = [
            self._template.tokens(prompt, response).truncated(self.identity.max_length)
            for prompt, response in zip(prompts, responses, strict=True)
        ]
        embedding = np.empty((len(texts), self.dim), dtype=np.float32)
        reward = np.empty(len(texts), dtype=np.float32)
        for batch, features in self._budget.run(
            [len(text.ids) for text in texts], lambda batch: self._forward([texts[index] for index in batch])
        ):
            embedding[batch], reward[batch] = features
        return Embedded(embedding, reward)

    def __getstate__(self) -> dict[str, Any]:
        """All but the lock, so that other processes can be sent a copy."""
        return {name: value for name, value in vars(self).items() if name != "_turn"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _turn=Lock())

    @torch.inference_mode()
    def _forward(self, texts: Sequence[Tokens]) -> Embedded:
        with self._turn:
            batch = {name: rows.to(self._model.device) for name, rows in self._padding.pad(texts).items()}
            with _watched(self._layer) as passes:
                output = self._model(**batch)
            embedding = self._pooled(passes, output, batch)
        return Embedded(embedding.float().cpu().numpy(), self._head.reward(output).float().cpu().numpy())

    def _pooled(self, passes: list[Pass], output: Any, batch: dict[str, Tensor]) -> Float[Tensor, "batch dim"]:
        """The score layer's input that the output was made of. Raises InputError if it cannot be told which."""
        if len(passes) != 1:
            raise InputError(f"{self.identity} ran its score layer {len(passes)} times in a pass; expected once.")
        (seen,) = passes
        if seen.embedding.ndim == 2:
            # Encoders pool their first token, which padding on the left would push away.
            if self._padding.side == "left" and self._head.name != "gated" and not bool(batch["attention_mask"].all()):
                raise InputError(f"{self.identity} pools before its score layer; expected the padding side 'right'.")
            return seen.embedding
        rows = torch.arange(len(seen.embedding), device=seen.embedding.device)
        position = self._padding.pooled(batch["input_ids"]).to(rows.device)
        scored = seen.scored[rows, position]
        logits = output.logits.reshape(scored.shape).to(scored.device)
        if not torch.allclose(scored.float(), logits.float(), rtol=0, atol=0, equal_nan=True):
            raise InputError(
                f"{self.identity} pools another position than the last token of each text; expected a model that "
                "pools the last token, or that pools before its score layer."
            )
        return seen.embedding[rows, position]

    def _describe(self) -> str:
        """The parts of the identity that have no field of their own."""
        parts = [self._template.description]
        parts += [f"{self._head.name} head"] if self._head.name != "linear" else []
        parts += ["padded on the left"] if self._padding.side == "left" else []
        return "; ".join(parts)


class ClassifierParts(NamedTuple):
    """The network of transformers, its score layer, the head on that, the template, and the padding token it states."""

    model: Any
    layer: nn.Linear
    head: Head
    template: ChatTemplate | PlainTemplate
    padding_token: int | None


class Pass(NamedTuple):
    """The score layer's input, shape (batch, dim) or (batch, tokens, dim), and its output, of as many axes."""

    embedding: Tensor
    scored: Tensor


@contextmanager
def _watched(layer: nn.Linear) -> Iterator[list[Pass]]:
    passes: list[Pass] = []
    handle = layer.register_forward_hook(lambda module, inputs, out: passes.append(Pass(inputs[0], out)))
    try:
        yield passes
    finally:
        handle.remove()


def _checked_length(asked: int | None, model: Any, tokenizer: Any, name: str) -> int:
    """The maximum length, if the model takes as much. Raises InputError if it does not."""
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    most: int = min(tokenizer.model_max_length, positions or tokenizer.model_max_length)
    if asked is None:
        return min(LONGEST_BY_DEFAULT, most)
    if not 1 <= asked <= most:
        raise InputError(f"maximum length of {name} is {asked}; expected 1 to {most:,} tokens.")
    return asked
