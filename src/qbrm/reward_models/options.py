"""Options for loading reward models."""

from __future__ import annotations

from typing import TypedDict


class RewardModelOptions(TypedDict, total=False):
    """How a reward model from a folder or the Hugging Face Hub is loaded.

    Attributes:
        revision: commit, tag or branch on the Hub; for a folder, the digest that it has to have.
        head: one of `qbrm.reward_models.heads.HEADS`; what the weights say if not given.
        embedding: ``last`` for the score layer's input, ``mean`` for that and the mean of the last layer over the
            response's tokens, ``layers`` for those and the mean of the layer at 2/3 of the depth; others as fractions
            of the depth, as in ``layers:0.5,0.67``. If not given, ``mean`` for decoders of transformers whose chat
            template marks answers by special tokens, else ``last``.
        template: ``chat`` (default) for the tokenizer's chat template, ``plain`` for prompt and response as they are.
        max_length: tokens of prompt and response together; 4,096, or fewer if the model takes fewer.
        dtype: number format of the weights: ``auto`` (default, as stored), ``float32``, ``bfloat16`` or ``float16``.
        device_map: as in transformers, such as ``auto``; the first GPU if not given, or the CPU if there is none.
        padding_side: ``right`` or ``left``; the tokenizer's if not given.
        token_budget: padded tokens per forward pass, halved for good whenever memory runs out; 16,384, or 2,048 on a
            CPU, if not given.
        trust_remote_code: whether Python code that comes with the model may run; False by default.
        output: index of the output that is the reward, of a model that has several.
        fold_system: whether system messages go to the beginning of the user turn that follows; False by default.
    """

    revision: str | None
    head: str | None
    output: int | None
    embedding: str | None
    fold_system: bool
    template: str
    max_length: int | None
    dtype: str
    device_map: str | None
    padding_side: str | None
    token_budget: int | None
    trust_remote_code: bool


class LoadOptions(TypedDict, total=False):
    """Options of :meth:`EnergyRewardModel.from_pretrained`, which describes them."""

    revision: str | None
    reward_model: str | None
    dtype: str | None
    device_map: str | None
    trust_remote_code: bool
