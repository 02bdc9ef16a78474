"""What a method's uncertainty is worth: rows of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float64

from qbrm.evaluation import (
    area,
    curve_points,
    decisions,
    deviation_bins,
    error_auroc,
    interval,
    oracle_risk,
    resampled_areas,
    resampled_aurocs,
    selective_risk,
)
from qbrm_lab.comparison.evaluate import EvaluationSet, Row
from qbrm_lab.evaluation.outcomes import Outcomes
from qbrm_lab.methods import Fitted
from qbrm_lab.responses import Features

DECIMALS = 6


def with_deviations(
    fitted: Fitted, features: Features, tests: Sequence[EvaluationSet], found: Sequence[Outcomes]
) -> list[Outcomes]:
    """The outcomes, together with the deviation of every pair's difference of rewards if the method predicts one."""
    if fitted.deviation is None:
        return list(found)
    rows = torch.from_numpy(np.unique(np.concatenate([test.rows() for test in tests])))
    variance = np.full(len(features.reward), np.nan)
    variance[rows] = fitted.deviation(features.rows(rows)).double().square().numpy()
    return [
        outcome._replace(deviation=np.sqrt(variance[test.items.pair_chosen] + variance[test.items.pair_rejected]))
        for test, outcome in zip(tests, found, strict=True)
    ]


def risk_coverage_rows(
    label: Row, test: EvaluationSet, methods: Mapping[str, Sequence[Outcomes]], references: Sequence[str]
) -> list[Row]:
    """Accuracy when abstaining on the least certain pairs, and the area under its complement; means over seeds.

    Args:
        label: columns that name the scenario.
        test: what was evaluated on.
        methods: each method's outcomes, seed by seed.
        references: methods that the others' areas are compared with, paired over prompts and seeds.
    """
    claimed = {name: _claims(seeds) for name, seeds in methods.items() if _claims(seeds)}
    resampled = {
        name: _resampled(test, [partial(resampled_areas, each) for each in seeds]) for name, seeds in claimed.items()
    }
    rows = {
        name: {**_about({**label, "method": name}, test, len(seeds), len(seeds[0])), **_curve(seeds)}
        for name, seeds in claimed.items()
    }
    for name, row in rows.items():
        row |= _ends(resampled[name])
        row["differences"] = [
            {
                "reference": reference,
                "difference": row["aurc"] - rows[reference]["aurc"],
                **_ends(resampled[name] - resampled[reference]),
            }
            for reference in references
            if reference in rows and reference != name
        ]
    return list(rows.values())


def deviation_rows(label: Row, test: EvaluationSet, seeds: Sequence[Outcomes]) -> list[Row]:
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
    bins = [deviation_bins(*each) for each in pairs]
    areas = [auroc for auroc in (error_auroc(*each) for each in pairs) if auroc is not None]
    measured = len(areas) == len(pairs)
    ends: Row = {"ci_low": None, "ci_high": None}
    if measured:
        ends = _ends(_resampled(test, [partial(resampled_aurocs, *each) for each in pairs]))
    row = {
        **_about(label, test, len(pairs), len(test.items.pair_item)),
        "auroc": float(np.mean(areas)) if measured else None,
        **ends,
        "deviation": _rounded(np.mean([each.deviation for each in bins], axis=0)),
        "error": _rounded(np.mean([each.error for each in bins], axis=0)),
    }
    return [row]


def _claims(seeds: Sequence[Outcomes]) -> list[Float64[np.ndarray, " pairs"]]:
    return [outcome.log_probability for outcome in seeds if outcome.log_probability is not None]


def _curve(seeds: Sequence[Float64[np.ndarray, " pairs"]]) -> Row:
    risk = np.mean([selective_risk(each) for each in seeds], axis=0)
    oracle = np.mean([oracle_risk(each) for each in seeds], axis=0)
    points = curve_points(len(risk))
    return {
        "aurc": area(risk),
        "excess": area(risk) - area(oracle),
        "coverage": _rounded(points / len(risk)),
        "accuracy": _rounded(1 - risk[points - 1]),
    }


def _ends(resampled: Float64[np.ndarray, " resamples"]) -> Row:
    low, high = interval(resampled)
    return {"ci_low": low, "ci_high": high}


def _about(label: Row, test: EvaluationSet, seeds: int, pairs: int) -> Row:
    return {**label, "test": test.test, "set": test.set, "seeds": seeds, "n": pairs}


def _resampled(test: EvaluationSet, statistics: Sequence[partial[np.ndarray]]) -> Float64[np.ndarray, " resamples"]:
    """The mean over seeds of a statistic of pairs, in each resample of the prompts."""
    prompt = test.items.prompt[test.items.pair_item]
    means: Float64[np.ndarray, " resamples"] = np.mean(
        [test.bootstrap.samples(statistic, prompt) for statistic in statistics], axis=0
    )
    return means


def _rounded(values: Float64[np.ndarray, " n"]) -> list[float]:
    return [round(value, DECIMALS) for value in values.tolist()]
