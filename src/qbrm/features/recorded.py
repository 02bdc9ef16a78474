"""The reward model that features come from, as their manifest describes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qbrm.errors import InputError
from qbrm.features.table import FeatureTable
from qbrm.preferences.base import Prompt
from qbrm.reward_models.base import Embedded, Identity


class RecordedRewardModel:
    """Stands in for the reward model of a table where a score for it is saved: its weights need not be here."""

    def __init__(self, table: FeatureTable) -> None:
        self.identity: Identity = table.identity
        self.dim: int = table.dim
        self._settings = dict(table.settings)

    def settings(self) -> dict[str, Any]:
        """What it was loaded with besides name and revision."""
        return self._settings

    def embed(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Embedded:
        """Raise InputError: there are no weights to embed with."""
        raise InputError(f"only the features of {self.identity} are here; expected a model loaded by from_pretrained.")
