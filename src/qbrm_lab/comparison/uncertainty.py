"""What a method's uncertainty is worth: rows of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

from qbrm.evaluation import decisions, interval
from qbrm_lab.comparison.evaluate import EvaluationSet, Label, claims_of
from qbrm_lab.evaluation import (
    area,
    curve_points,
    deviation_bins,
    error_auroc,
    oracle_risk,
    resampled_areas,
    resampled_aurocs,
    selective_risk,
)
from qbrm_lab.evaluation.outcomes import Outcomes
from qbrm_lab.methods.base import Fitted
from qbrm_lab.responses import Features
from qbrm_lab.results.rows import AreaDifference, Deviation, RiskCoverage

DECIMALS = 6


def with_deviations(
    fitted: Fitted, features: Features, tests: Sequence[EvaluationSet], plain: Sequence[Outcomes]
) -> list[Outcomes]:
    """The outcomes, together with the deviation of every pair's difference of rewards if the method predicts one."""
    if fitted.deviation is None:
        return list(plain)
    rows = torch.from_numpy(np.unique(np.concatenate([test.rows() for test in tests])))
    variance = np.full(len(features.reward), np.nan)
    variance[rows] = fitted.deviation(features.rows(rows)).double().square().numpy()
    return [
        outcome._replace(deviation=np.sqrt(variance[test.items.pair_chosen] + variance[test.items.pair_rejected]))
        for test, outcome in zip(tests, plain, strict=True)
    ]


def risk_coverage_rows(
    label: Label, test: EvaluationSet, methods: Mapping[str, Sequence[Outcomes]], references: Sequence[str]
) -> list[RiskCoverage]:
    """Accuracy when abstaining on the least certain pairs, and the area under its complement; means over seeds.

    Areas are compared with those of `references`, paired over prompts and seeds.
    """
    claimed = {name: claims for name, seeds in methods.items() if (claims := claims_of(seeds))}
    resampled = {
        name: _resampled(test, [partial(resampled_areas, claim) for claim in claims])
        for name, claims in claimed.items()
    }
    risk = {name: np.mean([selective_risk(claim) for claim in claims], axis=0) for name, claims in claimed.items()}
    return [
        RiskCoverage(
            **label,
            method=name,
            **test.label,
            seeds=len(claims),
            n=len(claims[0]),
            **_curve(risk[name], np.mean([oracle_risk(claim) for claim in claims], axis=0)),
            **_ends(resampled[name]),
            differences=[
                AreaDifference(
                    reference=reference,
                    difference=area(risk[name]) - area(risk[reference]),
                    **_ends(resampled[name] - resampled[reference]),
                )
                for reference in references
                if reference in risk and reference != name
            ],
        )
        for name, claims in claimed.items()
    ]


def deviation_rows(label: Label, test: EvaluationSet, seeds: Sequence[Outcomes]) -> list[Deviation]:
    """Error rate by predicted deviation, and how well the deviation tells wrong decisions from right ones.

    All are means over seeds, with bins that are each seed's own: every seed's reward model has its own units.
    """
    pairs = [
        (outcome.deviation, decisions(outcome.log_probability).right)
        for outcome in seeds
        if outcome.deviation is not None and outcome.log_probability is not None
    ]
    if not pairs:
        return []
    bins = [deviation_bins(*of_seed) for of_seed in pairs]
    areas = [auroc for auroc in (error_auroc(*of_seed) for of_seed in pairs) if auroc is not None]
    measured = len(areas) == len(pairs)
    ends: dict[str, Any] = {"ci_low": None, "ci_high": None}
    if measured:
        ends = _ends(_resampled(test, [partial(resampled_aurocs, *of_seed) for of_seed in pairs]))
    return [
        Deviation(
            **label,
            **test.label,
            seeds=len(pairs),
            n=len(test.items.pair_item),
            auroc=float(np.mean(areas)) if measured else None,
            **ends,
            deviation=_rounded(np.mean([of_seed.deviation for of_seed in bins], axis=0)),
            error=_rounded(np.mean([of_seed.error for of_seed in bins], axis=0)),
        )
    ]


def _curve(risk: Float64[np.ndarray, " pairs"], oracle: Float64[np.ndarray, " pairs"]) -> dict[str, Any]:
    points = curve_points(len(risk))
    return {
        "aurc": area(risk),
        "excess": area(risk) - area(oracle),
        "coverage": _rounded(points / len(risk)),
        "accuracy": _rounded(1 - risk[points - 1]),
    }


def _ends(resampled: Float64[np.ndarray, " resamples"]) -> dict[str, Any]:
    low, high = interval(resampled)
    return {"ci_low": low, "ci_high": high}


def _resampled(test: EvaluationSet, statistics: Sequence[partial[np.ndarray]]) -> Float64[np.ndarray, " resamples"]:
    """The mean over seeds of a statistic of pairs, in each resample of the prompts."""
    prompt = test.items.prompt[test.items.pair_item]
    means: Float64[np.ndarray, " resamples"] = np.mean(
        [test.bootstrap.samples(statistic, prompt) for statistic in statistics], axis=0
    )
    return means


def _rounded(values: Float64[np.ndarray, " n"]) -> list[float]:
    return [round(value, DECIMALS) for value in values.tolist()]
