"""What every compared method offers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from qbrm.data.pairs import PairData, Pairs
from qbrm.energies import EnergyScore
from qbrm.fitting import Epoch, Fold, Training
from qbrm_lab.responses import Features
from qbrm_lab.results.facts import TrainingFact

BRADLEY_TERRY = "bradley-terry"

Rewards = Callable[[Features], Float[Tensor, " responses"]]
LogPreference = Callable[
    [Features, Float[Tensor, " responses"], Int[Tensor, " pairs"], Int[Tensor, " pairs"]], Float[Tensor, " pairs"]
]


@dataclass(frozen=True)
class Task:
    """What a method is fitted to.

    Attributes:
        pairs: training pairs.
        validation: pairs that choose and calibrate.
        features: what is known of every response.
        seed: seeds every random number generator.
        checkpoint: where training state is kept; None to keep none.
        measure: validation accuracies of a reward function, logged after every epoch.
        on_epoch: told about every epoch.
        member: rewards of reward model number 1, 2, ..., which differs from the compared one in its seed only; None if
            that one came trained.
        head_dim: how many coordinates of the embedding the reward model's score head reads, the first ones; None if
            all.
        prompt: number of the prompt that each response answers, if training and validation pairs may change places:
            both are over the same responses, and neither trained the reward model, whose rewards look too good on what
            it has seen. A :func:`~qbrm.fitting.committee.committee` then shares them out anew.
    """

    pairs: Pairs
    validation: PairData
    features: Features
    seed: int
    checkpoint: Path | None
    measure: Callable[[Rewards], Mapping[str, float]]
    on_epoch: Callable[[Epoch], None]
    member: Callable[[int], Rewards] | None = None
    head_dim: int | None = None
    prompt: Int[Tensor, " responses"] | None = None

    @property
    def fold(self) -> Fold:
        """The part of the task that fitting needs."""
        return Fold(self.pairs, self.validation, self.seed, self.checkpoint, self.prompt)

    def of(self, fold: Fold) -> Task:
        """The same task for a member of a committee or ensemble; only the first member's epochs are shown."""
        return replace(
            self,
            pairs=fold.pairs,
            validation=fold.validation,
            seed=fold.seed,
            checkpoint=fold.checkpoint,
            measure=self.measure if fold.validation is self.validation else lambda rewards: {},
            on_epoch=self.on_epoch if fold.seed == self.seed else lambda epoch: None,
        )


class Fitted(NamedTuple):
    """A method after training.

    Attributes:
        rewards: refined rewards of responses.
        log_preference: log P(chosen > rejected) of pairs of rows, given the features and refined rewards of all
            responses; None if the method claims no probability.
        training: what training did; None if there was nothing to train.
        score: the energy score, if that is what the method is.
        objective: what it was trained with.
        refinement: how the score refines, one of `REFINEMENTS`.
        facts: what the report says of the training.
        deviation: standard deviation of the reward of responses, as the method predicts it, in the units of the base
            reward or its own; None if it predicts none.
    """

    rewards: Rewards
    log_preference: LogPreference | None = None
    training: Training | None = None
    score: EnergyScore | None = None
    objective: str = BRADLEY_TERRY
    refinement: str = "mode"
    facts: tuple[TrainingFact, ...] = ()
    deviation: Rewards | None = None


class Method(Protocol):
    """A way to get rewards, under the name it has in the results."""

    @property
    def name(self) -> str:
        """What it is called in commands and results."""
        ...

    def fit(self, task: Task) -> Fitted:
        """Train on the task's pairs, if there is anything to train."""
        ...


def bradley_terry(features: Features, rewards: Tensor, chosen: Tensor, rejected: Tensor) -> Float[Tensor, " pairs"]:
    """Log sigma(r_chosen - r_rejected): the probability that point rewards claim (Bradley & Terry, 1952)."""
    return functional.logsigmoid(rewards[chosen] - rewards[rejected])


def base_reward(features: Features) -> Float[Tensor, " responses"]:
    """The rewards of the reward model as it is."""
    return features.reward
