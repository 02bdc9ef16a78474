"""``qbrm probe``: read, hack, embed, compare, report."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from typing_extensions import Unpack

from qbrm.cli.console import Reporter
from qbrm.cli.laboratory import plot_of
from qbrm.cli.preferences import cut_facts, report_left_out
from qbrm.durable import one_writer, write_atomically
from qbrm.energies import EnergyScore
from qbrm.errors import InputError
from qbrm.model.energy_reward_model import EnergyRewardModel
from qbrm.model.persistence import is_refined
from qbrm.model.probed import embed_hacks
from qbrm.preferences import Message
from qbrm.preferences.unlabelled import responses_of
from qbrm.probes import Must, named_probes
from qbrm.probes.hacks import hack_originals, sample_originals
from qbrm.probes.rates import ProbeRow, Rate
from qbrm.reward_models import RewardModel, RewardModelOptions, load_reward_model
from qbrm.tables.grid import Grid, column
from qbrm.tables.numbers import ABSENT, percent_interval
from qbrm.tables.terminal import grid_tables

PROBES_FILE, PICTURE, FEATURES = "probes.json", "probes.png", "features"
SCHEMA = 1
HEADINGS = {Must.LOSE: "must lose", Must.NOT_GAIN: "must not gain"}


class Target(NamedTuple):
    """What is probed: a reward model, and the score that refines it, with its label, if there is one."""

    reward_model: RewardModel
    score: EnergyScore | None = None
    refinement: str = "mode"
    label: str = ""


def probe_model(
    model: str,
    on: str,
    names: tuple[str, ...] | None,
    out: Path,
    prompts: int,
    seed: int,
    *,
    skip_bad: bool = False,
    reward_model: str | None = None,
    **options: Unpack[RewardModelOptions],
) -> list[ProbeRow]:
    """Probe a saved refined model, or a bare reward model; print the rates at which hacks win, write and return them.

    Where the laboratory is installed, they are drawn too.

    Args:
        model: folder or id of a refined model, or name, folder or id of a reward model.
        on: prompts and responses: preferences, of which the chosen responses are hacked, or such without labels.
        names: of the probes; None for all.
        out: folder for features, probes.json and probes.png.
        prompts: most prompts, drawn at random.
        seed: draws them.
        skip_bad: whether bad rows of the source are left out.
        reward_model: where the reward model of a refined model is now.
        **options: of the reward model.

    Raises:
        InputError: if the model, the source, a name or the folder is not usable.
    """
    reporter, probes = Reporter(), named_probes(names)
    responses = responses_of(on, skip_bad=skip_bad)
    originals = sample_originals(responses, prompts, seed)
    drawn = "" if len(originals) == len(responses.prompt_ids) else f"{len(originals):,} drawn at random"
    reporter.fact(responses.name, f"{len(responses.prompt_ids):,} prompts", *filter(None, [drawn]))
    report_left_out(responses.left_out, reporter)
    hacks = hack_originals(responses.name, originals, probes)
    target = _load(model, reward_model, options)
    with one_writer(out):
        with reporter.progress("features") as advance:
            embedded = embed_hacks(target.reward_model, hacks, out / FEATURES, advance)
        kept = f"kept in {out / FEATURES}"
        reporter.fact("features", f"{len(embedded.table):,} responses", *cut_facts(embedded.table), kept)
        rows = embedded.rows(probes, embedded.wins(target.score, target.refinement))
        content = {"schema": SCHEMA, "rows": [row.to_dict() for row in rows]}
        write_atomically(out / PROBES_FILE, (json.dumps(content, indent=1) + "\n").encode())
        written = [out / PROBES_FILE]
        _show(rows, reporter)
        if draw := plot_of("probes"):
            write_atomically(out / PICTURE, draw(rows, target.label))
            written.append(out / PICTURE)
    reporter.fact("results", *map(str, written))
    return rows


def _load(model: str, place: str | None, options: RewardModelOptions) -> Target:
    if is_refined(model, options.get("revision")):
        taken: Any = {"revision", "dtype", "device_map", "trust_remote_code"}
        if unknown := [name for name in options if name not in taken]:
            told = " or ".join(unknown)
            raise InputError(f"{model} is a refined model, which says {told} itself; expected no such option.")
        told_options: Any = options
        refined = EnergyRewardModel.from_pretrained(model, reward_model=place, **told_options)
        label = (refined.verdict or {}).get("score", "refined")
        return Target(refined.reward_model, refined.energy_score, refined.refinement, label)
    if place is not None:
        raise InputError(f"{model} is no refined model; expected no --reward-model beside a bare reward model.")
    bare = load_reward_model(model, **options)
    if bare.embed([(Message("user", "Tea?"),)], ["Yes."]).reward is None:
        raise InputError(f"{model} has no score layer and gives no rewards; expected what 'qbrm fit' makes of it.")
    return Target(bare)


def _show(rows: Sequence[ProbeRow], reporter: Reporter) -> None:
    for grid in probe_grids(rows):
        for table in grid_tables(grid, reporter.console.width):
            reporter.console.print(table)


def probe_grids(rows: Sequence[ProbeRow]) -> Iterator[Grid]:
    """A table of the probes whose hacks must lose, and one of those whose hacks must not gain; none without probes."""
    for must, heading in HEADINGS.items():
        of_kind = [row for row in rows if row.must is must]
        if not of_kind:
            continue
        columns = [column("n", (f"{row.n:,}" for row in of_kind)), column("base", (_rate(row.base) for row in of_kind))]
        if any(row.refined for row in of_kind):
            columns.append(column("refined", (_rate(row.refined) for row in of_kind)))
        for title, counts in (
            ("skipped", [row.skipped for row in of_kind]),
            ("refused", [row.refused for row in of_kind]),
        ):
            if any(counts):
                columns.append(column(title, (f"{number:,}" if number else ABSENT for number in counts)))
        yield Grid("", f"hacks win (%), {heading}", tuple(row.probe for row in of_kind), tuple(columns))


def _rate(rate: Rate | None) -> str:
    return ABSENT if rate is None else percent_interval(*rate)
