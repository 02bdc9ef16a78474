"""What a comparison is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from qbrm.errors import InputError, check_known
from qbrm.reward_models import DEFAULT_REWARD_MODEL, RewardModelOptions
from qbrm.samplers import SAMPLERS, Sampler
from qbrm_lab.methods import Defaults, build_method, method_name
from qbrm_lab.methods.base import Method
from qbrm_lab.methods.catalogue import DEMONSTRATED
from qbrm_lab.scenarios import SCENARIOS


@dataclass(frozen=True)
class ComparisonSettings:
    """One comparison, as the command line states it.

    Attributes:
        tests: sources of test preferences; empty to hold out prompts of `train`.
        scenario: one of `SCENARIOS`.
        methods: names of methods, in the order of the table.
        reward_model: name, folder or id on the Hugging Face Hub of the reward model.
        reward_model_options: how it is loaded.
        seeds: how many seeds, `seed` the first of them.
        epochs: passes over the training pairs.
        sampler: draws the hidden spins of ``qbm`` and ``tqbm``: an object, which has a name or a representation of its
            own, or one of `SAMPLERS`; None to sum over them.
        hidden: hidden units of the Boltzmann scores; None for each one's own number.
        workers: processes that run seeds side by side, one thread each; None: this process runs them all.
        skip_bad: whether rows that are no preferences are left out.
        wandb: whether metrics also go to Weights & Biases.
        command: the command line, for the report.
    """

    train: Path
    out: Path
    tests: tuple[Path, ...] = ()
    scenario: str = "fresh"
    methods: tuple[str, ...] = DEMONSTRATED
    reward_model: str = DEFAULT_REWARD_MODEL
    reward_model_options: RewardModelOptions = field(default_factory=RewardModelOptions)
    seeds: int = 3
    seed: int = 0
    epochs: int = 5
    sampler: str | Sampler | None = None
    hidden: int | None = None
    workers: int | None = None
    skip_bad: bool = False
    wandb: bool = False
    command: str = ""

    def selected_methods(self) -> dict[str, Method]:
        """The methods asked for, by their names with options in order.

        Raises:
            InputError: if a method is unknown or named twice, or the scenario or the sampler is unknown.
        """
        check_known("scenario", self.scenario, SCENARIOS)
        self._check_sampler()
        defaults = Defaults(self.epochs, self.hidden, self.sampler)
        methods = {method.name: method for method in (build_method(name, defaults) for name in self.methods)}
        if len(methods) < len(self.methods):
            raise InputError(f"--methods {','.join(self.methods)} names a method twice; expected each once.")
        return methods

    def _check_sampler(self) -> None:
        if self.sampler is None:
            return
        if isinstance(self.sampler, str):
            check_known("sampler", self.sampler, SAMPLERS)
        elif type(self.sampler).__repr__ is object.__repr__ and not hasattr(self.sampler, "name"):
            raise InputError(
                f"the sampler {type(self.sampler).__name__} has no name; expected an attribute `name` or a __repr__ "
                "that tells it from others, which kept training states are known by."
            )
        if not any(method_name(name).description.option("sampler") for name in self.methods):
            raise InputError(f"--sampler {self.sampler} without the method qbm; expected qbm or tqbm in --methods.")
