"""What both parts of the study work with in one seed: base rewards, training pairs and test pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from qbrm.data.pairs import PairData
from qbrm.evaluation import PromptBootstrap
from qbrm.evaluation.bootstrap import TestPairs
from qbrm.fitting.trunk import fit_trunk
from qbrm.preferences import PreferenceSet
from qbrm.reward_models.base import direction_dim, head_dim
from qbrm.reward_models.encoder_reward_model import EncoderRewardModel
from qbrm_lab.comparison.compare import Prepared
from qbrm_lab.methods.base import Fitted, Task
from qbrm_lab.responses import Features
from qbrm_lab.scenarios import Roles


@dataclass(frozen=True)
class Extent:
    """How much is computed.

    Attributes:
        train_prompts: most prompts to train on.
        test_prompts: most prompts to test on.
        noise_samples: of NCE+, here and there.
        deviations: of the base rewards in the units that EBRM sees.
    """

    train_prompts: int
    test_prompts: int
    noise_samples: int
    deviations: tuple[float, ...]


class Rewarded(NamedTuple):
    """The features of all responses under one reward model, and how much of an embedding its score head reads."""

    prepared: Prepared
    features: Features
    head_dim: int | None

    def pairs(self, part: PreferenceSet) -> PairData:
        """The training pairs of some preferences."""
        return self.prepared.responses.pairs(part, self.features.embedding, self.features.reward)

    def task(self, train: PreferenceSet, validation: PreferenceSet, seed: int) -> Task:
        """What methods are fitted to."""
        return Task(
            self.pairs(train),
            self.pairs(validation),
            self.features,
            seed,
            None,
            measure=lambda rewards: {},
            on_epoch=lambda epoch: None,
            head_dim=self.head_dim,
        )


def rewarded(prepared: Prepared, roles: Roles, seed: int) -> Rewarded:
    """Train the embedded reward model on the preferences that are for it; one that came trained is as it is."""
    length = prepared.responses.length
    if prepared.embedded.reward is not None:
        embedding, reward = (torch.from_numpy(np.ascontiguousarray(part)) for part in prepared.embedded)
        return Rewarded(prepared, Features(embedding, reward, length), head_dim(prepared.model))
    vectors = torch.from_numpy(prepared.embedded.embedding)
    nothing = torch.zeros(len(vectors))
    pairs, validation = (
        prepared.responses.pairs(part, vectors, nothing) for part in (roles.reward_model, roles.reward_model_validation)
    )
    trunk, _ = fit_trunk(pairs, validation, seed, direction_dim=direction_dim(prepared.model))
    model = EncoderRewardModel(prepared.model, trunk)
    embedded = model.embed_vectors(prepared.embedded.embedding)
    assert embedded.reward is not None
    embedding, reward = (torch.from_numpy(part) for part in embedded)
    return Rewarded(prepared, Features(embedding, reward, length, vectors), head_dim(model))


def bootstrap_of(prepared: Prepared, test: PreferenceSet) -> PromptBootstrap:
    """Intervals of shares of the test pairs, by prompt."""
    nothing = torch.zeros(len(prepared.responses.keys))
    chosen = prepared.responses.pairs(test, nothing[:, None], nothing).chosen
    prompt = np.unique(prepared.responses.prompt[chosen].numpy(), return_inverse=True)[1]
    return PromptBootstrap(TestPairs(prompt), prepared.settings.seed)


class Predicted(NamedTuple):
    """One or zero for every test pair, by whether the chosen response has the greater reward; and the log-loss."""

    right: list[int]
    nll: float | None


def predicted(fitted: Fitted, features: Features, test: PairData) -> Predicted:
    """What a fitted method says of the test pairs."""
    rows = test.rows()
    reward = torch.full((len(features.reward),), torch.nan)
    with torch.no_grad():
        reward[rows] = fitted.rewards(features.rows(rows)).float()
        claim = fitted.log_preference
        nll = None if claim is None else -float(claim(features, reward, test.chosen, test.rejected).double().mean())
    return Predicted(right(test, reward), nll)


def right(test: PairData, reward: Float[Tensor, " responses"]) -> list[int]:
    """One for every pair whose chosen response has the greater reward, else zero."""
    won: Int[Tensor, " pairs"] = (reward[test.chosen] > reward[test.rejected]).int()
    values: list[int] = won.tolist()
    return values


def share(bootstrap: PromptBootstrap, values: Int[np.ndarray, "seeds pairs"]) -> tuple[float, float, float]:
    """Mean over seeds and pairs, with its interval by prompt."""
    mean = values.mean(0)
    return float(mean.mean()), *bootstrap.intervals(mean)["all"]
