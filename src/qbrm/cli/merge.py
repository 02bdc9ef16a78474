"""``qbrm merge``: read, merge, save, and say what is not known of the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from typing_extensions import Unpack

from qbrm.cli.console import Reporter
from qbrm.cli.options import command_line, listed
from qbrm.cli.preferences import read_source
from qbrm.durable import one_writer
from qbrm.errors import InputError
from qbrm.model.energy_reward_model import EnergyRewardModel
from qbrm.model.merge import EQUAL, FAMILIARITY, LEFT_OUT, NOT_MERGED, Weights, merge_on, merge_parts
from qbrm.model.persistence import load_without_weights
from qbrm.reward_models import LoadOptions

VALIDATION = "validation"


def merge_models(
    models: Sequence[str],
    out: Path,
    weights: str | None,
    on: str | None,
    *,
    skip_bad: bool,
    **options: Unpack[LoadOptions],
) -> None:
    """Merge saved models as :func:`qbrm.merge` does, and save the result.

    Raises:
        InputError: if models, weights, preferences or the folder are not usable.
    """
    told = None if weights is None else _weights(weights)
    if on is not None and weights is not None:
        raise InputError(f"--weights {weights} with --on, which sets them; expected one of the two.")
    if on is None and (options or skip_bad):
        raise InputError("options of the reward model or of preferences without --on; expected --on SOURCE with them.")
    if any(Path(model).resolve() == out.resolve() for model in models):
        raise InputError(f"--out {out} is one of the models; expected another folder.")
    reporter = Reporter()
    parts = [load_without_weights(model) for model in models]
    for model, of_one in zip(models, parts, strict=True):
        reporter.fact(model, type(of_one.score).__name__, f"on {of_one.reward_model.identity}")
    with one_writer(out):
        if on is None:
            merged = merge_parts(parts, models, told)
        else:
            parts[0] = EnergyRewardModel.from_pretrained(models[0], **options).parts()
            preferences = read_source(on, reporter, skip_bad=skip_bad)
            with reporter.progress("features") as advance:
                merged = merge_on(parts, models, preferences, out / VALIDATION, advance, skip_bad=skip_bad)
        assert merged.provenance is not None
        provenance = replace(merged.provenance, command=command_line())
        EnergyRewardModel(*merged._replace(provenance=provenance)).save_pretrained(out)
    for what in (LEFT_OUT, NOT_MERGED):
        if what in provenance.settings:
            reporter.fact(what, str(provenance.settings[what]))
    reporter.fact("weights", str(provenance.settings["weights"]))
    reporter.fact("verdict", "none: what was merged was not measured", "qbrm evaluate does, on preferences of your own")
    reporter.fact("model", str(out))


def _weights(text: str) -> Weights:
    """What ``--weights`` says: a name, or numbers separated by commas."""
    if text in (EQUAL, FAMILIARITY):
        return text
    try:
        return [float(number) for number in listed("--weights", text)]
    except ValueError:
        raise InputError(f"--weights {text!r}; expected equal, familiarity, or numbers, as in 0.3,0.7.") from None
