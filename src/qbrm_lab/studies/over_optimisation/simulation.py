"""A simulated judge: decides which response is better, and what every candidate is worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.data.pairs import PairData
from qbrm.errors import InputError
from qbrm.preferences import PreferenceSet
from qbrm.reward_models.trunk import Trunk
from qbrm_lab.methods.base import Fitted
from qbrm_lab.responses import Features, Responses
from qbrm_lab.studies.over_optimisation.candidates import fit_policy
from qbrm_lab.studies.over_optimisation.gold import SimulatedGold, labelled
from qbrm_lab.studies.over_optimisation.gold_curves import Pool, standardised


class Data(NamedTuple):
    """What all seeds share.

    Attributes:
        train: preferences to train on, of which only the pairs matter: gold labels them.
        test: held-out preferences.
        responses: the rows of `vector`.
        vector: the encoder's vectors.
    """

    train: PreferenceSet
    test: PreferenceSet
    responses: Responses
    vector: Float[Tensor, "responses vector_dim"]


class Simulation:
    """A simulated gold reward, on candidates fitted to the real responses of held-out prompts.

    Gold is in standard deviations from the pool's mean, so a random response has the expected value zero.

    Args:
        data: preferences and vectors.
        prompts: how many held-out prompts.
        pool: number of candidates per prompt.
        seed: seeds gold, prompts and candidates.

    Raises:
        InputError: if too few held-out prompts have two responses.
    """

    def __init__(self, data: Data, prompts: int, pool: int, seed: int) -> None:
        rows: dict[str, list[int]] = {}
        held_out = set(data.test.responses())
        for row, key in enumerate(data.responses.keys):
            if key in held_out:
                rows.setdefault(key[0], []).append(row)
        several = [data.vector[of_prompt] for of_prompt in rows.values() if len(of_prompt) > 1]
        if len(several) < prompts:
            raise InputError(
                f"{data.test.name}: {len(several)} held-out prompts have two or more responses; expected at least "
                f"{prompts} to draw candidates for."
            )
        self._policy, self._prompts, self._pool, self._seed = fit_policy(several), prompts, pool, seed
        self._gold = SimulatedGold(data.vector, seed)
        self._reward = self._gold(data.vector)

    def label(self, pairs: PairData) -> PairData:
        """The pairs, labelled by gold."""
        return labelled(pairs, self._reward)

    def pools(self, fitted: Mapping[str, Fitted], trunk: Trunk) -> list[Pool]:
        """One pool of candidates per prompt."""
        generator = torch.Generator().manual_seed(self._seed)
        prompts = torch.randperm(len(self._policy.centres), generator=generator)[: self._prompts].tolist()
        return [self._judged(fitted, trunk, self._policy.draw(prompt, self._pool, generator)) for prompt in prompts]

    def _judged(self, fitted: Mapping[str, Fitted], trunk: Trunk, vector: Float[Tensor, "pool vector_dim"]) -> Pool:
        features = features_of(trunk, vector)
        gold = standardised(self._gold(vector).numpy())
        return Pool(gold, {"gold": gold} | {name: proxy.rewards(features).numpy() for name, proxy in fitted.items()})


@torch.no_grad()
def features_of(trunk: Trunk, vector: Float[Tensor, "n vector_dim"]) -> Features:
    """What methods know of responses with the given vectors; no length, as candidates have no text."""
    embedding = trunk.embed(vector)
    return Features(embedding, trunk.reward(embedding), torch.zeros(len(vector), dtype=torch.long), vector)
