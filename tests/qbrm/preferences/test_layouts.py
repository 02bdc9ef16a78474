"""The layouts in which people publish preferences: every one gives the prompt and the answers that were meant."""

import json
import pickle

import numpy as np
import pandas
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qbrm.errors import BadRowError, InputError
from qbrm.preferences import Completion, Message, preferences_of, prompt_id, response_id, response_messages

datasets = pytest.importorskip("datasets")
unhurried = settings(deadline=None, max_examples=100)

QUESTION = "How do I prune a rose?"
GOOD, BAD = "Cut above a bud, at an angle.", "Use dynamite."
CALL = {"type": "function", "function": {"name": "look_up", "arguments": {"plant": "rose"}}}


def user(text):
    return {"role": "user", "content": text}


def system(text):
    return {"role": "system", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def human(text):
    return f"\n\nHuman: {QUESTION}\n\nAssistant: {text}"


def sides(*before):
    return {"chosen": [*before, assistant(GOOD)], "rejected": [*before, assistant(BAD)]}


def parts(*texts):
    return [{"type": "text", "text": text} for text in texts]


def read_one(**record):
    (preference,) = preferences_of([record])
    return preference


ASKED = (Message("user", QUESTION),)
TOLD = (Message("system", "Be brief."), *ASKED)
LAYOUTS = {
    "strings": ({"prompt": QUESTION, "chosen": GOOD, "rejected": BAD}, ASKED),
    "messages, prompt implicit": (sides(user(QUESTION)), ASKED),
    "messages, prompt implicit, system": (sides(system("Be brief."), user(QUESTION)), TOLD),
    "messages, prompt of messages": ({"prompt": [user(QUESTION)], **sides()}, ASKED),
    "messages, prompt a string": ({"prompt": QUESTION, **sides()}, ASKED),
    "whole conversations and a string": ({"prompt": QUESTION, **sides(user(QUESTION))}, ASKED),
    "whole conversations and a string, system": (
        {"prompt": QUESTION, **sides(system("Be brief."), user(QUESTION))},
        TOLD,
    ),
    "whole conversations and messages": ({"prompt": [user(QUESTION)], **sides(user(QUESTION))}, ASKED),
    "system message in the prompt only": (
        {"prompt": [system("Be brief."), user(QUESTION)], **sides(user(QUESTION))},
        TOLD,
    ),
    "one message each, no list": ({"prompt": QUESTION, "chosen": assistant(GOOD), "rejected": assistant(BAD)}, ASKED),
    "text parts": (
        {
            "prompt": [user(parts("How do I ", "prune a rose?"))],
            "chosen": [assistant(parts(GOOD))],
            "rejected": [assistant(BAD)],
        },
        ASKED,
    ),
    "transcripts": ({"chosen": human(GOOD), "rejected": human(BAD)}, ASKED),
    "transcripts, empty prompt": ({"prompt": "", "chosen": human(GOOD), "rejected": human(BAD)}, ASKED),
    "messages, prompt implicit and empty": ({"prompt": "", **sides(user(QUESTION))}, ASKED),
    "a prompt of one message": ({"prompt": user(QUESTION), **sides()}, ASKED),
    "transcripts, null prompt": ({"prompt": None, "chosen": human(GOOD), "rejected": human(BAD)}, ASKED),
    "a transcript as prompt": ({"prompt": human(""), "chosen": f" {GOOD}", "rejected": f" {BAD}"}, ASKED),
    "a transcript as prompt, whole answers": (
        {"prompt": human(""), "chosen": human(GOOD), "rejected": human(BAD)},
        ASKED,
    ),
    "ShareGPT": (
        {
            side: [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": text}]
            for side, text in (("chosen", GOOD), ("rejected", BAD))
        },
        ASKED,
    ),
    "metadata in messages": (
        {
            "chosen": [user(QUESTION), assistant(GOOD, model="a", score=9.5)],
            "rejected": [user(QUESTION), assistant(BAD, model="b", score=1.0)],
        },
        ASKED,
    ),
    "null keys": (
        {
            "prompt": [user(QUESTION) | {"name": None, "tool_calls": None}],
            "chosen": [assistant(GOOD, tool_calls=[])],
            "rejected": [assistant(BAD, tool_calls=None)],
        },
        ASKED,
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_prompt_and_answers(layout):
    record, prompt = LAYOUTS[layout]
    read = read_one(**record)
    assert (read.prompt, read.chosen, read.rejected, read.set) == (prompt, GOOD, (BAD,), "pairwise")
    assert prompt_id(read.prompt) == read.prompt_id


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet", "dataset", "frame"])
def test_a_layout_is_read_alike_from_every_kind_of_source(tmp_path, layout, kind):
    record, prompt = LAYOUTS[layout]
    path = tmp_path / f"prefs.{kind}"
    if kind == "jsonl":
        path.write_text(json.dumps(record))
    elif kind == "json":
        path.write_text(json.dumps([record], indent=2))
    elif kind == "frame":
        path = pandas.DataFrame([record])
    else:
        table = pyarrow.Table.from_pylist([record])
        path = datasets.Dataset(table) if kind == "dataset" else path
        if kind == "parquet":
            pyarrow.parquet.write_table(table, path)
    (read,) = preferences_of(path)
    assert (read.prompt, read.chosen, read.rejected) == (prompt, GOOD, (BAD,))


turns = st.lists(
    st.builds(
        lambda role, text: {"role": role, "content": text},
        st.sampled_from(["user", "assistant", "tool"]),
        st.sampled_from(["a", "b", "c"]),
    ),
    min_size=1,
    max_size=4,
)


@unhurried
@given(shared=turns, chosen=turns, rejected=turns, given_prompt=st.sampled_from([None, "a question of its own"]))
def test_an_implicit_prompt_is_what_extract_prompt_of_trl_gives(shared, chosen, rejected, given_prompt):
    from trl.data_utils import extract_prompt

    record = {
        "chosen": [*shared, *chosen, assistant(GOOD)],
        "rejected": [*shared, *rejected, assistant(BAD)],
    }
    expected = extract_prompt(record)
    assume(record["chosen"][0]["role"] != "assistant")  # with a prompt given, those are answers, not conversations
    read = read_one(**record, prompt=given_prompt)
    assert [message.to_dict() for message in read.prompt] == expected["prompt"]
    assert [message.to_dict() for message in response_messages(read.chosen)] == expected["chosen"]
    assert [message.to_dict() for message in response_messages(read.rejected[0])] == expected["rejected"]


@pytest.mark.parametrize(
    "rejected",
    [
        ["one", "two"],
        [[assistant("one")], [assistant("two")]],
        [[user("?"), assistant("one")], [user("?"), assistant("two")]],
    ],
)
def test_several_rejected_answers_come_as_texts_or_messages(rejected):
    whole = rejected[0][0] == user("?")
    chosen = [user("?"), assistant("best")] if whole else "best"
    read = read_one(chosen=chosen, rejected=rejected, **({} if whole else {"prompt": "?"}))
    assert (read.prompt, read.chosen, read.rejected, read.set) == (
        (Message("user", "?"),),
        "best",
        ("one", "two"),
        "bon",
    )


# Messages of more than text


def test_tool_calls_and_reasoning_are_carried_as_they_are():
    prompt = [
        system("Use tools."),
        user(QUESTION),
        assistant(None, tool_calls=[CALL]),
        {"role": "tool", "content": "above a bud", "tool_call_id": "1", "name": "look_up"},
    ]
    read = read_one(prompt=prompt, chosen=[assistant(GOOD, reasoning_content="Hm.")], rejected=[assistant(BAD)])
    assert [message.to_dict() for message in read.prompt] == prompt
    assert [message.to_dict() for message in response_messages(read.chosen)] == [
        assistant(GOOD, reasoning_content="Hm.")
    ]
    assert response_messages(read.rejected[0]) == (Message("assistant", BAD),)


def test_arrow_fills_the_keys_of_other_tool_calls_and_they_are_left_out_again(tmp_path):
    other = {"type": "function", "function": {"name": "weigh", "arguments": {"kilograms": 3}}}
    rows = [
        {"prompt": [user("?")], "chosen": [assistant(None, tool_calls=[call])], "rejected": [assistant(BAD)]}
        for call in (CALL, other)
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "p.parquet")
    found = [response_messages(read.chosen)[0].to_dict() for read in preferences_of(tmp_path / "p.parquet")]
    assert found == [assistant(None, tool_calls=[CALL]), assistant(None, tool_calls=[other])]


def test_an_answer_that_calls_another_tool_is_another_answer():
    def calling(name):
        return [assistant("", tool_calls=[{"function": {"name": name}}])]

    read = read_one(prompt="?", chosen=calling("right"), rejected=[calling("wrong"), calling("worse")])
    ids = {response_id(response) for response in read.responses}
    assert len(ids) == 3
    with pytest.raises(InputError, match="the same as the chosen answer"):
        read_one(prompt="?", chosen=calling("right"), rejected=calling("right"))


def test_a_completion_keeps_its_messages_on_its_way_to_another_process():
    (message,) = response_messages(read_one(prompt="?", chosen=assistant("", tool_calls=[CALL]), rejected=BAD).chosen)
    sent = pickle.loads(pickle.dumps(Completion((message,))))
    assert (sent, sent.messages) == (Completion((message,)), (message,))


def test_a_plain_prompt_keeps_the_id_that_it_had_before_messages_could_hold_more():
    assert prompt_id((Message("user", "hi"),)) == "675b797826f34c78"
    assert prompt_id((Message("user", "hi", '{"name": "Ann"}'),)) != "675b797826f34c78"


# Cells


@pytest.mark.parametrize("nothing", [None, float("nan"), np.float32("nan"), pandas.NA, pandas.NaT, ""])
def test_an_empty_cell_is_no_id_and_no_category(nothing):
    read = read_one(prompt="?", chosen=GOOD, rejected=BAD, id=nothing, category=nothing)
    assert (read.uid, read.category) == ("preferences:1", "uncategorised")


@pytest.mark.parametrize("zero", [0, 0.0, -0.0, "0", np.int64(0), np.float32(0)])
def test_zero_is_an_id_however_it_is_written(zero):
    assert read_one(prompt="?", chosen=GOOD, rejected=BAD, id=zero).uid == "0"


@pytest.mark.parametrize("column", ["prompt", "chosen", "rejected"])
def test_a_cell_that_pandas_left_empty_is_no_text(column):
    record = {"prompt": "?", "chosen": GOOD, "rejected": BAD, column: float("nan")}
    with pytest.raises(BadRowError, match=f'"{column}" is NaN; expected'):
        read_one(**record)


def test_a_frame_is_read_with_its_missing_cells_and_arrays():
    frame = pandas.DataFrame(
        {
            "prompt": ["a", "b"],
            "chosen": [GOOD, GOOD],
            "rejected": [np.array(["x", "y"], dtype=object), np.array(["z"], dtype=object)],
            "id": [0.0, np.nan],
            "category": pandas.Categorical(["Garden", None]),
        }
    )
    first, second = preferences_of(frame)
    assert (first.uid, first.rejected, first.category) == ("0", ("x", "y"), "Garden")
    assert (second.uid, second.rejected, second.category) == ("preferences:2", ("z",), "uncategorised")


def test_dictionaries_and_large_strings_of_parquet_are_text(tmp_path):
    table = pyarrow.table(
        {
            "prompt": pyarrow.array([QUESTION], pyarrow.large_string()),
            "chosen": pyarrow.array([GOOD]).dictionary_encode(),
            "rejected": pyarrow.array([[BAD]], pyarrow.large_list(pyarrow.large_string())),
            "category": pyarrow.array(["Garden"]).dictionary_encode(),
            "id": pyarrow.array([0.0]),
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "p.parquet")
    (read,) = preferences_of(tmp_path / "p.parquet")
    assert (read.prompt, read.chosen, read.rejected) == (ASKED, GOOD, (BAD,))
    assert (read.category, read.uid) == ("Garden", "0")


@pytest.mark.parametrize("empty", ["", " \n", [assistant("")], human("")])
def test_an_empty_answer_is_read_as_the_worse_one(empty):
    is_transcript = empty == human("")
    read = read_one(
        prompt=None if is_transcript else "?", chosen=human(GOOD) if is_transcript else GOOD, rejected=empty
    )
    assert not read.rejected[0].strip()


BAD_RECORDS = [
    (
        {"chosen": GOOD, "rejected": BAD},
        '"prompt" is missing; expected a non-empty string or a list of chat messages, or',
    ),
    ({"chosen": [assistant(GOOD)], "rejected": [assistant(BAD)]}, '"prompt" is missing; expected'),
    (
        {"chosen": [user("a"), assistant(GOOD)], "rejected": [user("b"), assistant(BAD)]},
        '"chosen" begins with another message than "rejected"; expected conversations that begin alike',
    ),
    (
        {"chosen": [user("a"), assistant(GOOD), user("Thanks!")], "rejected": [user("a"), assistant(BAD)]},
        '"chosen" ends with a message of the user; expected an answer of the assistant at the end',
    ),
    (
        {"prompt": "?", "chosen": [assistant(None)], "rejected": BAD},
        '"chosen[0].content" is null; expected a string or text parts, or tool calls beside it',
    ),
    ({"prompt": "?", "chosen": [assistant("")], "rejected": BAD}, '"chosen" has an empty answer; expected'),
    ({"prompt": "?", "chosen": [assistant(3)], "rejected": BAD}, '"chosen[0].content" is 3; expected a string or text'),
    (
        {"prompt": [user([{"type": "image", "image": "rose.png"}])], "chosen": GOOD, "rejected": BAD},
        '"prompt[0].content[0].type" is "image"; expected "text"',
    ),
    (
        {"prompt": [user(" ")], "chosen": GOOD, "rejected": BAD},
        '"prompt[0].content" is only white space; expected text',
    ),
    ({"chosen": human(""), "rejected": human(BAD)}, '"chosen" has an empty answer; expected'),
    ({"chosen": human(GOOD), "rejected": human(GOOD)}, f'"rejected" is "{GOOD}", the same as the chosen answer'),
    ({"prompt": "?", "chosen": [{"role": "human", "content": GOOD}], "rejected": BAD}, '"chosen[0].role" is "human"'),
    (
        {"prompt": "?", "chosen": [assistant("", tool_calls="\ud800")], "rejected": BAD},
        "holds half a surrogate pair",
    ),
]


@pytest.mark.parametrize(("record", "expected"), BAD_RECORDS)
def test_a_record_in_no_layout_says_what_is_wrong(record, expected):
    with pytest.raises(BadRowError) as error:
        preferences_of([record])
    assert str(error.value).startswith("preferences, record 1: ")
    assert expected in str(error.value)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("source", [datasets.DatasetDict(), {"prompt": "?"}, 7, None])
def test_what_has_no_rows_is_named(source):
    with pytest.raises(InputError, match=rf"preferences are a {type(source).__name__}; expected a path"):
        preferences_of(source)
