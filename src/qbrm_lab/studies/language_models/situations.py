"""Which scenario is made with which reward model, and which of its files it is refined with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qbrm.errors import InputError
from qbrm_lab.studies.reward_models import LEARNED, REFINE, TEST


@dataclass(frozen=True)
class Situation:
    """One reward model and what it is refined with, in one or more scenarios.

    Attributes:
        reward_model: its folder among those that the study `reward-models` leaves.
        preferences: the file in it.
        scenarios: names in `VARIANTS`.
    """

    reward_model: str
    preferences: str
    scenarios: tuple[str, ...]

    @property
    def file(self) -> str:
        """The preferences by the folder's path."""
        return f"{self.reward_model}/{self.preferences}"


SITUATIONS = (
    Situation("half", REFINE, ("fresh", "small-50", "small-200")),
    Situation("domain", REFINE, ("shift",)),
    Situation("noise", REFINE, ("noise",)),
    Situation("half", LEARNED, ("same",)),
)
REQUIRED = SITUATIONS[0]


def situations_of(folder: Path) -> list[Situation]:
    """The situations whose reward model and preferences a folder has.

    Raises:
        InputError: if it has no test, or lacks what the scenario fresh needs.
    """
    for needed in (TEST, REQUIRED.file, f"{REQUIRED.reward_model}/config.json"):
        if not (folder / needed).is_file():
            raise InputError(f"{folder} has no {needed}; expected a folder that `qbrm study reward-models` wrote.")
    return [
        situation
        for situation in SITUATIONS
        if (folder / situation.file).is_file() and (folder / situation.reward_model / "config.json").is_file()
    ]
