"""Scenarios as studies run them: the tables of every finished one are kept, and a rerun reads them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from qbrm.cli.console import Reporter
from qbrm_lab.comparison.compare import Prepared, run_scenario
from qbrm_lab.methods.base import Method
from qbrm_lab.report.numbers import duration
from qbrm_lab.results import Tables
from qbrm_lab.studies.cache import cached, preferences_digest, settings_of


def scenario_tables(prepared: Prepared, scenario: str, methods: Mapping[str, Method], reporter: Reporter) -> Tables:
    """One scenario's tables with all seeds and methods, as `results.json` has them.

    They are kept in `scenarios/` of the comparison's folder: the same question is answered from there. A scenario that
    was interrupted goes on with its training states.

    Args:
        prepared: what all scenarios share.
        scenario: one of `VARIANTS`.
        methods: to compare, by name.
        reporter: shows progress.
    """
    settings = prepared.settings
    path = settings.out / "scenarios" / f"{scenario}.json"
    start = time.perf_counter()
    tables = cached(
        path,
        _question(prepared, scenario, methods),
        Tables,
        lambda: run_scenario(prepared, scenario, methods, reporter).tables(),
    )
    took = duration(time.perf_counter() - start)
    reporter.fact(scenario, f"{settings.seeds} seeds", f"{len(methods)} methods", f"{took} (kept in {path})")
    return tables


def _question(prepared: Prepared, scenario: str, methods: Mapping[str, Method]) -> dict[str, Any]:
    settings, sources = prepared.settings, prepared.sources
    return {
        "scenario": scenario,
        "seeds": list(range(settings.seed, settings.seed + settings.seeds)),
        "methods": {name: settings_of(method) for name, method in methods.items()},
        "reward_model": prepared.model.identity.to_dict(),
        "tests": list(sources.tests),
        "data": preferences_digest([sources.train, *sources.tests.values()]),
    }
