"""``qbrm fit``: read, embed, choose, train, judge, save."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from typing_extensions import Unpack

from qbrm.cli.console import Advance, Reporter
from qbrm.cli.options import command_line
from qbrm.cli.preferences import cut_facts, report_preferences, report_refused, report_responses
from qbrm.durable import one_writer, write_atomically
from qbrm.evaluation.verdict import Verdict
from qbrm.features import FeatureTable
from qbrm.model.energy_reward_model import EnergyRewardModel
from qbrm.model.from_preferences import FEATURES, PreferenceFit
from qbrm.model.hardened import named_kinds
from qbrm.model.score_choice import Progress, ScoreChoice
from qbrm.preferences import preferences_of
from qbrm.preferences.unlabelled import responses_of
from qbrm.reward_models import RewardModelOptions, load_reward_model
from qbrm.selection import Choice, Guarantee
from qbrm.tables.grid import Column, Grid
from qbrm.tables.numbers import percent, three_decimals
from qbrm.tables.terminal import grid_tables

VERDICT = "verdict.json"


def fit_model(
    source: str,
    reward_model: str,
    named: ScoreChoice | None,
    out: Path,
    seed: int,
    *,
    skip_bad: bool,
    keep: str | None = None,
    harden: bool = False,
    **options: Unpack[RewardModelOptions],
) -> None:
    """Fit a model as :meth:`EnergyRewardModel.fit` does, show each step, and save the model with its verdict.

    Raises:
        InputError: if the source, the reward model or the folder is not usable.
        TrainingError: if training cannot go on.
    """
    reporter = Reporter()
    preferences = preferences_of(source, skip_bad=skip_bad)
    report_preferences(preferences, reporter)
    to_keep = None if keep is None else responses_of(keep, skip_bad=skip_bad)
    if to_keep is not None:
        report_responses(to_keep, reporter)
    model = load_reward_model(reward_model, **options)
    with one_writer(out), _bars(reporter) as follow:
        fit = PreferenceFit(
            preferences,
            named,
            out,
            seed,
            skip_bad=skip_bad,
            progress=follow,
            on_choice=lambda choice: _show_choice(choice, reporter, hardened=harden),
            keep=to_keep,
            harden=named_kinds(harden, seed),
        )
        parts, judged, refused = fit.run(model)
        report_refused(refused, reporter)
        cut = cut_facts(FeatureTable.without_checking(out / FEATURES))
        if cut:
            reporter.fact("features", *cut)
        if judged.guarantee is not None:
            reporter.fact("strength", *_guarantee(judged.guarantee, judged.verdict.strength))
        refined = EnergyRewardModel(*parts)
        refined.provenance = refined.provenance and replace(refined.provenance, command=command_line())
        refined.save_pretrained(out)
        write_atomically(out / VERDICT, (json.dumps(judged.verdict.to_dict(), indent=2) + "\n").encode())
    _show_verdict(judged.verdict, reporter)
    reporter.fact("model", str(out), f"serve it: qbrm serve {out}")


@contextmanager
def _bars(reporter: Reporter) -> Iterator[Progress]:
    """A progress bar for each step, one after the other; a line with the time when a step is done."""
    with ExitStack() as stack:
        current: list[tuple[str, Advance, float]] = []

        def follow(step: str, done: int, total: int) -> None:
            if not current or current[-1][0] != step:
                stack.close()
                current.append((step, stack.enter_context(reporter.progress(step)), time.monotonic()))
            _, advance, start = current[-1]
            advance(done, total)
            if done == total:
                stack.close()
                reporter.fact(step, f"{total:,} {_UNITS.get(step, 'steps')}", f"{time.monotonic() - start:,.0f} s")

        yield follow


_UNITS = {
    "features": "responses",
    "keep": "responses",
    "harden": "responses",
    "probes": "responses",
    "choosing": "trainings",
    "judging": "trainings",
    "training": "passes",
}


def _show_choice(choice: Choice, reporter: Reporter, *, hardened: bool) -> None:
    """Every candidate's loss on prompts that trained and tuned nothing of it; hardened, that of hacks is part of it."""
    losses, errors = choice.loss.tolist(), choice.error.tolist()
    behind = [f"{loss - min(losses):+.4f} ± {error:.4f}" for loss, error in zip(losses, errors, strict=True)]
    candidates = [judged.candidate for judged in choice.judged]
    columns = [
        Column(
            "log-loss with hacks" if hardened else "log-loss",
            tuple(map(three_decimals, losses)),
            frozenset({losses.index(min(losses))}),
        ),
        Column("behind the best", tuple(behind)),
        Column("", tuple("chosen" if candidate == choice.candidate else "" for candidate in candidates)),
    ]
    _print(Grid("", "cross-validated", tuple(candidate.name for candidate in candidates), tuple(columns)), reporter)


def _guarantee(guarantee: Guarantee, applied: float) -> tuple[str, str]:
    shown = f"shown on {guarantee.prompts:,} prompts not to lose {100 * guarantee.margin:.0f} point"
    how = "cross-fitted" if guarantee.cross_fitted else f"at {1 - guarantee.level:.0%}"
    return f"{applied:g} of the correction", f"{shown} ({how})" if guarantee.strength else "none is " + shown


def _show_verdict(verdict: Verdict, reporter: Reporter) -> None:
    saved = {} if verdict.score in verdict.competitors else {f"refined ({verdict.score})": verdict.refined}
    measures = {"base": verdict.base, **saved, **verdict.competitors}
    of = list(measures.values())
    columns = [
        Column("accuracy", tuple(percent(measured.accuracy) for measured in of)),
        Column("log-loss", tuple(three_decimals(measured.nll) for measured in of)),
        Column("ECE", tuple(three_decimals(measured.ece) for measured in of)),
    ]
    _print(Grid("", "on the test", tuple(measures), tuple(columns)), reporter)
    reporter.console.print(verdict.sentence, markup=False, style="bold")
    if verdict.probes is not None:
        reporter.console.print(verdict.probes.sentence, markup=False)


def _print(grid: Grid, reporter: Reporter) -> None:
    for table in grid_tables(grid, reporter.console.width):
        reporter.console.print(table)
