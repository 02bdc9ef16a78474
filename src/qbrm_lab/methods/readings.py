"""One number from p(r | e): the mean, or something more careful whose caution validation sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from qbrm.energies import EnergyScore
from qbrm.energies.density import Density
from qbrm.fitting.calibration import margin_temperature
from qbrm_lab.methods.base import Task
from qbrm_lab.methods.energy import densities_of
from qbrm_lab.responses import Features


class Reading(NamedTuple):
    """A way to read a reward off p(r | e), in standardised units.

    Attributes:
        name: in results.
        levels: of caution, from which validation chooses.
        read: the reward at a level.
    """

    name: str
    levels: tuple[float, ...]
    read: Callable[[Density, float], Float[Tensor, " batch"]]


MEAN = Reading("mean", (0.0,), lambda p, level: p.mean)
# E[r | e] - z std[r | e], for z; 0 is the mean itself.
LOWER_BOUND = Reading("lcb", (0.0, 0.25, 0.5, 1.0, 2.0, 4.0), lambda p, z: p.mean - z * p.std)
# -beta log E exp(-r / beta), for beta in deviations of the base reward.
PESSIMISTIC = Reading("pessimistic", tuple(2.0**power for power in range(-2, 7)), lambda p, beta: p.pessimistic(beta))
READINGS = {reading.name: reading for reading in (MEAN, PESSIMISTIC, LOWER_BOUND)}


@torch.no_grad()
def choose_levels(score: EnergyScore, task: Task, readings: Sequence[Reading]) -> dict[str, float]:
    """For each reading the level whose rewards, tempered, make the validation preferences likeliest."""
    validation = task.validation
    rows = validation.rows()
    p = list(densities_of(score, task.features.rows(rows)))
    chosen, rejected = (torch.searchsorted(rows, part) for part in (validation.chosen, validation.rejected))
    base = validation.reward[validation.chosen] - validation.reward[validation.rejected]

    def log_loss(reading: Reading, level: float) -> float:
        reward = torch.cat([reading.read(part, level) for part in p])
        margin = reward[chosen] - reward[rejected]
        return -float(functional.logsigmoid(margin / margin_temperature(margin, base)).mean())

    return {reading.name: min(reading.levels, key=partial(log_loss, reading)) for reading in readings}


@torch.no_grad()
def read_rewards(
    score: EnergyScore, features: Features, levels: Mapping[str, float]
) -> dict[str, Float[Tensor, " responses"]]:
    """Rewards in the reward model's units, by reading, each at its level; p(r | e) is found once for all of them."""
    parts: dict[str, list[Tensor]] = {name: [] for name in levels}
    for p in densities_of(score, features):
        for name, level in levels.items():
            parts[name].append(READINGS[name].read(p, level))
    return {name: score.from_standard(torch.cat(rewards)) for name, rewards in parts.items()}
