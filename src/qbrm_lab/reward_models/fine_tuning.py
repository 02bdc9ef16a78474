"""Training the sentence encoder and its trunk together, from preferences all the way down to the word embeddings."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from qbrm.data.pairs import Batch, PairData
from qbrm.fitting import Training, TrainingSettings, train
from qbrm.fitting.trainer import Epoch
from qbrm.preferences.base import Prompt
from qbrm.reward_models.batches import length_sorted_batches
from qbrm.reward_models.sentence_encoder import SentenceEncoder, mean_directions
from qbrm.reward_models.text import render
from qbrm.reward_models.trunk import Trunk

TOKENS_AT_ONCE = 2048


@dataclass(frozen=True)
class FineTuningSettings(TrainingSettings):
    """As for any training; the learning rate is the trunk's and rises and falls linearly.

    Attributes:
        encoder_learning_rate: learning rate of the encoder.
        warm_up: share of the training during which the learning rates rise.
        max_length: tokens per text, in training and ever after.
    """

    checkpoint_seconds: ClassVar[float] = 240.0

    epochs: int = 1
    batch_pairs: int = 32
    learning_rate: float = 3e-4
    encoder_learning_rate: float = 5e-5
    warm_up: float = 0.1
    max_length: int = 128

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """The encoder's parameters, and the trunk's."""
        assert isinstance(model, EncoderAndTrunk)
        rates = {model.network: self.encoder_learning_rate, model.trunk: self.learning_rate}
        return [{"params": list(part.parameters()), "lr": rate} for part, rate in rates.items()]

    def rate(self, progress: float) -> float:
        """From 0 up to 1 and down to 0."""
        return min(progress / self.warm_up, (1 - progress) / (1 - self.warm_up))


class Texts(NamedTuple):
    """The responses of a table as the encoder reads them.

    Attributes:
        prompts: token ids of every distinct prompt.
        prompt: which of them each response answers.
        responses: token ids of every response.
        log_lengths: log1p of the whole prompt's and response's numbers of tokens.
    """

    prompts: list[list[int]]
    prompt: Int[Tensor, " responses"]
    responses: list[list[int]]
    log_lengths: Float[Tensor, "responses 2"]

    @classmethod
    def read(cls, encoder: SentenceEncoder, texts: Sequence[tuple[Prompt, str]]) -> Texts:
        """Tokenise (prompt, response)s as the encoder does where it embeds."""
        rendered = [render(prompt) for prompt, _ in texts]
        number = {text: index for index, text in enumerate(dict.fromkeys(rendered))}
        prompts = encoder.tokens(list(number), keep_end=True)
        responses = encoder.tokens([response for _, response in texts], keep_end=False)
        prompt = [number[text] for text in rendered]
        wholes = [(prompts[asked].whole, answer.whole) for asked, answer in zip(prompt, responses, strict=True)]
        return cls(
            [text.ids for text in prompts],
            torch.tensor(prompt),
            [text.ids for text in responses],
            torch.tensor([[math.log1p(whole) for whole in pair] for pair in wholes]),
        )


class EncoderAndTrunk(nn.Module):
    """Sentence encoder and trunk as one network; gives the reward of responses by their number in a table of texts.

    The same function as the frozen pair: :class:`SentenceEncoder` embeds and :class:`Trunk` rewards what it gave. In
    training, matrix products are in bfloat16 where the processor multiplies such matrices in hardware.

    Args:
        encoder: its transformer is trained in place, all of it; nothing is frozen.
        trunk: trained in place.
        texts: what the numbers stand for.
    """

    def __init__(self, encoder: SentenceEncoder, trunk: Trunk, texts: Texts) -> None:
        super().__init__()
        self.network: nn.Module = encoder.network.requires_grad_(True)
        self.trunk = trunk
        self._texts = texts

    def forward(self, number: Int[Tensor, "batch 1"], base_reward: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Rewards; a text that occurs more than once is encoded once. `base_reward` is not used."""
        rows, place = torch.unique(number[:, 0], return_inverse=True)
        reward: Tensor = self.trunk(self.vectors(rows), base_reward)
        return reward[place]

    def vectors(self, rows: Int[Tensor, " rows"]) -> Float[Tensor, "rows vector_dim"]:
        """What the encoder would give for these responses, differentiable."""
        texts = self._texts
        asked, place = torch.unique(texts.prompt[rows], return_inverse=True)
        prompts = self._directions([texts.prompts[index] for index in asked.tolist()])
        responses = self._directions([texts.responses[index] for index in rows.tolist()])
        return torch.cat([prompts[place], responses, texts.log_lengths[rows]], dim=1)

    def _directions(self, inputs: list[list[int]]) -> Float[Tensor, "texts width"]:
        batches = list(length_sorted_batches([len(ids) for ids in inputs], TOKENS_AT_ONCE))
        with torch.autocast("cpu", torch.bfloat16, enabled=self.training and _fast_bfloat16()):
            directions = torch.cat([mean_directions(self.network, [inputs[i] for i in batch]) for batch in batches])
        order = torch.tensor([index for batch in batches for index in batch])
        return directions.float()[torch.argsort(order)]


