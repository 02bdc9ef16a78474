"""Prompts and responses without labels, for `qbrm fit --keep`."""

import json

import pytest

from qbrm.errors import BadRowsError, InputError
from qbrm.preferences import Message, preferences_of
from qbrm.preferences.unlabelled import responses_of

PREFERENCE = {"prompt": "Tea?", "chosen": "Yes.", "rejected": ["No.", "Why?"]}
SEVERAL = {"prompt": "Tea?", "responses": ["Yes.", "No.", "Why?"]}
SINGLE = [{"prompt": "Tea?", "response": answer} for answer in ("Yes.", "No.", "Why?")]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("rows", [[PREFERENCE], [SEVERAL], SINGLE, [PREFERENCE, SEVERAL]])
@pytest.mark.parametrize("where", ["file", "list", "iterator"])
def test_labelled_or_not_and_together_or_not_the_responses_are_the_same(rows, where, tmp_path):
    source = {"file": lambda: write(tmp_path / "a.jsonl", rows), "list": lambda: rows, "iterator": lambda: iter(rows)}
    read = responses_of(source[where]())
    assert read.responses() == preferences_of([PREFERENCE]).responses()


def test_prompts_and_responses_may_be_messages():
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Tea?"}]
    answer = {"role": "assistant", "content": "Yes."}
    (read,) = responses_of([{"prompt": asked, "responses": [answer, [answer], "No."]}])
    assert read.prompt == (Message("system", "Be brief."), Message("user", "Tea?"))
    assert read.responses == ("Yes.", "Yes.", "No.")


BAD = [
    (5, "line 2 is 5; expected an object"),
    (
        {"prompt": "Tea?"},
        'line 2 is {"prompt": "Tea?"}; expected an object with "prompt" and "responses" or "response"',
    ),
    ({"prompt": "Tea?", "responses": []}, 'line 2: "responses" is empty; expected one or more responses'),
    ({"prompt": "Tea?", "responses": ["Yes.", " "]}, 'line 2: "responses[1]" is only white space'),
    ({"prompt": "Tea?", "response": 7}, 'line 2: "response" is 7'),
    ({"response": "Yes."}, 'line 2: "prompt" is missing'),
]


@pytest.mark.parametrize(("row", "message"), BAD)
def test_a_bad_row_is_named_with_what_was_expected(row, message, tmp_path):
    with pytest.raises(InputError) as error:
        responses_of(write(tmp_path / "a.jsonl", [SEVERAL, row]))
    assert f"a.jsonl, {message}" in str(error.value)
    assert "\n" not in str(error.value)


def test_all_bad_rows_are_named_at_once_or_left_out_and_counted(tmp_path):
    path = write(tmp_path / "a.jsonl", [SEVERAL, *(row for row, _ in BAD)])
    with pytest.raises(BadRowsError) as error:
        responses_of(path)
    count, *named, _ = str(error.value).splitlines()
    assert count == "6 of 7 rows of a.jsonl are bad:"
    assert [line.partition(",")[2][:7] for line in named] == [f" line {number}" for number in range(2, 8)]
    read = responses_of(path, skip_bad=True)
    assert len(read) == 1
    assert sum(read.left_out.values()) == len(BAD)


def test_a_record_in_memory_is_named_as_one_to_keep():
    with pytest.raises(InputError, match=r"responses to keep, record 2: \"response\" is 7"):
        responses_of([SEVERAL, {"prompt": "Tea?", "response": 7}])


def test_a_source_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.jsonl does not exist"):
        responses_of(tmp_path / "none.jsonl")
