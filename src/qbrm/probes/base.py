"""What a probe is: a known way to game a reward model, as a small change of a response."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from random import Random

from qbrm.preferences.base import Completion, Prompt, prompt_id


class Must(str, Enum):
    """What a hack must not do: a worse response has to lose, one that only looks different has no reason to gain."""

    LOSE = "lose"
    NOT_GAIN = "not-gain"


@dataclass(frozen=True)
class Answer:
    """A response with what a probe may take from around it.

    Attributes:
        prompt: the conversation up to the response.
        response: the response.
        others: responses to other prompts.
        random: seeded by probe and prompt alone, so that a hack is the same in every run.
    """

    prompt: Prompt
    response: str
    others: Sequence[str]
    random: Random

    @property
    def question(self) -> str:
        """The last message of the prompt."""
        return self.prompt[-1].content


@dataclass(frozen=True)
class Probe:
    """A known way to game a reward model.

    Attributes:
        name: as users type it.
        words: what it does to a response.
        must: what the hack must not do.
        hack: the changed response; the same text, or an empty one, where there is nothing to change.
    """

    name: str
    words: str
    must: Must
    hack: Callable[[Answer], str]

    def hacked(self, prompt: Prompt, response: str, others: Sequence[str] = ()) -> str | None:
        """The response after the probe; None if that leaves it as it was.

        A response of other messages than one of plain text, such as a tool call, is left as it is.

        Args:
            prompt: the conversation up to the response.
            response: the response.
            others: responses to other prompts, for probes that put one in its place.
        """
        if isinstance(response, Completion):
            return None
        random = Random(f"{self.name} {prompt_id(prompt)}")
        hacked = self.hack(Answer(prompt, response, others, random)).strip()
        return hacked if hacked and hacked != response.strip() else None
