"""Energy scores as compared methods: score, fitting, refinement."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qbrm.energies import ENERGY_SCORES, EnergyScore, build_score
from qbrm.energies.density import Density, density, probability_greater
from qbrm.energies.qbm import DEVICE_ESTIMATES, CoupledBoltzmannMachine
from qbrm.errors import InputError
from qbrm.fitting import FitSettings, fit_score
from qbrm.fitting.calibration import SMALLEST_PROBABILITY
from qbrm.refinement import REFINEMENTS, refine
from qbrm.samplers import Sampler
from qbrm.samplers.base import identity_of
from qbrm.selection.candidates import TRUNK_UNITS
from qbrm_lab.methods.base import Fitted, LogPreference, Rewards, Task
from qbrm_lab.methods.names import Defaults, MethodName
from qbrm_lab.methods.temperature_scaling import tempered
from qbrm_lab.responses import Features
from qbrm_lab.results.facts import BaseKept, ConflictsDropped, SamplerEstimates, TrainingFact

PAIRS_AT_ONCE = 1024
PUBLISHED_NOISE_SAMPLES = 768


@dataclass(frozen=True)
class EnergyMethod:
    """Refinement with one energy score.

    Attributes:
        score: name in `ENERGY_SCORES`.
        refinement: one of `REFINEMENTS`.
        hidden: hidden units of a Boltzmann score; None for its own default.
        sampler: draws the hidden spins of ``qbm`` or ``tqbm``; None to sum over them.
        deep: units of the trunk that a Boltzmann score's fields read; None for those of the score, which has none but
            for ``residual``.
        whole: whether ``ebrm`` reads all of the embedding instead of what the reward model's head reads.
    """

    name: str
    score: str
    refinement: str
    settings: FitSettings
    hidden: int | None = None
    sampler: str | Sampler | None = None
    deep: int | None = None
    whole: bool = False

    def __repr__(self) -> str:
        return f"EnergyMethod({self.name!r}, {self.described()!r})"

    @property
    def sampler_name(self) -> str | None:
        """What the sampler is called: its name in `SAMPLERS`, its attribute `name`, or its representation."""
        return self.sampler if self.sampler is None or isinstance(self.sampler, str) else identity_of(self.sampler)

    def described(self) -> dict[str, Any]:
        """All settings that had an effect, by name: what a model card says."""
        settings = asdict(self.settings)
        if self.settings.objective != "nce":
            settings.pop("noise_samples")
        own = {"score": self.score, "refinement": self.refinement, "hidden": self.hidden, "sampler": self.sampler_name}
        if self.deep is not None:
            own["deep"] = self.deep
        if self.whole:
            own["whole"] = True
        return {**settings.pop("training"), **settings, **own}

    def fit(self, task: Task) -> Fitted:
        """Fit the score to the task's pairs.

        Raises:
            InputError: if filtering leaves no pair.
        """
        try:
            fitted = fit_score(
                lambda: self._build(task),
                task.fold,
                self.settings,
                measure=lambda score: task.measure(self._rewards(score, task.seed)),
                on_epoch=task.on_epoch,
            )
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from error
        score, rewards = fitted.score, self._rewards(fitted.score, task.seed)
        objective = self.settings.objective
        preference = density_preference(score) if objective == "preference" else tempered(rewards, task)
        facts: list[TrainingFact] = []
        if fitted.conflicts is not None:
            facts.append(ConflictsDropped(method=self.name, seed=task.seed, **fitted.conflicts._asdict()))
        if fitted.kept_base:
            facts.append(BaseKept(method=self.name, seed=task.seed))
        estimates: Any = {name: value for name, value in fitted.training.epochs[-1].items() if name in DEVICE_ESTIMATES}
        if estimates:
            told = {"method": self.name, "seed": task.seed, "sampler": self.sampler_name or "", **estimates}
            facts.append(SamplerEstimates(**told))
        return Fitted(
            rewards, preference, fitted.training, score, objective, self.refinement, tuple(facts), _deviation(score)
        )

    def _build(self, task: Task) -> EnergyScore:
        return build_score(
            self.score,
            task.pairs.dim,
            hidden=self.hidden,
            sampler=self.sampler,
            deep=self.deep,
            reads=None if self.whole else task.head_dim,
            # Without a preference to explain, an anchored score would only copy r0.
            anchored=self.settings.objective == "preference",
        )

    def _rewards(self, score: EnergyScore, seed: int) -> Rewards:
        def rewards(features: Features) -> Float[Tensor, " responses"]:
            return refine(score, features.embedding, features.reward, REFINEMENTS[self.refinement], seed=seed)

        return rewards


def energy_method(name: MethodName, defaults: Defaults) -> EnergyMethod:
    """The method that refines with an energy score, fitted and refined as the class says unless the name says else.

    Raises:
        InputError: if so many hidden spins cannot be summed over.
    """
    score, told = ENERGY_SCORES[name.description.name], dict(name.options)
    if told.pop("exact", False):
        told |= {"objective": "likelihood", "refinement": "mode"}
    settings = _fit_settings(score.fit_settings, told, defaults.epochs)
    taken = {option: getattr(defaults, option) for option in ("hidden", "sampler") if name.description.option(option)}
    taken |= {option: value for option, value in told.items() if option in taken}
    if issubclass(score, CoupledBoltzmannMachine) and taken["sampler"] in (None, "exact"):
        _check_sum(name, score, taken["hidden"] or 0)
    refinement = told.get("refinement", score.refinement)
    deep = TRUNK_UNITS if "deep" in told else None
    return EnergyMethod(
        str(name), name.description.name, str(refinement), settings, **taken, deep=deep, whole="whole" in told
    )


def _check_sum(name: MethodName, score: type[CoupledBoltzmannMachine], hidden: int) -> None:
    if hidden > score.most_summed:
        raise InputError(
            f"{name}: {hidden} hidden spins without a sampler that can draw so many; sums go to {score.most_summed}, "
            "expected the sampler gibbs or another."
        )


def _fit_settings(settings: FitSettings, told: dict[str, Any], epochs: int | None) -> FitSettings:
    training = settings.training if epochs is None else replace(settings.training, epochs=epochs)
    filtered = "filter" in told or (settings.filter_conflicts and "keep" not in told)
    noise = PUBLISHED_NOISE_SAMPLES if "published" in told else settings.noise_samples
    changed = {option: told[option] for option in ("objective", "gate", "members") if option in told}
    return replace(settings, training=training, filter_conflicts=filtered, noise_samples=noise, **changed)


def density_preference(score: EnergyScore) -> LogPreference:
    """Log P(r_chosen > r_rejected) for independent rewards from a score's densities."""

    @torch.no_grad()
    def preference(
        features: Features, rewards: Tensor, chosen: Int[Tensor, " pairs"], rejected: Int[Tensor, " pairs"]
    ) -> Float[Tensor, " pairs"]:
        rows, place = torch.unique(torch.cat([chosen, rejected]), return_inverse=True)
        densities = _densities(score, features.rows(rows))
        pairs = torch.split(place.view(2, -1), PAIRS_AT_ONCE, dim=1)
        parts = [probability_greater(densities.rows(first), densities.rows(second)) for first, second in pairs]
        return torch.cat(parts).clamp_min(SMALLEST_PROBABILITY).log()

    return preference


def _deviation(score: EnergyScore) -> Rewards:
    @torch.no_grad()
    def deviation(features: Features) -> Float[Tensor, " responses"]:
        return torch.cat([part.std for part in densities_of(score, features)]) * score.reward_scale

    return deviation


def _densities(score: EnergyScore, features: Features) -> Density:
    """p(r | e) of every response, once however many pairs it is in; all on the lattice that the score has."""
    parts = list(densities_of(score, features))
    lattice = parts[0].lattice
    if len(lattice.first) > 1 or len(features.reward) == 1:
        lattice = lattice._replace(first=torch.cat([part.lattice.first for part in parts]))
    return Density(lattice, torch.cat([part.mass for part in parts]))


def densities_of(score: EnergyScore, features: Features) -> Iterator[Density]:
    """p(r | e) of responses, a chunk of them at a time."""
    chunks = [slice(start, start + score.chunk_rows) for start in range(0, len(features.reward), score.chunk_rows)]
    return (density(score, score.clamp(features.embedding[rows], features.reward[rows])) for rows in chunks)
