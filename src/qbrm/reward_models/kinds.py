"""What checkpoints hold that is no sequence classifier, in words, before their weights are read."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from qbrm.errors import InputError
from qbrm.reward_models.checkpoint import Checkpoint
from qbrm.reward_models.heads import GATED_LAYER, LAYER_NAMES

VALUE_HEAD = re.compile(r"(^|\.)v_head\.summary\.")
WRITERS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


def has_score_layer(tensors: Iterable[str]) -> bool:
    """Whether tensors are named as those of score layers are."""
    return any({*LAYER_NAMES, GATED_LAYER} & set(tensor.split(".")) for tensor in tensors)


def require_score_layer(checkpoint: Checkpoint, tensors: Collection[str]) -> None:
    """Refuse a checkpoint that is known to be of another kind, and say of which.

    Args:
        checkpoint: of a model that a class of transformers builds.
        tensors: names of its tensors and, where an adapter comes on top, of the adapter's.

    Raises:
        InputError: if there is no layer that gives one reward for a text.
    """
    name, architecture = checkpoint.name, checkpoint.architecture
    if any(map(VALUE_HEAD.search, tensors)):
        raise InputError(
            f"{name} is a value-head model of TRL (AutoModelForCausalLMWithValueHead: v_head.summary), which values "
            "every token; expected a sequence classifier: save one with AutoModelForSequenceClassification, "
            "num_labels=1 and v_head.summary.weight as its score.weight."
        )
    if architecture.endswith("ForTokenClassification"):
        raise InputError(
            f"{name} is a {architecture}, which scores tokens or steps (a process reward model); expected a sequence "
            "classifier, which scores whole texts."
        )
    if has_score_layer(tensors) or architecture.endswith("ForSequenceClassification"):
        return  # what is missing or too many is named once the model is built
    if architecture.endswith(WRITERS):
        raise InputError(
            f"{name} is a language model ({architecture}): its checkpoint lacks score.weight and the like; expected a "
            "sequence classifier with a trained score head. A judge that writes its verdict gives no embedding."
        )
    raise InputError(
        f"{name}{f' ({architecture})' if architecture else ''} has no score head: no tensor of its checkpoint is "
        f"under {', '.join(LAYER_NAMES)}; expected a sequence classifier with a trained score head."
    )
