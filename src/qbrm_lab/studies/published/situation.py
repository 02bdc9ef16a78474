"""The situation that the paper starts from: a reward model that is little better than chance where it is used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from qbrm.evaluation import PromptBootstrap
from qbrm.preferences import PreferenceSet
from qbrm_lab.methods import build_method
from qbrm_lab.methods.base import Method
from qbrm_lab.scenarios import Roles
from qbrm_lab.studies.published.features import Extent, Rewarded, predicted, share
from qbrm_lab.studies.published.rows import RESTARTS, SituationRow
from qbrm_lab.studies.published.scaled import EBRMInUnits, RestartsAlone

BASE = "base"
OTHERS = (BASE, "base:tempered", "residual", "sqrbm")
SAME, TARGET = "same", "target"
# Of standardised rewards, and what the published script for Skywork's reward model scales them to.
DEVIATIONS = (1.0, 4.0)


@dataclass(frozen=True)
class Tried:
    """One seed's method, refined on one domain: one or zero for every test pair of the target, and the log-loss."""

    refined_on: str
    method: str
    right: list[int]
    nll: float


def methods(extent: Extent, epochs: int) -> list[Method]:
    """What is compared."""
    return [
        *(build_method(name) for name in OTHERS),
        *(EBRMInUnits(f"ebrm, deviation {scale:g}", scale, extent.noise_samples, epochs) for scale in DEVIATIONS),
        *(RestartsAlone(f"{RESTARTS}, deviation {scale:g}", scale) for scale in DEVIATIONS),
    ]


def situation_of(
    known: Rewarded, roles: Roles, target: PreferenceSet, compared: Sequence[Method], seed: int
) -> Iterator[Tried]:
    """Fit every method to preferences of either domain, and test it on the one that the reward model did not learn."""
    parts = {
        SAME: (roles.reward_model, roles.reward_model_validation),
        TARGET: (roles.refinement, roles.validation),
    }
    test = known.pairs(target)
    for name, part in parts.items():
        task = known.task(*part, seed)
        for method in compared:
            found = predicted(method.fit(task), known.features, test)
            assert found.nll is not None
            yield Tried(name, method.name, found.right, found.nll)


def situation_rows(seeds: Sequence[Sequence[Tried]], bootstrap: PromptBootstrap) -> list[SituationRow]:
    """Means over seeds, which share their test pairs."""
    base = np.array([next(one.right for one in seed if one.method == BASE) for seed in seeds])
    rows = []
    for same in zip(*seeds, strict=True):
        values = np.array([one.right for one in same])
        rows.append(
            SituationRow(
                refined_on=same[0].refined_on,
                method=same[0].method,
                accuracy=share(bootstrap, values),
                over_base=share(bootstrap, values - base),
                nll=float(np.mean([one.nll for one in same])),
            )
        )
    return rows
