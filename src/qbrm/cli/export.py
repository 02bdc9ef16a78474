"""``qbrm export``: features or a refined model, in the form that other programs read."""

from __future__ import annotations

from pathlib import Path

from typing_extensions import Unpack

from qbrm.cli.console import Reporter
from qbrm.errors import InputError
from qbrm.model import EnergyRewardModel
from qbrm.model.export.classifier import export_classifier
from qbrm.model.export.ebrm import export_ebrm
from qbrm.reward_models import LoadOptions


def export_features(source: Path, file: Path, seed: int, **options: Unpack[LoadOptions]) -> None:
    """Write features as the published EBRM code reads them, and say what was written.

    Raises:
        InputError: if the source is not usable, the file cannot be written, or there are options of another format.
    """
    if options:
        given = ", ".join(f"--{name.replace('_', '-')}" for name in options)
        raise InputError(f"format ebrm-pt takes no {given}; expected --format transformers with such options.")
    reporter = Reporter()
    with reporter.progress("features") as advance:
        exported = export_ebrm(source, file, seed, lambda step, done, total: advance(done, total))
    reporter.fact("features", str(exported.features))
    reporter.fact("export", f"{exported.pairs:,} pairs", f"embedding size {exported.dim}", str(file))


def export_model(model: str, folder: Path, **options: Unpack[LoadOptions]) -> None:
    """Write a refined model as a sequence classifier of transformers, and say how it is loaded.

    Raises:
        InputError: if the model cannot be loaded or exported, or the folder not be written.
    """
    reporter = Reporter()
    refined = EnergyRewardModel.from_pretrained(model, **options)
    exported = export_classifier(refined, folder)
    needs = "with trust_remote_code=True" if exported.remote_code else "without code of its own"
    reporter.fact("reward model", str(refined.reward_model.identity))
    reporter.fact("export", f"loads {needs}", str(folder))
    takes = {"conversation": "conversations, by its chat template", "pair": "pairs of prompt and response"}
    reporter.fact("takes", takes.get(exported.takes, "prompt and response as one text, a blank line between"))