class PairsByPrompt:
    """Preference pairs of numbered responses, a prompt's together, so that each text is encoded once in a batch.

    Args:
        pairs: the pairs; their embeddings and rewards are not looked at.
        texts: what the numbers stand for.
    """

    dim = 1

    def __init__(self, pairs: PairData, texts: Texts) -> None:
        numbers = torch.arange(len(texts.prompt))[:, None]
        self._pairs = pairs._replace(embedding=numbers, reward=torch.zeros(len(numbers)))
        self._texts = texts
        _, self._prompt = torch.unique(texts.prompt[pairs.chosen], return_inverse=True)

    @property
    def n_pairs(self) -> int:
        """Number of pairs."""
        return self._pairs.n_pairs

    def responses(self) -> tuple[Int[Tensor, "responses 1"], Float[Tensor, " responses"]]:
        """Numbers of the responses in pairs."""
        return self._pairs.responses()

    def without_conflicts(self) -> PairsByPrompt:
        """All pairs: there are no base rewards that could contradict one."""
        return self

    def batches(self, size: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """All pairs once, whole prompts at a time until a batch has `size` pairs; shuffled if a generator is given."""
        counts = torch.bincount(self._prompt)
        prompts = torch.arange(len(counts)) if generator is None else torch.randperm(len(counts), generator=generator)
        in_order = torch.argsort(torch.argsort(prompts)[self._prompt], stable=True)
        start = 0
        for end in counts[prompts].cumsum(0).tolist():
            if end - start >= size or end == self.n_pairs:
                yield self._pairs.batch(in_order[start:end])
                start = end

    def digest(self) -> str:
        """Changes with any pair and any token of its texts."""
        rows = self._pairs.rows()
        asked = torch.unique(self._texts.prompt[rows])
        tokens = [self._texts.responses[row] for row in rows.tolist()]
        tokens += [self._texts.prompts[index] for index in asked.tolist()]
        return hashlib.sha256(f"{self._pairs.digest()} {tokens}".encode()).hexdigest()[:16]


class TogetherBradleyTerry:
    """The Bradley-Terry loss from one pass over both sides: a response in several pairs is encoded once."""

    def __call__(self, model: nn.Module, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Mean over pairs, in nats."""
        chosen, rejected = model(*batch.examples()).chunk(2)
        return functional.softplus(rejected - chosen).mean()


def fine_tune(
    encoder: SentenceEncoder,
    trunk: Trunk,
    texts: Sequence[tuple[Prompt, str]],
    pairs: PairData,
    validation: PairData,
    settings: FineTuningSettings,
    seed: int,
    *,
    checkpoint: Path | None = None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Training:
    """Train encoder and trunk in place with the Bradley-Terry loss; the epoch with the lowest validation loss is kept.

    Epoch 0, the encoder as it comes with the trunk as it was given, takes part in the choice.

    Args:
        encoder: reads texts of the length that the settings say; frozen again in the end.
        trunk: the one trained on the frozen encoder's vectors.
        texts: prompt and response of every row that pairs name.
        pairs: training pairs, by row; embeddings and rewards are not looked at.
        validation: held-out pairs.
        settings: optimiser and schedule.
        seed: seeds shuffling and dropout.
        checkpoint: as for :func:`qbrm.fitting.train`.
        on_epoch: as for :func:`qbrm.fitting.train`.
    """
    read = Texts.read(encoder, texts)
    training = train(
        EncoderAndTrunk(encoder, trunk, read),
        TogetherBradleyTerry(),
        PairsByPrompt(pairs, read),
        PairsByPrompt(validation, read),
        settings,
        seed,
        checkpoint=checkpoint,
        on_epoch=on_epoch,
    )
    encoder.network.requires_grad_(False)
    return training


def _fast_bfloat16() -> bool:
    return torch.cpu._is_amx_tile_supported()
