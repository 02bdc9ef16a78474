"""The training data of a score: features, and which of them was chosen over which."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Batch(NamedTuple):
    """A minibatch of preference pairs: embeddings and base rewards of both sides.

    `row` says which rows of the table the chosen ones and then the rejected ones are; None if unknown.
    """

    chosen: Float[Tensor, "pairs dim"]
    chosen_reward: Float[Tensor, " pairs"]
    rejected: Float[Tensor, "pairs dim"]
    rejected_reward: Float[Tensor, " pairs"]
    row: Int[Tensor, " examples"] | None = None

    def examples(self) -> tuple[Float[Tensor, "examples dim"], Float[Tensor, " examples"]]:
        """Both responses of every pair as single examples: what objectives without pairs train on."""
        return torch.cat([self.chosen, self.rejected]), torch.cat([self.chosen_reward, self.rejected_reward])


class Pairs(Protocol):
    """Preference pairs that a model can be trained on, whether their features are in memory or on disk."""

    @property
    def n_pairs(self) -> int:
        """Number of pairs."""

    @property
    def dim(self) -> int:
        """Embedding size."""

    def responses(self) -> tuple[Float[Tensor, "responses dim"], Float[Tensor, " responses"]]:
        """Embeddings and base rewards of the responses in pairs, or of enough of them to fix units by."""

    def batches(self, size: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """All pairs once, `size` at a time; shuffled if a generator is given, whose state fixes the order."""

    def without_conflicts(self) -> Pairs:
        """The pairs whose base rewards support the label."""

    def digest(self) -> str:
        """Identify the training data by its content."""


class PairData(NamedTuple):
    """Preference pairs over a table of features in memory.

    Attributes:
        embedding: one row per distinct response.
        reward: base rewards r0.
        chosen: row of the chosen response of each pair.
        rejected: row of the rejected one.
    """

    embedding: Float[Tensor, "responses dim"]
    reward: Float[Tensor, " responses"]
    chosen: Int[Tensor, " pairs"]
    rejected: Int[Tensor, " pairs"]

    @property
    def n_pairs(self) -> int:
        """Number of pairs."""
        return len(self.chosen)

    @property
    def dim(self) -> int:
        """Embedding size."""
        return self.embedding.shape[1]

    def responses(self) -> tuple[Float[Tensor, "responses dim"], Float[Tensor, " responses"]]:
        """Embeddings and base rewards of the responses in pairs, each once."""
        rows = self.rows()
        if len(rows) == len(self.reward):
            return self.embedding, self.reward  # a copy would double what a window of streamed pairs takes
        return self.embedding[rows], self.reward[rows]

    def rows(self) -> Int[Tensor, " responses_in_pairs"]:
        """The responses that occur in a pair, each once."""
        rows: Tensor = torch.unique(torch.cat([self.chosen, self.rejected]))
        return rows

    def batch(self, pairs: Int[Tensor, " picked"] | slice) -> Batch:
        """Gather the features of the given pairs."""
        chosen, rejected = self.chosen[pairs], self.rejected[pairs]
        row = torch.cat([chosen, rejected])
        return Batch(self.embedding[chosen], self.reward[chosen], self.embedding[rejected], self.reward[rejected], row)

    def batches(self, size: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """All pairs once, `size` at a time; shuffled if a generator is given."""
        order = torch.arange(self.n_pairs, device=self.chosen.device)
        if generator is not None:
            order = torch.randperm(self.n_pairs, generator=generator, device=generator.device).to(order.device)
        for start in range(0, self.n_pairs, size):
            yield self.batch(order[start : start + size])

    def to(self, device: torch.device | str) -> PairData:
        """The same pairs with their features on a device."""
        return PairData(*(part.to(device) for part in self))

    def without_conflicts(self) -> PairData:
        """Conflict-aware filtering: drop the pairs whose base rewards contradict or do not support the label.

        Lochab & Zhang (2025), arXiv 2504.13134; ties are dropped, as in the published code.
        """
        return self.only(self.reward[self.chosen] > self.reward[self.rejected])

    def only(self, picked: Bool[Tensor, " pairs"]) -> PairData:
        """The pairs for which `picked` is true."""
        return self._replace(chosen=self.chosen[picked], rejected=self.rejected[picked])

    def sample(self, count: int) -> PairData:
        """No more than so many of the pairs, always the same random ones.

        Evenly spaced ones would not do: prompts with as many pairs each would give their first ones only.
        """
        if count >= self.n_pairs:
            return self
        order = torch.randperm(self.n_pairs, generator=torch.Generator().manual_seed(0), device="cpu")
        picked = order[:count].sort().values.to(self.chosen.device)
        return self._replace(chosen=self.chosen[picked], rejected=self.rejected[picked])

    def with_pairs_of(self, other: PairData) -> PairData:
        """These pairs and then those of another part of the same table."""
        chosen, rejected = torch.cat([self.chosen, other.chosen]), torch.cat([self.rejected, other.rejected])
        return self._replace(chosen=chosen, rejected=rejected)

    def with_flipped_labels(self, share: float, seed: int) -> PairData:
        """Label noise: swap chosen and rejected in a random share of the pairs; `seed` picks them."""
        generator = torch.Generator().manual_seed(seed)
        flipped = torch.rand(self.n_pairs, generator=generator, device="cpu").to(self.chosen.device) < share
        chosen = torch.where(flipped, self.rejected, self.chosen)
        return self._replace(chosen=chosen, rejected=torch.where(flipped, self.chosen, self.rejected))

    def digest(self) -> str:
        """Identify the training data: changes with any pair, any reward and any embedding."""
        rows = self.rows()
        digest = hashlib.sha256()
        for part in (self.chosen, self.rejected, self.reward[rows], self.embedding[rows]):
            digest.update(part.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]
