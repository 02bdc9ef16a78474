"""Preference sets as rows of one feature table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from qbrm.data.pairs import PairData
from qbrm.errors import InputError
from qbrm.features import Key
from qbrm.preferences import PreferenceSet, SetName, response_id, training_pairs
from qbrm_lab.evaluation.outcomes import Items


class Features(NamedTuple):
    """What methods know of each response.

    Attributes:
        embedding: embeddings e.
        reward: base rewards r0.
        length: characters of the response.
        vector: the encoder's vectors, which embedded reward models are trained on; None if the model came trained.
    """

    embedding: Float[Tensor, "responses dim"]
    reward: Float[Tensor, " responses"]
    length: Int[Tensor, " responses"]
    vector: Float[Tensor, "responses vector_dim"] | None = None

    def rows(self, rows: Int[Tensor, " picked"]) -> Features:
        """The given responses."""
        vector = None if self.vector is None else self.vector[rows]
        return Features(self.embedding[rows], self.reward[rows], self.length[rows], vector)


class Responses:
    """The distinct responses of several preference sets, numbered."""

    def __init__(self, sets: Sequence[PreferenceSet]) -> None:
        texts: dict[Key, int] = {}
        for preferences in sets:
            texts |= {key: len(response) for key, (_, response) in preferences.responses().items()}
        self.keys: tuple[Key, ...] = tuple(texts)
        self.length: Int[Tensor, " responses"] = torch.tensor(list(texts.values()))
        prompts = {prompt_id: number for number, prompt_id in enumerate(dict.fromkeys(key[0] for key in self.keys))}
        self.prompt: Int[Tensor, " responses"] = torch.tensor([prompts[key[0]] for key in self.keys])
        self._row = {key: row for row, key in enumerate(self.keys)}

    def pairs(self, preferences: PreferenceSet, embedding: Tensor, reward: Tensor) -> PairData:
        """The training pairs of a preference set, over the features of all responses.

        Raises:
            InputError: if there is none.
        """
        pairs = training_pairs(preferences)
        if not pairs:
            raise InputError(
                f"{preferences.name}: {len(preferences)} preferences on {len(preferences.prompt_ids)} prompts give no "
                "pair to train on; expected at least one chosen and one different rejected response."
            )
        chosen = [self._row[pair.prompt_id, pair.chosen_response_id] for pair in pairs]
        rejected = [self._row[pair.prompt_id, pair.rejected_response_id] for pair in pairs]
        return PairData(embedding, reward, torch.tensor(chosen), torch.tensor(rejected))

    def items(self, preferences: PreferenceSet, set_name: SetName) -> Items | None:
        """The items of one set for evaluation, or None if there are none."""
        chosen_ones = [preference for preference in preferences if preference.set == set_name]
        if not chosen_ones:
            return None
        prompts = {name: index for index, name in enumerate(dict.fromkeys(p.prompt_id for p in chosen_ones))}
        categories = tuple(sorted({p.category for p in chosen_ones}))
        rejected = [[self._row[p.prompt_id, response_id(text)] for text in p.rejected] for p in chosen_ones]
        chosen = np.array([self._row[p.prompt_id, response_id(p.chosen)] for p in chosen_ones])
        pair_item = np.repeat(np.arange(len(chosen_ones)), [len(rows) for rows in rejected])
        return Items(
            prompt=np.array([prompts[p.prompt_id] for p in chosen_ones]),
            category=np.searchsorted(categories, [p.category for p in chosen_ones]),
            chosen=chosen,
            pair_item=pair_item,
            pair_chosen=chosen[pair_item],
            pair_rejected=np.array([row for rows in rejected for row in rows]),
            prompts=len(prompts),
            categories=categories,
        )
