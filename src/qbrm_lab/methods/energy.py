"""Energy scores as compared methods: score, fitting, refinement."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qbrm.energies import EnergyScore, build_score
from qbrm.energies.density import Density, density, probability_greater
from qbrm.energies.qbm import DEVICE_ESTIMATES
from qbrm.fitting import FitSettings, Training, fit_score
from qbrm.fitting.calibration import SMALLEST_PROBABILITY
from qbrm.refinement import REFINEMENTS, refine
from qbrm.samplers import Sampler
from qbrm_lab.methods.base import Fitted, LogPreference, Rewards, Task
from qbrm_lab.methods.temperature_scaling import tempered
from qbrm_lab.responses import Features

PAIRS_AT_ONCE = 1024


@dataclass(frozen=True)
class EnergyMethod:
    """Refinement with one energy score.

    Attributes:
        name: in results.
        score: name in `ENERGY_SCORES`.
        refinement: one of `REFINEMENTS`.
        settings: how the score is fitted.
        hidden: hidden units of a Boltzmann score; None for its own default.
        sampler: draws the hidden spins of ``qbm``; None to sum over them.
    """

    name: str
    score: str
    refinement: str
    settings: FitSettings
    hidden: int | None = None
    sampler: str | Sampler | None = None

    def described(self) -> dict[str, Any]:
        """All settings that had an effect, by name: what a model card says."""
        settings = asdict(self.settings)
        if self.settings.objective != "nce":
            settings.pop("noise_samples")
        own = {"score": self.score, "refinement": self.refinement, "hidden": self.hidden, "sampler": self.sampler}
        return {**settings.pop("training"), **settings, **own}

    def fit(self, task: Task) -> Fitted:
        """Fit the score to the task's pairs.

        Raises:
            InputError: if filtering leaves no pair.
        """
        fitted = fit_score(
            lambda: self._build(task),
            task.fold,
            self.settings,
            measure=lambda score: task.measure(self._rewards(score, task.seed)),
            on_epoch=task.on_epoch,
        )
        score, rewards = fitted.score, self._rewards(fitted.score, task.seed)
        notes = []
        if fitted.conflicts is not None:
            dropped, total = fitted.conflicts
            notes.append(
                f"{self.name}, seed {task.seed}: {dropped:,} of {total:,} pairs dropped by conflict-aware filtering"
            )
        if fitted.kept_base:
            notes.append(f"{self.name}, seed {task.seed}: no epoch beat the base rewards on validation; they are kept")
        notes += self._device_note(fitted.training, task)
        objective = self.settings.objective
        preference = _density_preference(score) if objective == "preference" else tempered(rewards, task)
        return Fitted(
            rewards, preference, fitted.training, score, objective, self.refinement, tuple(notes), _deviation(score)
        )

    def _device_note(self, training: Training, task: Task) -> tuple[str, ...]:
        """What a sampler at a temperature or precision of its own said of its last states in training."""
        names = dict(zip(DEVICE_ESTIMATES, ("effective beta", "residual", "distortion in nats"), strict=True))
        last = training.epochs[-1]
        told = [f"{words} {last[name]:.3g}" for name, words in names.items() if name in last]
        return (f"{self.name}, seed {task.seed}, {self.sampler}: {', '.join(told)}",) if told else ()

    def _build(self, task: Task) -> EnergyScore:
        return build_score(
            self.score,
            task.pairs.dim,
            hidden=self.hidden,
            sampler=self.sampler,
            reads=task.head_dim,
            # Without a preference to explain, an anchored score would only copy r0.
            anchored=self.settings.objective == "preference",
        )

    def _rewards(self, score: EnergyScore, seed: int) -> Rewards:
        def rewards(features: Features) -> Float[Tensor, " responses"]:
            return refine(score, features.embedding, features.reward, REFINEMENTS[self.refinement], seed=seed)

        return rewards


def _density_preference(score: EnergyScore) -> LogPreference:
    @torch.no_grad()
    def preference(
        features: Features, rewards: Tensor, chosen: Int[Tensor, " pairs"], rejected: Int[Tensor, " pairs"]
    ) -> Float[Tensor, " pairs"]:
        rows, place = torch.unique(torch.cat([chosen, rejected]), return_inverse=True)
        found = _densities(score, features.rows(rows))
        first, second = place[: len(chosen)], place[len(chosen) :]
        parts = [
            probability_greater(found.rows(first[start:end]), found.rows(second[start:end]))
            for start in range(0, len(chosen), PAIRS_AT_ONCE)
            for end in [start + PAIRS_AT_ONCE]
        ]
        return torch.cat(parts).clamp_min(SMALLEST_PROBABILITY).log()

    return preference


def _deviation(score: EnergyScore) -> Rewards:
    @torch.no_grad()
    def deviation(features: Features) -> Float[Tensor, " responses"]:
        parts = [
            density(score, score.clamp(features.embedding[rows], features.reward[rows])).std
            for rows in torch.split(torch.arange(len(features.reward)), score.chunk_rows)
        ]
        return torch.cat(parts) * score.reward_scale

    return deviation


def _densities(score: EnergyScore, features: Features) -> Density:
    """p(r | e) of every response, once however many pairs it is in; all on the lattice that the score has."""
    chunks = [slice(start, start + score.chunk_rows) for start in range(0, len(features.reward), score.chunk_rows)]
    parts = [density(score, score.clamp(features.embedding[rows], features.reward[rows])) for rows in chunks]
    lattice = parts[0].lattice
    if len(lattice.first) > 1 or len(features.reward) == 1:
        lattice = lattice._replace(first=torch.cat([part.lattice.first for part in parts]))
    return Density(lattice, torch.cat([part.mass for part in parts]))
