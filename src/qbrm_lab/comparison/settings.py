"""What a comparison is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from qbrm.errors import InputError, check_known
from qbrm.fitting.objectives import OBJECTIVES
from qbrm.refinement import REFINEMENTS
from qbrm.reward_models import DEFAULT_REWARD_MODEL, RewardModelOptions
from qbrm.samplers import SAMPLERS
from qbrm.samplers.exact import LIMIT
from qbrm_lab.methods import METHODS, EnergyMethod, Method
from qbrm_lab.methods.distributional import Distributional
from qbrm_lab.methods.mlp import MLP
from qbrm_lab.scenarios import SCENARIOS

PUBLISHED_NOISE_SAMPLES = 768


@dataclass(frozen=True)
class ComparisonSettings:
    """One comparison, as the command line states it.

    Attributes:
        train: source of the training preferences.
        tests: sources of test preferences; empty to hold out prompts of `train`.
        out: folder for everything that is written.
        scenario: one of `SCENARIOS`.
        methods: names in `METHODS`, in the order of the table.
        reward_model: name, folder or id on the Hugging Face Hub of the reward model.
        reward_model_options: how it is loaded.
        seeds: how many seeds.
        seed: the first of them.
        epochs: passes over the training pairs.
        published: whether ebrm takes the 768 noise samples of the paper instead of 64.
        objective: for all energy scores instead of each one's own; None keeps those.
        refinement: likewise.
        filter_conflicts: likewise.
        sampler: draws the hidden spins of ``qbm``; None to sum over them.
        hidden: hidden units of the Boltzmann scores; None for each one's own number.
        workers: processes that run seeds side by side, one thread each; None: this process runs them all.
        wandb: whether metrics also go to Weights & Biases.
        command: the command line, for the report.
    """

    train: Path
    out: Path
    tests: tuple[Path, ...] = ()
    scenario: str = "fresh"
    methods: tuple[str, ...] = ("length", "base", "mlp", "ebrm", "rbm", "sqrbm", "sqrbm-gate-ensemble")
    reward_model: str = DEFAULT_REWARD_MODEL
    reward_model_options: RewardModelOptions = field(default_factory=RewardModelOptions)
    seeds: int = 3
    seed: int = 0
    epochs: int = 5
    published: bool = False
    objective: str | None = None
    refinement: str | None = None
    filter_conflicts: bool | None = None
    sampler: str | None = None
    hidden: int | None = None
    workers: int | None = None
    wandb: bool = False
    command: str = ""

    def selected_methods(self) -> dict[str, Method]:
        """The methods asked for, with their settings changed as asked.

        Raises:
            InputError: if a method is unknown or named twice, or a scenario, objective or refinement is unknown.
        """
        check_known("scenario", self.scenario, SCENARIOS)
        check_known("objective", self.objective or next(iter(OBJECTIVES)), OBJECTIVES)
        check_known("sampler", self.sampler or next(iter(SAMPLERS)), SAMPLERS)
        if self.sampler is not None and "qbm" not in self.methods:
            raise InputError(f"--sampler {self.sampler} without the method qbm; expected qbm in --methods.")
        if "qbm" in self.methods and self.sampler in (None, "exact") and (self.hidden or 0) > LIMIT:
            raise InputError(
                f"--hidden {self.hidden} without a sampler that can draw so many spins; sums go to {LIMIT}, expected "
                "--sampler gibbs or another."
            )
        check_known("refinement", self.refinement or next(iter(REFINEMENTS)), REFINEMENTS)
        if len(set(self.methods)) < len(self.methods):
            raise InputError(f"--methods {','.join(self.methods)} names a method twice; expected each once.")
        for name in self.methods:
            check_known("method", name, METHODS)
        return {name: self._adjusted(METHODS[name]) for name in self.methods}

    def _adjusted(self, method: Method) -> Method:
        if isinstance(method, (MLP, Distributional)):
            return replace(method, settings=replace(method.settings, epochs=self.epochs))
        if not isinstance(method, EnergyMethod):
            return method
        settings = replace(
            method.settings,
            training=replace(method.settings.training, epochs=self.epochs),
            objective=self.objective or method.settings.objective,
            noise_samples=PUBLISHED_NOISE_SAMPLES if self.published else method.settings.noise_samples,
        )
        if self.filter_conflicts is not None:
            settings = replace(settings, filter_conflicts=self.filter_conflicts)
        return replace(
            method,
            settings=settings,
            refinement=self.refinement or method.refinement,
            hidden=self.hidden,
            sampler=self.sampler,
        )
