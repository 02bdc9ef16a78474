"""A reward model as a manifest or a saved model describes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qbrm.errors import InputError
from qbrm.preferences.base import Prompt
from qbrm.reward_models.base import Embedded, Identity


class RecordedRewardModel:
    """Stands in for a reward model where a score for it is saved: its weights need not be here.

    Args:
        identity: of the reward model.
        dim: embedding size.
        settings: what it was loaded with besides name and revision.
    """

    def __init__(self, identity: Identity, dim: int, settings: Mapping[str, Any]) -> None:
        self.identity, self.dim = identity, dim
        self._settings = dict(settings)

    def settings(self) -> dict[str, Any]:
        """What it was loaded with besides name and revision."""
        return self._settings

    def embed(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Embedded:
        """Raise InputError: there are no weights to embed with."""
        raise InputError(f"the weights of {self.identity} are not loaded; expected a model loaded by from_pretrained.")
