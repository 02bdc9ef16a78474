"""Energy scores as compared methods: score, objective, refinement, settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qbrm.comparison.methods.base import Fitted, LogPreference, Rewards, Task, in_all
from qbrm.comparison.methods.committee import committee, hold_out_apart
from qbrm.comparison.methods.temperature import tempered
from qbrm.comparison.responses import Features
from qbrm.energies import EBRM, ENERGY_SCORES, CoupledBoltzmannMachine, EnergyScore, SemiQuantumRBM
from qbrm.energies.density import Density, density, probability_greater
from qbrm.energies.geometric_mean import geometric_mean
from qbrm.errors import InputError
from qbrm.features.pairs import Pairs
from qbrm.objectives import OBJECTIVES, NCEPlus
from qbrm.objectives.preference import SMALLEST_PROBABILITY
from qbrm.refinement import REFINEMENTS, refine
from qbrm.training import Training, TrainingSettings, train
from qbrm.training.temperature import calibrate_together, loss_together

EVALUATION_SAMPLES = 256
VALIDATION_EXAMPLES = 256
PAIRS_AT_ONCE = 1024


@dataclass(frozen=True)
class EnergyMethod:
    """Refinement with one energy score.

    Attributes:
        name: in results.
        score: name in `ENERGY_SCORES`.
        objective: one of `OBJECTIVES`.
        refinement: one of `REFINEMENTS`.
        filter_conflicts: whether pairs that the base rewards contradict are dropped.
        settings: optimiser and schedule.
        noise_samples: of the objective ``nce``.
        hidden: hidden units of a Boltzmann score; None for its own default.
        sampler: draws the hidden spins of ``qbm``; None to sum over them.
        gated: whether the correction of a Boltzmann score fades where embeddings are unfamiliar.
        members: machines whose geometric mean is the score, a :func:`~qbrm.comparison.methods.committee.committee`.
    """

    name: str
    score: str
    objective: str
    refinement: str
    filter_conflicts: bool
    settings: TrainingSettings
    noise_samples: int = 64
    hidden: int | None = None
    sampler: str | None = None
    gated: bool = False
    members: int = 1

    def __post_init__(self) -> None:
        if self.members > 1 and (self.filter_conflicts or not issubclass(ENERGY_SCORES[self.score], SemiQuantumRBM)):
            raise ValueError(f"{self.name} has {self.members} members; expected one, or unfiltered machines")

    def described(self) -> dict[str, Any]:
        """All settings that had an effect, by name: what a model card says."""
        settings = asdict(self)
        if self.objective != "nce":
            settings.pop("noise_samples")
        return {**settings.pop("settings"), **settings}

    def fit(self, task: Task) -> Fitted:
        """Filter if asked, train every member, calibrate tau on what was held out of each.

        Raises:
            InputError: if filtering leaves no pair.
        """
        pairs, notes = self._training_pairs(task)
        tasks = committee(replace(task, pairs=pairs), self.members)
        scores, trainings = zip(*(self._train(tasks[0].pairs, each) for each in tasks), strict=True)
        score, training = scores[0], in_all(trainings)
        machines = [each for each in scores if isinstance(each, SemiQuantumRBM)]
        if machines:
            score, kept = self._made_one(machines, tasks)
            notes += kept
        if isinstance(score, CoupledBoltzmannMachine):
            score.samples, score.seed = EVALUATION_SAMPLES, task.seed
            notes += self._device_note(training, task)
        rewards = self._rewards(score, task.seed)
        preference = _density_preference(score) if self.objective == "preference" else tempered(rewards, task)
        return Fitted(rewards, preference, training, score, self.objective, self.refinement, notes, _deviation(score))

    def _made_one(
        self, machines: Sequence[SemiQuantumRBM], tasks: Sequence[Task]
    ) -> tuple[SemiQuantumRBM, tuple[str, ...]]:
        """One calibrated machine of all; or one that keeps the base rewards' order, and a note of it."""
        if len(machines) > 1 and not hold_out_apart(tasks):
            machines, tasks = [geometric_mean(machines)], tasks[:1]
        if self.gated:
            for machine, task in zip(machines, tasks, strict=True):
                machine.close_gate(task.pairs.responses()[0], task.validation.responses()[0])
        if self.objective == "preference":
            calibrate_together(machines, [task.validation for task in tasks])
            identity = self._better_identity(machines, tasks)
            if identity is not None:
                seed = tasks[0].seed
                note = f"{self.name}, seed {seed}: no epoch beat the base rewards on validation; they are kept"
                return identity, (note,)
        return (geometric_mean(machines) if len(machines) > 1 else machines[0]), ()

    def _better_identity(self, machines: Sequence[SemiQuantumRBM], tasks: Sequence[Task]) -> SemiQuantumRBM | None:
        """A machine that keeps the base rewards' order, if training did not help: refinement must not harm."""
        identity = self._build(tasks[0].pairs, tasks[0])
        assert isinstance(identity, SemiQuantumRBM)
        if isinstance(identity, CoupledBoltzmannMachine):
            identity.sampler = None
        held_out, objective = [task.validation for task in tasks], OBJECTIVES[self.objective]()
        calibrate_together([identity] * len(tasks), held_out)
        losses = [loss_together(each, objective, held_out) for each in ([identity] * len(tasks), machines)]
        if losses[0] >= losses[1]:
            return None
        if isinstance(identity, CoupledBoltzmannMachine) and isinstance(machines[0], CoupledBoltzmannMachine):
            identity.sampler = machines[0].sampler
        return identity.eval()

    def _train(self, units: Pairs, task: Task) -> tuple[EnergyScore, Training]:
        """A score trained on the task, in the units of the given pairs' responses."""
        score = self._build(units, task)
        if isinstance(score, SemiQuantumRBM):
            score.scatter()
        training = train(
            score,
            NCEPlus(self.noise_samples) if self.objective == "nce" else OBJECTIVES[self.objective](),
            task.pairs,
            task.validation.without_conflicts() if self.filter_conflicts else task.validation,
            self.settings,
            task.seed,
            checkpoint=task.checkpoint,
            measure=lambda score: {**task.measure(self._rewards(score, task.seed)), **_sampling(score, task)},
            on_epoch=task.on_epoch,
        )
        return score, training

    def _device_note(self, training: Training, task: Task) -> tuple[str, ...]:
        """What a sampler at a temperature or precision of its own said of its last states in training."""
        names = {"effective_beta": "effective beta", "residual": "residual", "distortion": "distortion in nats"}
        last = training.epochs[-1]
        told = [f"{words} {last[name]:.3g}" for name, words in names.items() if name in last]
        return (f"{self.name}, seed {task.seed}, {self.sampler}: {', '.join(told)}",) if told else ()

    def _training_pairs(self, task: Task) -> tuple[Pairs, tuple[str, ...]]:
        if not self.filter_conflicts:
            return task.pairs, ()
        kept, kept_validation = task.pairs.without_conflicts(), task.validation.without_conflicts()
        dropped, total = task.pairs.n_pairs - kept.n_pairs, task.pairs.n_pairs
        if not kept.n_pairs or not kept_validation.n_pairs:
            raise InputError(
                f"{self.name}: conflict-aware filtering left {kept.n_pairs} of {total} training pairs and "
                f"{kept_validation.n_pairs} of {task.validation.n_pairs} validation pairs; expected at least one each: "
                "a reward model that agrees with some preferences, or 'qbrm compare --keep-conflicts'."
            )
        note = f"{self.name}, seed {task.seed}: {dropped:,} of {total:,} pairs dropped by conflict-aware filtering"
        return kept, (note,)

    def _build(self, pairs: Pairs, task: Task) -> EnergyScore:
        torch.manual_seed(task.seed)
        build = ENERGY_SCORES[self.score]
        settings: dict[str, Any] = {}
        if issubclass(build, SemiQuantumRBM):
            # Without a preference to explain, an anchored score would only copy r0.
            settings["anchored"] = self.objective == "preference"
            settings |= {"hidden": self.hidden} if self.hidden is not None else {}
        if issubclass(build, CoupledBoltzmannMachine):
            settings["sampler"] = self.sampler
        if issubclass(build, EBRM):
            settings["reads"] = task.head_dim
        score = build(pairs.dim, **settings)
        score.standardise(*pairs.responses())
        return score

    def _rewards(self, score: EnergyScore, seed: int) -> Rewards:
        def rewards(features: Features) -> Float[Tensor, " responses"]:
            return refine(score, features.embedding, features.reward, REFINEMENTS[self.refinement], seed=seed)

        return rewards


def _sampling(score: EnergyScore, task: Task) -> dict[str, float]:
    """What sampling leaves uncertain of this epoch's validation numbers: nothing if the score is not sampled."""
    if not isinstance(score, CoupledBoltzmannMachine) or score.sampler is None:
        return {}
    batch = task.validation.batch(slice(0, VALIDATION_EXAMPLES))
    found = score.monte_carlo(score.clamp(batch.chosen, batch.chosen_reward), score.sampler)
    error = found.error * float(score.reward_scale)
    device = {name: getattr(score.sampler, name, None) for name in ("effective_beta", "residual", "distortion")}
    told = {name: float(value) for name, value in device.items() if value is not None}
    return {"effective_samples": found.effective_samples, "monte_carlo_error": error, **told}


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
