"""Refined reward models that were fitted apart, as one."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, TypeAlias

import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax

from qbrm.data.pairs import PairData
from qbrm.energies import Product
from qbrm.energies.boltzmann import BoltzmannScore
from qbrm.errors import InputError
from qbrm.features.build import Progress
from qbrm.features.embed import embed
from qbrm.features.stream import Share, StreamedPairs, open_sources
from qbrm.fitting.calibration import MOST_PAIRS, calibrate, mean_loss
from qbrm.fitting.objectives import PreferenceLikelihood
from qbrm.model.energy_reward_model import EnergyRewardModel
from qbrm.model.from_preferences import Preferences
from qbrm.model.model_card import DataPart, Provenance
from qbrm.model.persistence import Parts
from qbrm.preferences import PreferenceSet, preferences_of
from qbrm.preferences.digest import prompt_digests
from qbrm.preferences.quoting import one_line
from qbrm.reward_models import RewardModel
from qbrm.reward_models.encoder_reward_model import TRUNK

EQUAL: Literal["equal"] = "equal"
FAMILIARITY: Literal["familiarity"] = "familiarity"
Weights: TypeAlias = "Literal['equal', 'familiarity'] | Sequence[float]"
LEFT_OUT, NOT_MERGED = "left out", "not merged"
OWN_LAYER = "; each fit of a model without a score layer trains a layer of its own"


def merge(
    models: Sequence[EnergyRewardModel],
    weights: Weights | None = None,
    *,
    on: Preferences | None = None,
) -> EnergyRewardModel:
    """Merge models that were fitted apart to one reward model: the geometric mean of their densities, normalised.

    No data of theirs is needed. What came of it is not measured: it has no verdict. The models stay as they are.
    Machines across candidates are not merged; the settings in the result's provenance name the models that had one.

    Args:
        models: two or more, of one reward model.
        weights: ``equal``; ``familiarity``, where each counts as far as the embedding is like what it was trained on,
            by the densities of their gates; or a number for each. None for ``familiarity`` where all have a gate, else
            ``equal``.
        on: preferences that set constant weights and the temperature by log-loss, in the place of `weights`. Those on
            prompts that a model is known to have trained on are left out and counted in the provenance.

    Raises:
        InputError: if the models are of different reward models, there is only one, one is not a Boltzmann machine that
            is summed exactly, or weights or preferences do not fit, or no preference is left.
    """
    labels = [f"model {number}" for number in range(1, len(models) + 1)]
    parts = [model.parts() for model in models]
    if on is None:
        return EnergyRewardModel(*merge_parts(parts, labels, weights))
    with TemporaryDirectory() as folder:
        return EnergyRewardModel(*merge_on(parts, labels, preferences_of(on), Path(folder)))


def merge_parts(models: Sequence[Parts], labels: Sequence[str], weights: Weights | None = None) -> Parts:
    """Merge as :func:`merge` does, without loaded reward models; `labels` name the models in messages and the card."""
    _check_one_reward_model([model.reward_model for model in models], labels)
    machines: list[BoltzmannScore] = [copy.deepcopy(model.score) for model in models]  # type: ignore[misc]
    product = Product(machines, _told(machines, weights))
    refinements = {model.refinement for model in models}
    known = [model.training_prompts for model in models]
    return Parts(
        models[0].reward_model,
        product.eval(),
        refinements.pop() if len(refinements) == 1 else "mean",
        Provenance(_data(models, labels), _settings(product, models, labels), merged=tuple(labels)),
        None if any(prompts is None for prompts in known) else np.unique(np.concatenate(known)),  # type: ignore[arg-type]
    )


def merge_on(
    models: Sequence[Parts],
    labels: Sequence[str],
    preferences: PreferenceSet,
    folder: Path,
    progress: Progress | None = None,
    *,
    skip_bad: bool = False,
) -> Parts:
    """Merge with the weights and the temperature of least log-loss on preferences, whose features go to `folder`.

    Of more than 4,096 pairs, as many random ones are enough for a few numbers.
    """
    merged = merge_parts(models, labels, EQUAL)
    product, provenance = merged.score, merged.provenance
    assert isinstance(product, Product)
    assert provenance is not None
    left = _without_training_prompts(preferences, models)
    _, taken = embed(left, folder, lambda: merged.reward_model, progress=progress, skip_bad=skip_bad)
    pairs = StreamedPairs(tuple(open_sources([folder])), Share(0.0, 1.0, 0)).load()
    product.weights = weights_by_validation(product, pairs)
    calibrate([product], [pairs])
    role = DataPart("sets weights and temperature", taken.name, len(taken.prompt_ids), pairs.n_pairs)
    settings = {**_settings(product, models, labels), "temperature": f"set on {taken.name}"}
    known_prompts = len(preferences.prompt_ids) - len(left.prompt_ids)
    if known_prompts:
        settings[LEFT_OUT] = f"{known_prompts:,} prompts of {preferences.name} that a model was trained on"
    known = merged.training_prompts
    if known is not None:
        known = np.union1d(known, prompt_digests(taken.prompt_ids))
    provenance = Provenance([*provenance.data, role], settings, merged=tuple(labels))
    return merged._replace(provenance=provenance, training_prompts=known)


def _without_training_prompts(preferences: PreferenceSet, models: Sequence[Parts]) -> PreferenceSet:
    """The preferences on prompts that no model is known to have trained on, where its rewards would look too good."""
    known = [model.training_prompts for model in models if model.training_prompts is not None]
    prompts = preferences.prompt_ids
    trained = np.isin(prompt_digests(prompts), np.concatenate([np.zeros(0, np.uint64), *known]))
    if trained.all():
        raise InputError(
            f"the models were trained on all {len(prompts):,} prompts of {one_line(preferences.name)}; expected "
            "preferences on other prompts to set weights on."
        )
    return preferences.of_prompts([prompt for prompt, seen in zip(prompts, trained, strict=True) if not seen])


def weights_by_validation(product: Product, pairs: PairData) -> list[float]:
    """The constant weights of least log-loss on validation pairs, their temperatures as they are."""
    few = pairs.sample(min(MOST_PAIRS, pairs.n_pairs))

    def loss(free: Sequence[float]) -> float:
        product.weights = softmax([0.0, *free]).tolist()
        return mean_loss([product], PreferenceLikelihood(), [few])

    start = np.zeros(len(product.weights) - 1)
    best = minimize(loss, start, method="Nelder-Mead", options={"xatol": 0.02, "fatol": 1e-5}).x
    weights: list[float] = softmax([0.0, *best]).tolist()
    return weights


def _check_one_reward_model(models: Sequence[RewardModel], labels: Sequence[str]) -> None:
    """Refuse models of different reward models; a folder may have another name, its digest tells."""
    for model, label in zip(models[1:], labels[1:], strict=True):
        first, other = models[0].identity, model.identity
        differ = [key for key, value in first.to_dict().items() if other.to_dict()[key] != value and key != "name"]
        if differ:
            layers = OWN_LAYER if first.name == other.name and first.name.endswith(TRUNK) else ""
            raise InputError(
                f"{labels[0]} refines {first}, {label} refines {other}: {', '.join(differ)} "
                f"{'differs' if len(differ) == 1 else 'differ'}; expected models of one reward model{layers}."
            )


def _told(machines: Sequence[BoltzmannScore], weights: Weights | None) -> Sequence[float] | None:
    """The argument of `Product`."""
    if weights is None:
        gated = all(isinstance(machine, BoltzmannScore) and machine.gate is not None for machine in machines)
        weights = FAMILIARITY if gated else EQUAL
    if isinstance(weights, str):
        return None if weights == FAMILIARITY else [1.0] * len(machines)
    return weights


def _data(models: Sequence[Parts], labels: Sequence[str]) -> list[DataPart]:
    return [
        DataPart(f"{label}: {part.role}", part.name, part.prompts, part.pairs)
        for model, label in zip(models, labels, strict=True)
        for part in (model.provenance.data if model.provenance else ())
    ]


def _settings(product: Product, models: Sequence[Parts], labels: Sequence[str]) -> dict[str, str]:
    """What was merged, with which weights, and what of each was measured: its own verdict."""
    shares = ", ".join(f"{weight:.3g}" for weight in product.weights)
    verdicts = {
        f"verdict on {label} alone": str(model.provenance.verdict["sentence"])
        for model, label in zip(models, labels, strict=True)
        if model.provenance is not None and model.provenance.verdict is not None
    }
    weights = "by familiarity" if product.by_familiarity else shares
    choosing = [label for model, label in zip(models, labels, strict=True) if model.candidates is not None]
    not_merged = {NOT_MERGED: f"the machine across candidates of {', '.join(choosing)}"} if choosing else {}
    return {"weights": weights, "temperature": "each machine's own, not set again", **not_merged, **verdicts}
