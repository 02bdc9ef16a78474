"""Which energy score to fit, with its options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

import torch

from qbrm.data.device import default_device
from qbrm.energies import ENERGY_SCORES, EnergyScore, build_score
from qbrm.errors import InputError, check_known
from qbrm.fitting import FitSettings
from qbrm.samplers import SAMPLERS, Sampler
from qbrm.selection.candidates import TRUNK_UNITS, Candidate, Family

AUTO = "auto"

Progress: TypeAlias = Callable[[str, int, int], None]


@dataclass(frozen=True)
class ScoreChoice:
    """An energy score to fit, one of `ENERGY_SCORES`, and its options, as :meth:`qbrm.EnergyRewardModel.fit` says.

    Members validate on different prompts if the features fit into a window in memory; else they differ in their seed.
    With `deep`, the hidden fields read a small trunk of the embedding.

    Raises:
        InputError: if there is no such score or sampler, or such scores do not take an option.
    """

    name: str = "sqrbm"
    gate: bool = False
    members: int = 1
    hidden: int | None = None
    sampler: str | Sampler | None = None
    epochs: int | None = None
    device: torch.device | str | None = None
    deep: bool = False

    def __post_init__(self) -> None:
        check_known("score", self.name, ENERGY_SCORES)
        for option in ("members", "hidden", "epochs"):
            value = getattr(self, option)
            if value is not None and not (isinstance(value, int) and value >= 1):
                raise InputError(f"{option} is {value!r}; expected a whole number of at least 1.")
        if isinstance(self.sampler, str):
            check_known("sampler", self.sampler, SAMPLERS)
        asked = {"gate_rank": self.gate, "members": self.members > 1, "hidden": self.hidden, "sampler": self.sampler}
        asked["deep"] = self.deep
        for parameter, value in asked.items():
            if value and parameter not in _parameters(ENERGY_SCORES[self.name]):
                option = parameter.removesuffix("_rank")
                able = ", ".join(name for name, score in ENERGY_SCORES.items() if parameter in _parameters(score))
                raise InputError(f"score {self.name} takes no {option}; expected one of: {able}.")

    @property
    def settings(self) -> FitSettings:
        """How the score is fitted."""
        settings = replace(ENERGY_SCORES[self.name].fit_settings, gate=self.gate, members=self.members)
        epochs = settings.training.epochs if self.epochs is None else self.epochs
        return replace(settings, training=replace(settings.training, epochs=epochs))

    @property
    def label(self) -> str:
        """Its name with options, as in ``sqrbm:deep,gate,members=5``."""
        return Candidate(self.family, self.gate, self.members).name

    @property
    def family(self) -> Family:
        """What it shares with scores that differ in gate and members only."""
        return Family(self.name, self.deep, self.hidden, self.epochs)

    @property
    def scalable(self) -> bool:
        """Whether the correction has a strength."""
        return "strength" in _parameters(ENERGY_SCORES[self.name])

    @property
    def refinement(self) -> str:
        """How the score refines."""
        return ENERGY_SCORES[self.name].refinement

    def build(self, dim: int, head_dim: int | None) -> EnergyScore:
        """An untrained score for embeddings of size `dim`, of which the score head reads the first `head_dim`."""
        anchored = self.settings.objective == "preference"
        options = {"hidden": self.hidden, "sampler": self.sampler, "anchored": anchored, "reads": head_dim}
        options["deep"] = TRUNK_UNITS if self.deep else None
        return build_score(self.name, dim, **options).to(self.device or default_device())

    def described(self) -> dict[str, Any]:
        """All settings by name, for the model card."""
        settings = asdict(self.settings)
        sampler = self.sampler if self.sampler is None or isinstance(self.sampler, str) else repr(self.sampler)
        own = {"score": self.name, "refinement": self.refinement, "hidden": self.hidden, "sampler": sampler}
        own["deep"] = self.deep or None
        return {**settings.pop("training"), **settings, **own}


def named_score(score: str, **options: Any) -> ScoreChoice | None:
    """The score of that name with its options; None for ``auto``, which takes none.

    Raises:
        InputError: if there is no such score, or such scores do not take an option.
    """
    if not isinstance(score, str):
        raise InputError(f"score is {score!r}; expected 'auto' or the name of a score.")
    if score != AUTO:
        check_known("score", score, [AUTO, *ENERGY_SCORES])
        return ScoreChoice(score, **options)
    told = [name for name, value in options.items() if value is not None and value is not False and name != "device"]
    told = [name for name in told if (name, options[name]) != ("members", 1)]
    if told:
        raise InputError(f"{told[0]} is set, but the score is to be chosen; expected a score by name, or no {told[0]}.")
    return None


def _parameters(score: type[EnergyScore]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(score).parameters
