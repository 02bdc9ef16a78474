"""Records with the answers "chosen" and "rejected", in the layouts that people publish.

The prompt is a column of its own, or what the answers begin with: shared messages, or the shared turns of transcripts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from qbrm.preferences.bad_rows import Rejects
from qbrm.preferences.base import Message, Preference, Prompt, as_response
from qbrm.preferences.conversation import read_message, read_prompt
from qbrm.preferences.field import Field
from qbrm.preferences.labels import UNCATEGORISED, read_category, read_uid
from qbrm.preferences.quoting import quote
from qbrm.preferences.rows import Row
from qbrm.preferences.transcript import is_opening, is_transcript, read_opening, split_pair

ANSWERS = ("chosen", "rejected")
UID_KEYS = ("id", "uid")
COLUMNS = ("prompt", *ANSWERS, "category", *UID_KEYS)

_ANSWER = "a string or a list of chat messages"
_TEXT = "a non-empty string or a list of chat messages"


def read_records(rows: Iterable[Row], rejects: Rejects) -> Iterator[Preference]:
    """Make preferences of the rows of one file.

    Args:
        rows: the rows.
        rejects: collects those that are no preferences. An id may occur again: some files give one per prompt.
    """
    return rejects.read(rows, read_record)


def read_record(row: Row) -> Preference:
    """Make a preference of one row.

    Raises:
        BadRowError: if it is none; names what is wrong with it.
    """
    record = row.field
    if row.fault is not None:
        raise row.fault
    if not isinstance(record.value, dict):
        raise record.refused('an object with "prompt", "chosen" and "rejected"')
    prompt, chosen, rejected = _read_answers(record)
    given = next((field for field in map(record.child, UID_KEYS) if not _blank(field)), None)
    category = record.child("category")
    return Preference(
        uid=read_uid(given) if given else row.name,
        prompt=prompt,
        chosen=chosen,
        rejected=tuple(rejected),
        category=UNCATEGORISED if _blank(category) else read_category(category),
        set="pairwise" if len(rejected) == 1 else "bon",
        place=record.place,
    )


def _read_answers(record: Field) -> tuple[Prompt, str, Sequence[str]]:
    """Prompt, chosen answer and rejected ones. Raises BadRowError if they are none, or two are the same."""
    prompt, chosen = record.child("prompt"), record.child("chosen")
    if not isinstance(chosen.value, (str, list, dict)):
        raise chosen.refused(_TEXT)
    fields = [chosen, *_rejected(record.child("rejected"))]
    if all(isinstance(field.value, str) for field in fields):
        asked, answers = _of_texts(prompt, fields)
    else:
        asked, answers = _of_messages(prompt, fields)
    if not answers[0].strip():
        blank = isinstance(chosen.value, str) and not chosen.value.strip()
        raise chosen.refused(_TEXT, None if blank else "has an empty answer", '"chosen" is empty')
    for field, answer in zip(fields[1:], answers[1:], strict=True):
        if answer == answers[0]:
            same = f"is {quote(answer)}, the same as the chosen answer"
            raise field.refused("another answer", same, '"rejected" is the same as "chosen"')
    return asked, answers[0], answers[1:]


def _rejected(field: Field) -> list[Field]:
    """The rejected answers: one as a text, a message or a list of messages, or a list of several of these."""
    if isinstance(field.value, (str, dict)):
        return [field]
    answers = field.elements("one or more answers: a string, or a list of strings or of chat messages")
    return [field] if isinstance(answers[0].value, dict) else answers


def _of_texts(prompt: Field, fields: Sequence[Field]) -> tuple[Prompt, list[str]]:
    """Texts behind a prompt, or transcripts that begin with it."""
    if _blank(prompt) and is_transcript(fields[0].value) and len(fields) == 2:
        asked, *answers = split_pair(fields[0], fields[1])
        return asked, answers
    texts = [field.string() for field in fields]
    if not is_opening(prompt.value):
        return _asked(prompt), texts
    opening = prompt.text().rstrip()
    return read_opening(prompt), [text.removeprefix(opening).strip() for text in texts]


def _of_messages(prompt: Field, fields: Sequence[Field]) -> tuple[Prompt, list[str]]:
    """Messages behind a prompt, or conversations that begin with it."""
    sides = [_messages(field) for field in fields]
    given, of_messages = () if _blank(prompt) else read_prompt(prompt), isinstance(prompt.value, list)
    if of_messages and all(side[: len(given)] == given and len(side) > len(given) for side in sides):
        sides = [side[len(given) :] for side in sides]
    elif all(side[0].role == "assistant" for side in sides):
        given = given or _asked(prompt)
    else:
        shared = shared_turns(sides)
        if not shared:
            alike = 'conversations that begin alike, or answers of the assistant to a "prompt"'
            raise fields[0].refused(alike, 'begins with another message than "rejected"')
        # A prompt of its own may have a system message that the conversations lack, or lack one that they have.
        given = given if given[-len(shared) :] == shared else shared
        sides = [side[len(shared) :] for side in sides]
    for field, side in zip(fields, sides, strict=True):
        if side[-1].role != "assistant":
            raise field.refused("an answer of the assistant at the end", f"ends with a message of the {side[-1].role}")
    return given, [as_response(side) for side in sides]


def shared_turns(conversations: Sequence[Prompt]) -> Prompt:
    """The messages that conversations begin with alike, one of each always left over, as TRL's ``extract_prompt``."""
    first, most = conversations[0], min(map(len, conversations)) - 1
    shared = next((at for at in range(most) if any(other[at] != first[at] for other in conversations)), most)
    return first[:shared]


def _messages(answer: Field) -> Prompt:
    if isinstance(answer.value, str):
        return (Message("assistant", answer.string()),)
    if isinstance(answer.value, dict):
        return (read_message(answer),)
    messages = answer.elements(_ANSWER)
    if not all(isinstance(message.value, dict) for message in messages):
        raise answer.refused(_ANSWER)
    return tuple(map(read_message, messages))


def _asked(prompt: Field) -> Prompt:
    if _blank(prompt):
        raise prompt.refused(f'{_TEXT}, or messages or transcripts in "chosen" and "rejected" that begin with it')
    return read_prompt(prompt)


def _blank(field: Field) -> bool:
    return field.absent or (isinstance(field.value, str) and not field.value.strip())
