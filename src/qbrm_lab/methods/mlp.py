"""The competitor that a user would try first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from qbrm.data.units import location_and_scale
from qbrm.energies.familiarity import fit_familiarity
from qbrm.fitting import Training, TrainingSettings, train
from qbrm.fitting.committee import committee, hold_out_apart
from qbrm.fitting.fit import combined
from qbrm.fitting.objectives import BradleyTerry, Objective
from qbrm_lab.methods.base import Fitted, Rewards, Task
from qbrm_lab.methods.names import Defaults, MethodName
from qbrm_lab.methods.temperature_scaling import tempered, tempered_together
from qbrm_lab.responses import Features

HIDDEN = 128
MLP_TRAINING = TrainingSettings(epochs=5, batch_pairs=128, learning_rate=3e-4, weight_decay=1e-2)


class Network(nn.Module):
    """A network on the embedding, which it standardises per dimension."""

    loc: Tensor
    scale: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("loc", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))

    def standardised(self, embedding: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """The embedding in the units that :func:`train_network` fixed."""
        return (embedding - self.loc) / self.scale


Trained = TypeVar("Trained", bound=Network)


class RewardCorrection(Network):
    r"""A small network on the embedding, added to the base reward.

    .. math:: r = r_0 + w^\top \tanh(V \hat e + c)

    e^ is the embedding, standardised per dimension; w starts at zero, so training starts from the base reward.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.layers = nn.Sequential(nn.Linear(dim, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1, bias=False))
        nn.init.zeros_(self.layers[2].weight)  # type: ignore[arg-type]

    def forward(
        self, embedding: Float[Tensor, "batch dim"], base_reward: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        """Corrected rewards."""
        correction: Tensor = self.layers(self.standardised(embedding))
        return base_reward + correction[:, 0]


@dataclass(frozen=True)
class MLP:
    """MLPs on the embedding added to the base reward, trained with Bradley-Terry; their mean if there are several.

    Attributes:
        members: networks that differ in their seed (a deep ensemble; Lakshminarayanan et al., 2017).
        gated: whether the correction fades where embeddings are unfamiliar, as with the Boltzmann scores.
        folds: whether they are a :func:`~qbrm.fitting.committee.committee` too, as the Boltzmann scores are.
    """

    name: str
    settings: TrainingSettings
    members: int = 1
    gated: bool = False
    folds: bool = False

    def fit(self, task: Task) -> Fitted:
        """Train and keep the best epoch of each network; one temperature is set on what was held out of each."""
        fold = task.fold
        folds = committee(fold, self.members) if self.folds else [fold.of_member(i) for i in range(self.members)]
        tasks = [task.of(member) for member in folds]
        trained = [self._train(member) for member in tasks]
        corrections = [
            Correction(model, _gate(model, member) if self.gated else None)
            for (model, _), member in zip(trained, tasks, strict=True)
        ]
        # As with the machines, whose mean has the first one's gate.
        rewards = _rewards([correction._replace(gate=corrections[0].gate) for correction in corrections])
        of_members = [_rewards([correction]) for correction in corrections]
        preference = tempered_together(of_members, tasks) if hold_out_apart(folds) else tempered(rewards, task)
        disagreement = _disagreement(corrections) if self.members > 1 else None
        return Fitted(rewards, preference, combined([training for _, training in trained]), deviation=disagreement)

    def _train(self, task: Task) -> tuple[RewardCorrection, Training]:
        return train_network(
            RewardCorrection, BradleyTerry(), task, self.settings, lambda model: _rewards([Correction(model)])
        )


def mlp(name: MethodName, defaults: Defaults) -> MLP:
    """The method ``mlp``, or one of its variants."""
    members = name.options.get("members") or name.options.get("ensemble") or 1
    gated, folds = "gate" in name.options, "members" in name.options
    return MLP(str(name), training_settings(defaults), int(members), gated, folds)


def training_settings(defaults: Defaults) -> TrainingSettings:
    """How networks beside the energy scores are trained."""
    return MLP_TRAINING if defaults.epochs is None else replace(MLP_TRAINING, epochs=defaults.epochs)


def train_network(
    build: Callable[[int], Trained],
    objective: Objective[Trained],
    task: Task,
    settings: TrainingSettings,
    rewards: Callable[[Trained], Rewards],
) -> tuple[Trained, Training]:
    """Train a network on a task's pairs and keep the best epoch; the training embeddings fix its units."""
    torch.manual_seed(task.seed)
    model = build(task.pairs.dim)
    for unit, value in zip((model.loc, model.scale), location_and_scale(task.pairs.responses()[0]), strict=True):
        unit.copy_(value)
    training = train(
        model,
        objective,
        task.pairs,
        task.validation,
        settings,
        task.seed,
        checkpoint=task.checkpoint,
        measure=lambda model: task.measure(rewards(model)),
        on_epoch=task.on_epoch,
    )
    return model, training


class Correction(NamedTuple):
    """A trained network, and the gate on what it adds; None for none."""

    model: RewardCorrection
    gate: Callable[[Tensor], Tensor] | None = None

    def __call__(self, features: Features) -> Float[Tensor, " responses"]:
        """Refined rewards."""
        refined: Tensor = self.model(features.embedding, features.reward)
        if self.gate is None:
            return refined
        return features.reward + self.gate(features.embedding) * (refined - features.reward)


def _gate(model: RewardCorrection, task: Task) -> Callable[[Tensor], Tensor]:
    parts = (pairs.responses()[0] for pairs in (task.pairs, task.validation))
    familiarity = fit_familiarity(*map(model.standardised, parts))
    return lambda embedding: familiarity(model.standardised(embedding))


def _rewards(corrections: Sequence[Correction]) -> Rewards:
    return torch.no_grad()(lambda features: _stacked(corrections, features).mean(0))


def _disagreement(corrections: Sequence[Correction]) -> Rewards:
    return torch.no_grad()(lambda features: _stacked(corrections, features).std(0))


def _stacked(corrections: Sequence[Correction], features: Features) -> Float[Tensor, "corrections responses"]:
    return torch.stack([correction(features) for correction in corrections])
