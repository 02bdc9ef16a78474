"""Does refinement hold when the base is stronger? All scenarios again, on an encoder fine-tuned end to end."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from qbrm.cli.console import Reporter
from qbrm.data.pairs import PairData
from qbrm.features import Key
from qbrm.fitting import Epoch, Training
from qbrm.fitting.trunk import fit_trunk
from qbrm.model.training_prompts import write_training_prompts
from qbrm.preferences import PreferenceSet, Prompt, SetName
from qbrm.preferences.digest import prompt_digests
from qbrm.reward_models import load_reward_model
from qbrm.reward_models.encoder_reward_model import EncoderRewardModel
from qbrm.reward_models.fine_tuned import save_fine_tuned
from qbrm.reward_models.sentence_encoder import SentenceEncoder
from qbrm.reward_models.trunk import Trunk
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.comparison.compare import Prepared, embed, prepare
from qbrm_lab.comparison.one_seed import SETS
from qbrm_lab.comparison.records import Records, results_of
from qbrm_lab.evaluation.outcomes import is_correct
from qbrm_lab.methods.base import BRADLEY_TERRY
from qbrm_lab.report import write_report
from qbrm_lab.responses import Responses
from qbrm_lab.results import Fact, Tables
from qbrm_lab.results.facts import EncoderFineTuned, Remark, SetAccuracy
from qbrm_lab.reward_models.fine_tuning import FineTuningSettings, fine_tune
from qbrm_lab.scenarios import SCENARIOS, VARIANTS, Roles
from qbrm_lab.studies.scenarios import scenario_tables

FOLDER = "fine-tuned"
# Scenarios whose reward model learns from the same preferences share one. The scenario that names it comes last, as the
# table of features keeps the pairs of the last. The encoder that takes longest comes last.
SCENARIOS_OF: Mapping[str, tuple[str, ...]] = {
    "fresh": (*SCENARIOS["small"], "fresh"),
    "shift": ("shift",),
    "noise": ("noise",),
    "same": ("same",),
}
METHODS = (
    *("length", "base", "base:tempered"),
    *("mlp", "mlp:ensemble=5", "mlp:gate", "mlp:gate,members=5", "gaussian", "quantile"),
    *("ebrm", "rbm", "sqrbm", "sqrbm:members=5", "sqrbm:gate", "sqrbm:gate,members=5", "qbm"),
)
REMARKS = (
    "One encoder is fine-tuned per set of preferences that a reward model learns from, at the first seed's split. That "
    "split holds for all seeds, so that no score is refined, chosen or tested on a prompt that its encoder was trained "
    "on (except in the scenario same, which is about just that); seeds vary the scores' initial weights and shuffling.",
    "base:mean, base:worst and base:uncertainty are left out: they would take four more fine-tuned encoders each.",
)


def study_fine_tuned(
    settings: ComparisonSettings,
    reporter: Reporter,
    methods: tuple[str, ...] = METHODS,
    fine_tuning: FineTuningSettings = FineTuningSettings(),  # noqa: B008
) -> Path:
    """Fine-tune the sentence encoder for every scenario, and compare the methods that refine its rewards.

    Writes `fine-tuned/results.json`, a report and a folder for every fine-tuned reward model to `settings.out`. The
    same call continues after the last whole epoch, shard or training.

    Args:
        settings: as for :func:`~qbrm_lab.studies.everything.study_everything`, which also says what is raised.
        reporter: shows progress.
        methods: names of the methods to compare.
        fine_tuning: how the encoders are trained.

    Returns:
        The path of the report.
    """
    frozen = prepare(settings, reporter)
    selected = replace(settings, methods=methods).selected_methods()
    out = settings.out / FOLDER
    tables: list[Tables] = []
    facts: list[Fact] = [Remark(sentence=sentence) for sentence in (*REMARKS, _described(fine_tuning))]
    for name, scenarios in SCENARIOS_OF.items():
        prepared, training, fact = _fine_tuned(frozen, name, out / name, fine_tuning, reporter)
        facts.append(fact)
        tables += [scenario_tables(prepared, scenario, selected, reporter) for scenario in scenarios]
        of_base = Records(scenarios[-1], [])
        of_base.add_training("base", settings.seed, training, BRADLEY_TERRY)
        tables.append(of_base.tables())
    return write_report(results_of(tables, settings.command, frozen.sources, facts), out)


def _fine_tuned(
    frozen: Prepared, name: str, out: Path, settings: FineTuningSettings, reporter: Reporter
) -> tuple[Prepared, Training, EncoderFineTuned]:
    """Fine-tune on what a scenario has for the reward model, then embed what scores learn from and are tested on."""
    seed = frozen.settings.seed
    roles = VARIANTS[name].share_out(frozen.sources.train, seed)
    pairs, validation = training_data(frozen, roles)
    # Training moves the directions, so that their cosine no longer says what it said of the frozen encoder.
    checkpoint = out / "training" / "frozen.safetensors"
    trunk, _ = fit_trunk(pairs, validation, seed, direction_dim=None, checkpoint=checkpoint)
    frozen_trunk = copy.deepcopy(trunk)
    encoder = SentenceEncoder(settings.max_length)
    training = fine_tune(
        encoder,
        trunk,
        _texts(frozen),
        pairs,
        validation,
        settings,
        seed,
        checkpoint=out / "training" / "fine-tuning.safetensors",
        on_epoch=lambda epoch: _tell(name, epoch, reporter),
    )
    folder = out / "reward-model"
    save_fine_tuned(folder, encoder, trunk)
    seen = roles.reward_model.prompt_ids + roles.reward_model_validation.prompt_ids
    write_training_prompts(folder, prompt_digests(seen))
    prepared = _prepared(frozen, roles, folder, out, reporter)
    fact = EncoderFineTuned(
        scenario=name,
        pairs=pairs.n_pairs,
        seconds=training.seconds,
        epoch=training.best,
        epochs=settings.epochs,
        accuracies=_accuracies(frozen, frozen_trunk, prepared),
    )
    reporter.fact("fine-tuned", fact.sentence)
    return prepared, training, fact


def training_data(frozen: Prepared, roles: Roles) -> tuple[PairData, PairData]:
    """Training and validation pairs of the reward model over the frozen vectors, labels as the scenario has them."""
    vectors = torch.from_numpy(frozen.embedded.embedding)
    nothing = torch.zeros(len(vectors))
    parts = roles.reward_model, roles.reward_model_validation
    pairs, validation = (
        frozen.responses.pairs(part, vectors, nothing).with_flipped_labels(roles.flipped, frozen.settings.seed)
        for part in parts
    )
    return pairs, validation


def _prepared(frozen: Prepared, roles: Roles, folder: Path, out: Path, reporter: Reporter) -> Prepared:
    model = load_reward_model(str(folder))
    needed = [roles.refinement, roles.validation, *frozen.sources.tests.values()]
    responses = Responses(needed)
    table, features = embed(model, needed, out / "features", reporter)
    settings = replace(frozen.settings, out=out)
    return Prepared(settings, frozen.sources, responses, model, table.rows(responses.keys), features, fine_tuned=True)


def _accuracies(frozen: Prepared, trunk: Trunk, prepared: Prepared) -> tuple[SetAccuracy, ...]:
    """Accuracy on every test set of the frozen encoder's rewards and of the fine-tuned one's."""
    before = EncoderRewardModel(frozen.model, trunk).embed_vectors(frozen.embedded.embedding).reward
    after = prepared.embedded.reward
    assert before is not None
    assert after is not None
    return tuple(
        SetAccuracy(
            set=set_name,
            frozen=_accuracy(frozen.responses, test, set_name, before),
            fine_tuned=_accuracy(prepared.responses, test, set_name, after),
        )
        for test in frozen.sources.tests.values()
        for set_name in SETS
        if any(preference.set == set_name for preference in test)
    )


def _accuracy(
    responses: Responses, test: PreferenceSet, set_name: SetName, reward: Float32[np.ndarray, " responses"]
) -> float:
    items = responses.items(test, set_name)
    assert items is not None
    return float(is_correct(items, reward).mean())


def _texts(frozen: Prepared) -> list[tuple[Prompt, str]]:
    """Prompt and response of every row."""
    known: dict[Key, tuple[Prompt, str]] = {}
    for part in (frozen.sources.train, *frozen.sources.tests.values()):
        known |= part.responses()
    return [known[key] for key in frozen.responses.keys]


def _described(settings: FineTuningSettings) -> str:
    return (
        f"Fine-tuning: Bradley-Terry loss, {settings.epochs} epoch(s), {settings.batch_pairs} pairs a step, learning "
        f"rates {settings.encoder_learning_rate:g} (encoder, nothing frozen) and {settings.learning_rate:g} (trunk, "
        f"which starts from the one trained on the frozen encoder), texts cut after {settings.max_length} tokens; the "
        "frozen encoder reads 256. The epoch is chosen on validation, the frozen encoder included."
    )


def _tell(name: str, epoch: Epoch, reporter: Reporter) -> None:
    loss = f"loss {epoch['loss']:.4f}" if "loss" in epoch else "before fine-tuning"
    validation = f"validation loss {epoch['validation_loss']:.4f}"
    reporter.fact(f"fine-tuning, {name}", f"epoch {int(epoch['epoch'])}", loss, validation)
