"""Parse text that a chat template wrote back into messages."""

from __future__ import annotations

import re

from qbrm.model.energy_reward_model import PromptLike

ROLES = {"model": "assistant", "human": "user"}

# One pattern for each family of templates. Every pattern that begins to match also ends, at the latest with the text:
# the time stays proportional to the text, whatever a client sends.
TURNS = (
    re.compile(r"<\|im_start\|>(\w+)\n(.*?)(?:<\|im_end\|>|(?=<\|im_start\|>)|\Z)", re.DOTALL),  # ChatML: Qwen, Yi
    re.compile(r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\n\n(.*?)(?:<\|eot_id\|>|\Z)", re.DOTALL),  # Llama 3
    re.compile(r"<start_of_turn>(\w+)\n(.*?)(?:<end_of_turn>|\Z)", re.DOTALL),  # Gemma
    re.compile(r"<\|(system|user|assistant)\|>\n?(.*?)(?:<\|end\|>|</s>|(?=<\|)|\Z)", re.DOTALL),  # Phi, Zephyr, OLMo
)
# What closes a turn belongs to the template, not to the response.
CLOSING = re.compile(r"(?:<\|[^<>|\s]+\|>|<｜[^<>｜]+｜>|</s>|<eos>|<pad>|<end_of_turn>|\[PAD\])\Z")
LONGEST_MARK = 64
# What may stand before a prompt: padding and beginning-of-text.
PADDING = re.compile(r"(?:<[^<>\s]+>|\[PAD\])*")


def read_markup(prompt: str) -> PromptLike:
    """The messages of a prompt that a chat template wrote; a prompt without its marks is one turn of the user.

    A last turn of the assistant is what the template writes to ask for an answer, and is left out.
    """
    turns = _turns(prompt)
    if turns and turns[-1][0] == "assistant":
        turns.pop()
    return [{"role": role, "content": content} for role, content in turns] or prompt


def strip_end(response: str) -> str:
    """The response without the marks that end it."""
    end = len(response)
    while True:
        tail = response[max(0, end - 2 * LONGEST_MARK) : end]
        mark = CLOSING.search(tail.rstrip())
        if mark is None:
            return response[:end]
        end -= len(tail) - mark.start()


def _turns(prompt: str) -> list[tuple[str, str]]:
    for pattern in TURNS:
        if turns := pattern.findall(prompt):
            return [(ROLES.get(role, role), content.strip()) for role, content in turns]
    return _instructions(prompt)


def _instructions(prompt: str) -> list[tuple[str, str]]:
    """``[INST] question [/INST] answer``, as Llama 2 and Mistral write it, with the system's text in a question."""
    turns: list[tuple[str, str]] = []
    for part in prompt.split("[INST]")[1:]:
        question, _, answer = part.partition("[/INST]")
        if "<</SYS>>" in question:
            system, _, question = question.partition("<</SYS>>")
            turns.append(("system", system.replace("<<SYS>>", "").strip()))
        turns.append(("user", question.strip()))
        if answer := answer.strip().removesuffix("<s>").rstrip().removesuffix("</s>").strip():
            turns.append(("assistant", answer))
    return turns
