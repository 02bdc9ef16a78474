"""How an exported reward model finds the response in the tokens of a text, tried out before it is written."""

from __future__ import annotations

from itertools import product
from typing import Any

from qbrm.errors import InputError
from qbrm.model.export.modeling_qbrm import QBRMConfig, find_response
from qbrm.preferences import Message
from qbrm.reward_models.marks import PROMPTS, blanks_of, marks_of
from qbrm.reward_models.sequence_classifier import ClassifierParts
from qbrm.reward_models.template import ChatTemplate

TRIED_PROMPTS = (*PROMPTS, (Message("user", "  "),), (Message("user", "अ\n\n"), Message("system", "Answer.")))
# The empty one first: as the second of a pair of texts it is none, and nothing is told apart.
TRIED_RESPONSES = (
    *("", " ", "Yes", "7", "**No**", "\n\nyes\n", "\t(so) ", "«Да»", "你好。\n", "🙂", "assistant\n", "'s"),
    *("\tx = 1\n\n\ty", "One.\n\nTwo:\n- three\n"),
)


def found_by(parts: ClassifierParts, embedding: str) -> dict[str, Any]:
    """What the exported configuration says of how to find a response: ``header``, ``preamble``, ``ending``, ``blanks``.

    Args:
        parts: of the reward model.
        embedding: by its name, for messages.

    Raises:
        InputError: if the exported code would take other tokens for the response than the reward model's own reading.
    """
    marks = marks_of(parts.template)
    if marks is None:
        raise _not_found(embedding, "does not write the same special tokens around every response")
    chat = isinstance(parts.template, ChatTemplate)
    found = {**marks._asdict(), "blanks": blanks_of(parts.template.tokenizer) if chat else []}
    config = QBRMConfig(**found)
    for prompt, response in product(TRIED_PROMPTS, TRIED_RESPONSES if chat else TRIED_RESPONSES[1:]):
        if parts.template.refusal(prompt, response) is not None:
            continue
        tokens = parts.template.tokens(prompt, response)
        if list(range(len(tokens.ids)))[find_response(tokens.ids, config)] != tokens.answer:
            raise _not_found(embedding, f"does not tell by its tokens where the response {response!r} is")
    return found


def _not_found(embedding: str, why: str) -> InputError:
    return InputError(
        f"the score reads the embedding '{embedding}', with means over the response's tokens, and the template {why}; "
        "expected to be refitted with --embedding last, or to be served with qbrm serve."
    )
