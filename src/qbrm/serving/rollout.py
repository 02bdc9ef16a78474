"""A training rollout: one text of prompt and response, of which the prompt is known."""

from __future__ import annotations

from qbrm.serving.chat_markup import PADDING, strip_end

LEAST_OVERLAP = 16
MOST_PLACES = 256


def response_in(query: str, prompt: str) -> str | None:
    """The response in a query, which is the prompt and then the response; None where the prompt is not found.

    OpenRLHF decodes a query from tokens, so it is not always the prompt's own text: tokenizers add or drop spaces, old
    clients leave padding in front, and a prompt that was too long has lost its beginning. So where the query does not
    simply begin with the prompt, both are compared without their spaces, behind any padding, and failing that the
    query may begin with the end of the prompt.

    Args:
        query: what the policy's tokenizer decoded, special tokens included.
        prompt: what the policy was given.
    """
    if query.startswith(prompt):
        return strip_end(query[len(prompt) :])
    places = [place for place, letter in enumerate(query) if not letter.isspace()]
    seen, wanted = "".join(query[place] for place in places), "".join(prompt.split())
    end = _after_padding(seen, wanted) or _after_overlap(seen, wanted)
    if end is None:
        return None
    rest = query[places[end - 1] + 1 :]
    return strip_end(rest.lstrip() if prompt[-1:].isspace() else rest)


def _after_padding(seen: str, wanted: str) -> int | None:
    start = seen.find(wanted)
    return start + len(wanted) if start >= 0 and PADDING.fullmatch(seen, 0, start) else None


def _after_overlap(seen: str, wanted: str) -> int | None:
    """Where the longest end of `wanted` ends that `seen` begins with."""
    # Cutting tokens may halve a letter, which decodes as a replacement character.
    damaged = len(seen) - len(seen.lstrip("\ufffd"))
    opening, start = seen[damaged : damaged + LEAST_OVERLAP], -1
    for _ in range(MOST_PLACES):
        start = wanted.find(opening, start + 1)
        if start < 0 or len(wanted) - start < LEAST_OVERLAP:
            return None
        if seen.startswith(wanted[start:], damaged):
            return damaged + len(wanted) - start
    return None
