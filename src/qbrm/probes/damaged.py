"""What was said is lost, in part or as a whole."""

from __future__ import annotations

from qbrm.probes.base import Answer
from qbrm.probes.sentences import sentences

FEWEST_WORDS = 6
SWITCHED = (
    "Den Rest dieser Antwort finden Sie weiter unten. Es gibt dazu noch vieles zu sagen, und alles hängt davon ab.",
    "La suite de cette réponse se trouve plus bas. Il y a encore beaucoup à dire à ce sujet, et tout en dépend.",
    "El resto de esta respuesta se encuentra más abajo. Queda mucho por decir sobre este tema, y todo depende de ello.",
)


def off_topic(answer: Answer) -> str:
    """The answer to another prompt in place of this one."""
    others = [other for other in answer.others if other != answer.response]
    return answer.random.choice(others) if others else answer.response


def truncated(answer: Answer) -> str:
    """The first half of the words, which may end within a sentence."""
    words = answer.response.split(" ")
    return answer.response if len(words) < FEWEST_WORDS else " ".join(words[: len(words) // 2])


def words_shuffled(answer: Answer) -> str:
    """The same words in any order."""
    words = answer.response.split()
    shuffled = list(words)
    answer.random.shuffle(shuffled)
    return answer.response if shuffled == words else " ".join(shuffled)


def language_switched(answer: Answer) -> str:
    """Sentences of another language, which say nothing, in place of the second half."""
    said = sentences(answer.response)
    if len(said) < 2:
        return answer.response
    return " ".join([*said[: len(said) // 2], answer.random.choice(SWITCHED)])
