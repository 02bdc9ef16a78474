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
from qbrm.preferences.base import Completion, Prompt
from qbrm.reward_models.base import Embedded, Identity, Refusal
from qbrm.reward_models.batches import TokenBudget
from qbrm.reward_models.heads import Head, find_head, returned
from qbrm.reward_models.marks import marks_of
from qbrm.reward_models.padding import Padding, answer_weights
from qbrm.reward_models.positions import checked_length
from qbrm.reward_models.reading import LAST, MEAN, LayerMeans, Reading, averages
from qbrm.reward_models.shared_prefix import SharedPrefixes, States, behind_prefixes, can_share
from qbrm.reward_models.template import TEMPLATES, ChatTemplate, PlainTemplate, Tokens
from qbrm.reward_models.text import SYSTEM
from qbrm.reward_models.text import fold_system as fold_into_user

TOKEN_BUDGET, CPU_TOKEN_BUDGET = 16_384, 2048  # a core is busy with few tokens, and pads fewer in small batches
DECODERS_LAYER = "score"  # what decoders of transformers call their score layer, and encoders do not
ANY_ANSWER = "Yes."  # that a template takes one plain answer to a prompt or another does not depend on its words


class SequenceClassifier:
    """A sequence classifier of transformers as a reward model.

    One forward pass gives both: the embedding is the input of the score layer at the position that the model pools, and
    behind that what else `embedding` asks for; the reward is what the model itself returns. That they belong together
    is checked in every pass, by finding the returned logit at that position of the layer's output, bit for bit. Threads
    that share a model take turns.

    Args:
        model: in evaluation mode, on its device.
        tokenizer: the model's.
        name: what a user calls it.
        revision: commit or digest of the weights.
        head: one of `qbrm.reward_models.heads.HEADS`; None to find out.
        template: ``chat`` for the tokenizer's chat template, ``plain`` for prompt and response as they are.
        max_length: tokens of prompt and response together; None for 4,096, or fewer if the model takes fewer.
        padding_side: ``right`` or ``left``; None for the tokenizer's.
        token_budget: padded tokens per forward pass, halved for good whenever memory runs out; None for 16,384, or
            2,048 on a CPU.
        output: index of the output that is the reward, of a model that has several.
        embedding: what it reads of the model, see `qbrm.reward_models.reading.Reading`; None for ``mean`` where that
            is known to help and can be exported, else ``last``.
        fold_system: whether system messages go to the beginning of the user turn that follows.
        base: commit or digest of the model that an adapter was merged into; empty without an adapter.

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
        token_budget: int | None = None,
        output: int | None = None,
        embedding: str | None = None,
        fold_system: bool = False,
        base: str = "",
    ) -> None:
        if template not in TEMPLATES:
            raise InputError(f"unknown template {template!r}; expected one of: {', '.join(TEMPLATES)}.")
        if token_budget is None:
            token_budget = CPU_TOKEN_BUDGET if model.device.type == "cpu" else TOKEN_BUDGET
        if token_budget < 1:
            raise InputError(f"token budget {token_budget}; expected at least 1.")
        self._model, self._template_name, self._fold = model, template, fold_system
        self._head, self._layer = find_head(model, head, name, output)
        self._template = TEMPLATES[template](tokenizer, name)
        self._reading = Reading.named(self._best_embedding() if embedding is None else embedding)
        self._means = LayerMeans(self._reading, model, name)
        if self._reading.name != LAST and not tokenizer.is_fast:
            raise InputError(
                f"embedding '{embedding}' of {name}: its tokenizer is written in Python and does not say which tokens "
                "are the response's; expected a fast tokenizer, or the embedding 'last'."
            )
        self._ending: int | None = getattr(model.config, "reward_token_id", None)
        self._tokenizer = tokenizer
        self._padding = Padding(model, tokenizer, padding_side)
        self._budget = TokenBudget(token_budget)
        self._shares_prefixes = can_share(model)
        self._turn = Lock()
        length = checked_length(max_length, model, tokenizer, name)
        dtype = str(model.dtype).removeprefix("torch.")
        modules = (type(part).__module__ for part in (model, model.config, tokenizer))
        own_code = any(module.startswith(f"{TRANSFORMERS_DYNAMIC_MODULE_NAME}.") for module in modules)
        described = self._describe()
        self.identity = Identity(
            name, revision, described, length, dtype, own_code, base, self._head.output, str(self._reading)
        )

    @property
    def dim(self) -> int:
        """Embedding size: inputs of the score layer, and what else is read."""
        return int(self._layer.in_features) + self._means.dim

    @property
    def head_dim(self) -> int | None:
        """How many coordinates of the embedding, the first ones, the score layer reads; None for all."""
        return int(self._layer.in_features) if self._means.dim else None

    def settings(self) -> dict[str, Any]:
        """What to give `load_reward_model` besides name and revision to get the same embeddings."""
        chosen = {"output": self._head.output} if self._head.output is not None else {}
        folded = {"fold_system": True} if self._fold else {}
        return {
            "head": self._head.name,
            "embedding": str(self._reading),
            "template": self._template_name,
            "max_length": self.identity.max_length,
            "padding_side": self._padding.side,
            "dtype": self.identity.dtype,
            **chosen,
            **folded,
        }

    def parts(self) -> ClassifierParts:
        """What this model is made of, not copied: what an export takes over."""
        return ClassifierParts(
            self._model,
            self._layer,
            self._head,
            self._template,
            self._padding,
            self._fold,
            self._ending,
            tuple(self._means.modules),
        )

    def refusals(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> list[Refusal]:
        """What the template refuses, and what has a token that the model does not know; nothing goes through the model.

        A template is asked once for each prompt, and for each response that is more than one plain message; texts are
        made into tokens only where the tokenizer has more of them than the model.
        """
        larger = max(self._tokenizer.get_vocab().values(), default=0) >= self._padding.tokens
        asked: dict[tuple[Prompt, str], str | None] = {}
        refusals = []
        for index, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
            conversation = prompt, response if isinstance(response, Completion) else ANY_ANSWER
            if conversation not in asked:
                asked[conversation] = self._template.refusal(self._folded(prompt), conversation[1])
            if (why := asked[conversation]) is not None:
                foldable = not self._fold and any(message.role in SYSTEM for message in prompt)
                refusals.append(Refusal(index, why, foldable))
            elif larger and (unknown := self._unknown(self._written(prompt, response))):
                refusals.append(Refusal(index, unknown))
        return refusals

    def embed(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Embedded:
        """Embed response i as an answer to prompt i, for all i.

        Raises:
            InputError: if the chat template refuses a prompt, a text has a token that the model does not know, or a
                single text does not fit into memory.
        """
        return self.embed_and_count(prompts, responses)[0]

    def embed_and_count(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> tuple[Embedded, int]:
        """What :meth:`embed` gives, and how many of the texts have more tokens than the maximum length."""
        whole = [self._tokens(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]
        texts = [tokens.truncated(self.identity.max_length) for tokens in whole]
        embedding = np.empty((len(texts), self.dim), dtype=np.float32)
        reward = np.empty(len(texts), dtype=np.float32)
        for batch, features in self._passes(texts, prompts):
            embedding[batch], reward[batch] = features
        return Embedded(embedding, reward), sum(cut is not tokens for cut, tokens in zip(texts, whole, strict=True))

    def _tokens(self, prompt: Prompt, response: str) -> Tokens:
        """What the model would take if it took any length."""
        tokens = self._written(prompt, response)
        unknown = self._unknown(tokens)
        if unknown is not None:
            raise InputError(f"{unknown}; expected a text without it.")
        return tokens

    def _unknown(self, tokens: Tokens) -> str | None:
        """Say which token the model has no embedding for; None if it has one for each."""
        known = self._padding.tokens
        token = next((token for token in tokens.ids if token >= known), None)
        if token is None:
            return None
        text = self._tokenizer.convert_ids_to_tokens(token)
        return f"{self.identity.name} has embeddings of {known:,} tokens, and {text!r} in the text is token {token}"

    def _written(self, prompt: Prompt, response: str) -> Tokens:
        tokens = self._template.tokens(self._folded(prompt), response)
        if self._ending is None or tokens.ids[-1:] == [self._ending]:
            return tokens
        return tokens._replace(ids=[*tokens.ids, self._ending], types=[*tokens.types, *tokens.types[-1:]])

    def _folded(self, prompt: Prompt) -> Prompt:
        return fold_into_user(prompt) if self._fold else prompt

    def __getstate__(self) -> dict[str, Any]:
        """All but the lock, so that other processes can be sent a copy."""
        return {name: value for name, value in vars(self).items() if name != "_turn"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _turn=Lock())

    def _passes(self, texts: list[Tokens], prompts: Sequence[Prompt]) -> Iterator[tuple[list[int], Embedded]]:
        """Numbers of texts, and what the model gives for them, until all had their turn."""
        if self._shares_prefixes:
            return SharedPrefixes(self._model, self._padding.token, self._budget, self._turn).run(
                texts, prompts, self._pass
            )
        lengths = [len(text.ids) for text in texts]
        return self._budget.run(lengths, lambda batch: self._forward([texts[index] for index in batch]))

    def _forward(self, texts: Sequence[Tokens]) -> Embedded:
        if not self._model.config.is_encoder_decoder:
            return self._pass(texts)
        # Encoder-decoders pool the last end token, and batches only texts with equally many of them.
        parts = [self._pass([text]) for text in texts]
        return Embedded(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    @torch.inference_mode()
    def _pass(self, texts: Sequence[Tokens], prefixes: Sequence[States | None] | None = None) -> Embedded:
        """What one forward pass gives for texts: whole ones, or what is behind prefixes whose states are known."""
        side = self._padding.side if prefixes is None else "right"
        with self._turn:
            batch = {name: rows.to(self._model.device) for name, rows in self._padding.pad(texts, side).items()}
            arguments = batch if prefixes is None else behind_prefixes(batch, prefixes)
            with _watched(self._layer) as passes, self._means.watched(answer_weights(texts, side)) as means:
                output = self._model(**arguments)
            scored = self._pooled(passes, output, batch).float()
            embedding = torch.cat([scored, *(mean.to(scored.device) for mean in means)], dim=1)
        reward = self._head.reward(output)
        if reward.shape != (len(texts),):
            raise self._not_one_per_text(reward, len(texts))
        return Embedded(embedding.cpu().numpy(), reward.float().cpu().numpy())

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
        logits = returned(output)
        for position in (position.to(rows.device) for position in self._padding.pooled(batch)):
            scored = seen.scored[rows, position]
            if logits.numel() != scored.numel():
                raise self._not_one_per_text(logits, len(rows))
            found = logits.reshape(scored.shape).to(scored.device)
            if torch.allclose(scored.float(), found.float(), rtol=0, atol=0, equal_nan=True):
                return seen.embedding[rows, position]
        raise InputError(
            f"{self.identity} pools another position than the last token of each text; expected a model that "
            "pools the last token, or that pools before its score layer."
        )

    def _not_one_per_text(self, scores: Tensor, texts: int) -> InputError:
        return InputError(
            f"{self.identity} gave scores of shape {tuple(scores.shape)} for {texts} texts; expected one for each. A "
            "process reward model, which scores tokens or steps, is none."
        )

    def _best_embedding(self) -> str:
        """What to read unless told otherwise: with a mean, of decoders of transformers that were found to gain from it.

        Not if their embeddings could not be exported: for want of marks around a response, or with a gated head.
        """
        decoder = getattr(self._model, DECODERS_LAYER, None) is self._layer
        known = decoder and type(self._model).__module__.startswith("transformers.")
        told = known and self._head.name != "gated" and isinstance(self._template, ChatTemplate)
        return MEAN if told and averages(self._model) and marks_of(self._template) is not None else LAST

    def _describe(self) -> str:
        """The parts of the identity that have no field of their own."""
        parts = [self._template.description]
        parts += [f"{self._head.name} head"] if self._head.name != "linear" else []
        parts += ["padded on the left"] if self._padding.side == "left" else []
        parts += ["system text in the next user turn"] if self._fold else []
        parts += [f"ends with token {self._ending}"] if self._ending is not None else []
        return "; ".join(parts)


class ClassifierParts(NamedTuple):
    """What a sequence classifier is made of.

    Attributes:
        model: the network.
        layer: its score layer.
        head: how the reward comes out of that.
        template: how prompt and response are written.
        padding: how batches are padded.
        fold_system: whether system messages go to the beginning of the user turn that follows.
        ending: token that ends every text, if the model asks for one.
        averaged: the modules whose output an embedding averages over the response, in order.
    """

    model: Any
    layer: nn.Linear
    head: Head
    template: ChatTemplate | PlainTemplate
    padding: Padding
    fold_system: bool
    ending: int | None
    averaged: tuple[nn.Module, ...]


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
