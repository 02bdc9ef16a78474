import builtins
import json
import os
from collections import Counter
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qbrm.errors import InputError
from qbrm.preferences import (
    Message,
    Pair,
    Preference,
    PreferenceSet,
    check_disjoint,
    prompt_id,
    read_preferences,
    response_id,
    sample_source,
    split_by_prompt,
    training_pairs,
)
from qbrm.preferences.field import Field
from qbrm.preferences.records import read_record
from qbrm.preferences.rows import Row

CHAT = [
    {"role": "user", "content": "Wie heißt der Fluss?"},
    {"role": "assistant", "content": "Welcher?"},
    {"role": "user", "content": "Der in Wien 🌊"},
]
RECORDS = [
    {"prompt": "2 + 2?", "chosen": "4", "rejected": ["5", "22"], "category": "Helpfulness/Reasoning", "id": "a"},
    {"prompt": CHAT, "chosen": "Die Donau.", "rejected": ["Der\u2028Rhein.", "?"], "category": "Chat", "id": "b"},
    {"prompt": "Name a noble gas.", "chosen": "Neon", "rejected": "Iron", "category": "Chat", "id": "c"},
]
unhurried = settings(deadline=None, max_examples=60)
REAL_RMB = Path(__file__).parents[3] / "../shared/rmb"


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


def write_jsonl(path, records):
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), encoding="utf-8")
    return path


def write_parquet(path, records):
    as_lists = [
        record
        | {
            "prompt": chat(record["prompt"]),
            "rejected": [record["rejected"]] if isinstance(record["rejected"], str) else record["rejected"],
            "source": "a column of no interest",
        }
        for record in records
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(as_lists), path)
    return path


def chat(prompt):
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def conversation(prompt):
    return [turn | {"language": "English"} for turn in chat(prompt)]


def bon(uid="1", prompt="2 + 2?", chosen="4", rejected=("5", "22"), category="Helpfulness/Reasoning"):
    return {
        "conversation_input": conversation(prompt),
        "bon_best": {"llm_name": "x", "answer": chosen},
        "loser_list": [{"llm_name": "y", "answer": answer} for answer in rejected],
        "category_path": f"BoN_set/{category}",
        "bon_uid": uid,
    }


def pairwise(uid="1", prompt="Name a noble gas.", chosen="Neon", rejected="Iron", category="Chat"):
    return {
        "conversation_input": conversation(prompt),
        "chosen": {"llm_name": "x", "answer": chosen},
        "reject": {"llm_name": "y", "answer": rejected},
        "category_path": f"Pairwise_set/{category}",
        "pair_uid": uid,
    }


def write_rmb(folder, records=RECORDS):
    """The same preferences as RMB would lay them out."""
    for record in records:
        keys = {key: record[key] for key in ("prompt", "chosen", "rejected", "category")}
        several = not isinstance(record["rejected"], str)
        layout, item = ("BoN_set", bon(record["id"], **keys)) if several else ("Pairwise_set", pairwise("c", **keys))
        write_json(folder / layout / record["category"] / f"{record['id']} odd, näme.json", [item])
    return folder


def without_uid(preferences):
    return {(p.set, p.category, p.prompt, p.chosen, p.rejected) for p in preferences}


def preference(prompt, category="Chat", chosen="yes", rejected=("no",), uid="1"):
    return Preference(uid, (Message("user", prompt),), chosen, rejected, category, "pairwise")


def preference_set(categories, name="prefs.jsonl"):
    return PreferenceSet(name, tuple(preference(f"prompt {i}", c) for i, c in enumerate(categories)))


def text_of(error):
    return str(error.value)


# Reading


def test_every_kind_of_source_reads_the_same_preferences(tmp_path):
    sources = (
        write_jsonl(tmp_path / "prefs.jsonl", RECORDS),
        write_parquet(tmp_path / "prefs.parquet", RECORDS),
        write_rmb(tmp_path / "rmb"),
    )
    expected = {
        ("bon", "Helpfulness/Reasoning", (Message("user", "2 + 2?"),), "4", ("5", "22")),
        ("bon", "Chat", tuple(Message(**turn) for turn in CHAT), "Die Donau.", ("Der\u2028Rhein.", "?")),
        ("pairwise", "Chat", (Message("user", "Name a noble gas."),), "Neon", ("Iron",)),
    }
    for source in sources:
        preferences = read_preferences(str(source))
        assert without_uid(preferences) == expected
        assert sorted(p.uid for p in preferences) == ["a", "b", "c"]
        assert preferences.name == source.name


def test_parquet_takes_strings_where_jsonl_does(tmp_path):
    records = [{"prompt": "2 + 2?", "chosen": "4", "rejected": "5", "category": None, "id": 7}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), tmp_path / "p.parquet")
    (read,) = read_preferences(tmp_path / "p.parquet")
    assert (read.uid, read.rejected, read.set, read.category) == ("7", ("5",), "pairwise", "uncategorised")


def test_an_rmb_tree_is_found_at_its_level_and_from_the_folder_above(tmp_path):
    write_rmb(tmp_path / "rmb" / "RMB_dataset")
    (tmp_path / "rmb" / "docs").mkdir()
    above, at = read_preferences(tmp_path / "rmb"), read_preferences(tmp_path / "rmb" / "RMB_dataset")
    assert above.preferences == at.preferences
    assert (above.name, at.name) == ("rmb", "RMB_dataset")


def test_a_folder_is_named_as_a_person_would_call_it(tmp_path, monkeypatch):
    monkeypatch.chdir(write_rmb(tmp_path / "rmb"))
    assert read_preferences(".").name == read_preferences("../rmb/").name == "rmb"


def test_a_tree_may_have_one_set_only(tmp_path):
    write_json(tmp_path / "BoN_set" / "S1.json", [bon()])
    assert {p.set for p in read_preferences(tmp_path)} == {"bon"}


def test_one_rmb_file_of_either_set_is_a_source(tmp_path):
    assert [p.set for p in read_preferences(write_json(tmp_path / "b.json", [bon()]))] == ["bon"]
    assert [p.set for p in read_preferences(write_json(tmp_path / "p.json", [pairwise()]))] == ["pairwise"]


def test_a_tree_is_read_in_one_order_whatever_order_the_disk_has(tmp_path, monkeypatch):
    write_rmb(tmp_path)
    first = read_preferences(tmp_path).preferences
    walk = os.walk
    monkeypatch.setattr(os, "walk", lambda *args, **kwargs: reversed(list(walk(*args, **kwargs))))
    assert read_preferences(tmp_path).preferences == first


def test_the_oddities_of_real_rmb_are_kept(tmp_path):
    empty_turn = [*CHAT[:2], {"role": "user", "content": ""}]
    items = [bon("1", rejected=["\n \n"]), bon("2", rejected=["4", "5"]), bon("3", prompt=empty_turn)]
    blank, tie, silent = read_preferences(write_json(tmp_path / "BoN_set" / "S1.json", items).parents[1])
    assert blank.rejected == ("\n \n",)
    assert tie.chosen in tie.rejected
    assert silent.prompt[-1] == Message("user", "")


def test_one_uid_may_occur_in_both_sets_of_rmb(tmp_path):
    write_json(tmp_path / "BoN_set" / "S1.json", [bon("1")])
    write_json(tmp_path / "Pairwise_set" / "S1.json", [pairwise("1")])
    assert len(read_preferences(tmp_path)) == 2


def test_jsonl_tolerates_byte_order_marks_blank_lines_and_windows_ends(tmp_path):
    lines = [json.dumps(RECORDS[0]), "", "  ", json.dumps(RECORDS[2] | {"id": None})]
    (tmp_path / "prefs.jsonl").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    first, second = read_preferences(tmp_path / "prefs.jsonl")
    assert (first.uid, second.uid) == ("a", "prefs.jsonl:4")


def test_one_rejected_answer_is_a_pair_and_several_are_best_of_n(tmp_path):
    records = [{"prompt": "?", "chosen": "a", "rejected": rejected} for rejected in ("b", ["b"], ["b", "c"])]
    assert [p.set for p in read_preferences(write_jsonl(tmp_path / "p.jsonl", records))] == [
        "pairwise",
        "pairwise",
        "bon",
    ]


visible_text = st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip)


@unhurried
@given(st.lists(st.tuples(visible_text, visible_text, visible_text).filter(lambda t: t[1] != t[2]), min_size=1))
def test_any_text_comes_back_as_it_was_written(tmp_path_factory, triples):
    records = [dict(zip(("prompt", "chosen", "rejected"), triple, strict=True)) for triple in triples]
    path = write_jsonl(tmp_path_factory.mktemp("any") / "p.jsonl", records)
    assert [(p.prompt[0].content, p.chosen, p.rejected[0]) for p in read_preferences(path)] == triples


def test_the_bundled_sample_is_an_rmb_tree():
    sample = read_preferences(sample_source())
    assert sample.name == "sample"
    assert {p.set for p in sample} <= {"bon", "pairwise"}


@pytest.mark.skipif(not REAL_RMB.is_dir(), reason="../shared/rmb is not on this machine")
def test_the_real_rmb_is_read_whole():
    rmb = read_preferences(REAL_RMB)
    assert Counter(p.set for p in rmb) == {"bon": 2790, "pairwise": 10721}
    assert rmb.name == "rmb"
    assert len(rmb.categories) == 49


# Bad input


def jsonl(**changes):
    record = RECORDS[0] | changes
    return json.dumps({key: value for key, value in record.items() if value != "absent"}).encode()


def rmb(*items):
    return json.dumps(items).encode()


BAD_FILES = [
    ("p.jsonl", b"", "p.jsonl is empty"),
    ("p.jsonl", b"\xef\xbb\xbf\n", "p.jsonl holds no preferences"),
    ("p.jsonl", b"\n" + jsonl()[:-1], "p.jsonl, line 2: Expecting"),
    ("p.jsonl", jsonl() + b"\n{'a': 1}", "p.jsonl, line 2: Expecting property name"),
    ("p.jsonl", jsonl() + b'\n{"a": "\xff"}', "p.jsonl, line 2: byte 0xff is not UTF-8"),
    ("p.jsonl", "{}".encode("utf-16"), "p.jsonl, line 1: byte 0xff is not UTF-8"),
    ("p.jsonl", b"[" * 100_000, "p.jsonl, from line 1: "),
    ("p.jsonl", b"9" * 5_000, "p.jsonl, from line 1: "),
    ("p.jsonl", b"[1, 2]", "p.jsonl, line 1 is [1, 2]; expected an object"),
    ("p.jsonl", b"null", "p.jsonl, line 1 is null; expected an object"),
    ("p.jsonl", jsonl(prompt="absent"), 'line 1: "prompt" is missing; expected a non-empty string or a list'),
    ("p.jsonl", jsonl(prompt=" \n"), 'line 1: "prompt" is only white space'),
    ("p.jsonl", jsonl(prompt=[]), 'line 1: "prompt" is empty'),
    ("p.jsonl", jsonl(prompt=["hello"]), 'line 1: "prompt[0]" is "hello"; expected an object'),
    ("p.jsonl", jsonl(prompt=[{"content": "?"}]), 'line 1: "prompt[0].role" is missing; expected one of system'),
    ("p.jsonl", jsonl(prompt=[{"role": "human", "content": "?"}]), '"prompt[0].role" is "human"; expected one of'),
    ("p.jsonl", jsonl(prompt=[{"role": "user", "content": [1]}]), '"prompt[0].content" is [1]; expected'),
    ("p.jsonl", jsonl(prompt=[{"role": "user", "content": ""}]), '"prompt[0].content" is empty; expected'),
    ("p.jsonl", jsonl(chosen="absent"), 'line 1: "chosen" is missing; expected a non-empty string or a list of chat'),
    ("p.jsonl", jsonl(chosen=None), 'line 1: "chosen" is null; expected a non-empty string or'),
    ("p.jsonl", jsonl(chosen=""), 'line 1: "chosen" is empty; expected a non-empty string or'),
    ("p.jsonl", jsonl(chosen=["4"]), 'line 1: "chosen" is ["4"]; expected a string or a list of chat messages'),
    ("p.jsonl", jsonl(chosen="\ud800"), r"half a surrogate pair, \ud800, at character 1"),
    ("p.jsonl", jsonl(rejected="absent"), '"rejected" is missing; expected one or more answers: a string, or'),
    ("p.jsonl", jsonl(rejected=[]), 'line 1: "rejected" is empty; expected one or more answers'),
    ("p.jsonl", jsonl(rejected=None), 'line 1: "rejected" is null; expected one or more answers'),
    ("p.jsonl", jsonl(rejected=["5", []]), 'line 1: "rejected[1]" is empty; expected a string or a list of chat'),
    ("p.jsonl", jsonl(rejected=["5", 6]), 'line 1: "rejected[1]" is 6; expected'),
    ("p.jsonl", jsonl(rejected={"a\nb": 5}), 'line 1: "rejected.role" is missing; expected one of system, developer'),
    ("p.jsonl", jsonl(rejected=["5", "4"]), '"rejected[1]" is "4", the same as the chosen answer'),
    ("p.jsonl", jsonl(category=3), '"category" is 3; expected a non-empty string'),
    ("p.jsonl", jsonl(category="all"), '"category" is "all"; expected another category'),
    ("p.jsonl", jsonl(category="macro"), '"category" is "macro"; expected another category'),
    ("p.jsonl", jsonl(id=1.5), '"id" is 1.5; expected a non-empty string or a whole number'),
    ("p.jsonl", jsonl(id=True), '"id" is true; expected a non-empty string or a whole number'),
    ("p.json", b"", "p.json is empty"),
    ("p.json", b"[\n{]", "p.json, line 2: Expecting"),
    ("p.json", b"[]", "p.json is empty; expected a list of RMB items"),
    ("p.json", b'{"a": 1}', 'p.json is {"a": 1}; expected a list of RMB items'),
    ("p.json", b'[{"prompt": "?"}]', 'p.json, item 1: "chosen" is missing; expected'),
    ("p.json", b"[7]", 'p.json, item 1 is 7; expected an object with "prompt", "chosen" and "rejected"'),
    ("p.json", rmb(bon(uid="")), 'p.json, item 1: "bon_uid" is empty'),
    ("p.json", rmb(bon("1"), bon("1")), 'item 2: "bon_uid" is "1", as in '),
    ("p.json", rmb(bon() | {"bon_best": {}}), 'item 1 (bon_uid 1): "bon_best.answer" is missing'),
    ("p.json", rmb(bon() | {"bon_best": None}), 'item 1 (bon_uid 1): "bon_best" is null; expected an object'),
    ("p.json", rmb(bon(chosen="\n ")), '"bon_best.answer" is only white space'),
    ("p.json", rmb(bon(rejected=[])), '"loser_list" is empty; expected a list of one or more answers'),
    ("p.json", rmb(bon() | {"loser_list": {"answer": "5"}}), '"loser_list" is {"answer": "5"}; expected a list'),
    ("p.json", rmb(bon(rejected=[5])), '"loser_list[0].answer" is 5; expected a string'),
    ("p.json", rmb(bon(prompt=" ")), '"conversation_input[0].content" is only white space; expected text in at least'),
    ("p.json", rmb(bon(prompt=[])), '"conversation_input" is empty; expected a list of chat messages'),
    ("p.json", rmb(bon(category="")), '"category_path" is "BoN_set/"; expected a category'),
    ("p.json", rmb(bon(category="all")), '"category_path" is "BoN_set/all"; expected another category'),
    ("p.json", rmb(pairwise() | {"chosen": "Neon"}), '(pair_uid 1): "chosen" is "Neon"; expected an object'),
    ("p.json", rmb(pairwise(rejected=None)), '(pair_uid 1): "reject.answer" is null'),
    ("p.json", rmb(pairwise(uid="a\nb", rejected=None)), "(pair_uid a b)"),
    ("p.parquet", b"", "p.parquet: "),
    ("p.parquet", b"not parquet", "p.parquet: "),
    ("p.csv", b"prompt,chosen,rejected", "p.csv is of no known kind; expected an RMB folder, or"),
    ("prefs", b"{}", "prefs is of no known kind"),
]


@pytest.mark.parametrize(("name", "content", "expected"), BAD_FILES)
def test_a_bad_file_gives_one_line_that_says_where_and_what(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        read_preferences(tmp_path / name)
    assert expected in text_of(error)
    assert "expected" in text_of(error)
    assert text_of(error).isprintable()
    assert len(text_of(error)) < 500 + len(str(tmp_path))


BAD_TABLES = [
    ([{"prompt": "?", "chosen": "a"}], 'column "rejected" is missing; expected it beside those found: prompt, chosen'),
    ([{"prompt": "?", "chosen": b"a", "rejected": "b"}], 'row 1: "chosen" is "b\'a\'"; expected'),
    ([{"prompt": "?", "chosen": "a", "rejected": "b"}, {"prompt": "?"}], 'row 2: "chosen" is null; expected'),
    ([{"prompt": "?", "chosen": "a", "rejected": ["b", None]}], 'row 1: "rejected[1]" is null; expected'),
]


@pytest.mark.parametrize(("rows", "expected"), BAD_TABLES)
def test_a_bad_table_gives_one_line_that_says_where_and_what(tmp_path, rows, expected):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "p.parquet")
    with pytest.raises(InputError) as error:
        read_preferences(tmp_path / "p.parquet")
    assert expected in text_of(error)
    assert text_of(error).isprintable()


def test_a_table_without_rows_is_refused(tmp_path):
    columns = pyarrow.schema([(name, pyarrow.string()) for name in ("prompt", "chosen", "rejected")])
    pyarrow.parquet.write_table(columns.empty_table(), tmp_path / "p.parquet")
    with pytest.raises(InputError, match="holds no preferences; expected one or more"):
        read_preferences(tmp_path / "p.parquet")


def test_a_truncated_table_is_refused(tmp_path):
    whole = write_parquet(tmp_path / "p.parquet", RECORDS).read_bytes()
    for length in range(0, len(whole), 97):
        (tmp_path / "p.parquet").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"p\.parquet"):
            read_preferences(tmp_path / "p.parquet")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", "the preference source is empty"),
        ("nowhere.jsonl", "nowhere.jsonl does not exist"),
        ("nowhere", "nowhere does not exist"),
        ("x" * 5_000, "File name too long"),
        ("two\nlines.jsonl", "two lines.jsonl does not exist"),
    ],
)
def test_a_source_that_is_not_there_is_named(tmp_path, monkeypatch, source, expected):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as error:
        read_preferences(source)
    assert expected in text_of(error)
    assert text_of(error).isprintable()


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    def refuse(path, *mode):
        raise PermissionError(13, "Permission denied", str(path))

    path = write_jsonl(tmp_path / "p.jsonl", RECORDS)
    monkeypatch.setattr(builtins, "open", refuse)
    with pytest.raises(InputError, match=r"p.jsonl cannot be read \(Permission denied\); expected a readable file"):
        read_preferences(path)


def test_a_folder_of_a_tree_that_may_not_be_read_is_not_passed_over(tmp_path, monkeypatch):
    write_rmb(tmp_path)
    locked, scandir = tmp_path / "BoN_set" / "Helpfulness", os.scandir

    def refuse(folder):
        if Path(folder) == locked:
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"BoN_set.* cannot be read \(Permission denied\)"):
        read_preferences(tmp_path)


def test_a_folder_without_files_of_preferences_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no \.json, \.jsonl, .* file; expected"):
        read_preferences(tmp_path)
    (tmp_path / "BoN_set").mkdir()
    with pytest.raises(InputError, match=r"holds no .json file in BoN_set/ or Pairwise_set/"):
        read_preferences(tmp_path)


def test_a_folder_above_two_rmb_trees_is_refused(tmp_path):
    write_rmb(tmp_path / "first")
    write_rmb(tmp_path / "second")
    with pytest.raises(InputError, match=r"holds 2 RMB trees \(first, second\); expected one"):
        read_preferences(tmp_path)


def test_a_uid_in_two_files_of_one_set_names_both(tmp_path):
    write_json(tmp_path / "BoN_set" / "S1.json", [bon("1")])
    write_json(tmp_path / "BoN_set" / "S2.json", [bon("0"), bon("1")])
    with pytest.raises(InputError, match=r'S2.json, item 2: "bon_uid" is "1", as in .*S1.json, item 1; expected'):
        read_preferences(tmp_path)


def test_an_item_in_the_wrong_set_is_refused(tmp_path):
    write_json(tmp_path / "Pairwise_set" / "S1.json", [bon("1")])
    with pytest.raises(InputError, match=r'S1.json, item 1: "pair_uid" is missing'):
        read_preferences(tmp_path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.sampled_from(["role"]), inner, max_size=3)
    ),
)


@unhurried
@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(("prompt", "chosen", "rejected", "category", "id"), json_values))
)
def test_no_record_gets_past_the_door_but_a_preference(record):
    message = None
    try:
        read = read_record(Row(Field("p.jsonl, line 1", "", record), "p.jsonl", 1))
    except InputError as error:
        message = str(error)
    if message is None:
        assert read.chosen.strip()
        assert read.chosen not in read.rejected
    else:
        assert message.startswith("p.jsonl, line 1")
        assert message.isprintable()


# Splitting


def test_a_split_hits_the_fraction_and_keeps_every_category_on_both_sides():
    preferences = preference_set(["a"] * 50 + ["b"] * 30 + ["c"] * 17 + ["d"] * 3)
    kept, held_out = split_by_prompt(preferences, 0.2, seed=0)
    assert Counter(p.category for p in held_out) == {"a": 10, "b": 6, "c": 3, "d": 1}
    assert len(kept) == 80


def test_a_split_is_the_same_for_the_same_seed_and_another_for_another():
    preferences = preference_set("aabbb" * 20)
    assert split_by_prompt(preferences, 0.3, seed=1) == split_by_prompt(preferences, 0.3, seed=1)
    assert split_by_prompt(preferences, 0.3, seed=1) != split_by_prompt(preferences, 0.3, seed=2)


def test_preferences_on_one_prompt_stay_together_whatever_their_category():
    preferences = PreferenceSet(
        "p", tuple(preference(f"prompt {i % 10}", "ab"[i // 10], chosen=f"answer {i}") for i in range(20))
    )
    kept, held_out = split_by_prompt(preferences, 0.3, seed=0)
    assert (len(kept), len(held_out)) == (14, 6)
    assert not set(kept.prompt_ids) & set(held_out.prompt_ids)


@unhurried
@given(
    categories=st.lists(st.sampled_from("abcdef"), min_size=2, max_size=60),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32),
    data=st.data(),
)
def test_splits_share_no_prompt_lose_none_and_ignore_file_order(categories, fraction, seed, data):
    preferences = preference_set(categories)
    kept, held_out = split_by_prompt(preferences, fraction, seed)
    assert set(kept) | set(held_out) == set(preferences)
    assert not set(kept.prompt_ids) & set(held_out.prompt_ids)
    assert len(held_out) == min(max(round(fraction * len(categories)), 1), len(categories) - 1)

    shuffled = PreferenceSet("p", tuple(data.draw(st.permutations(preferences.preferences))))
    assert set(split_by_prompt(shuffled, fraction, seed)[1]) == set(held_out)


@unhurried
@given(sizes=st.lists(st.integers(3, 9), min_size=1, max_size=8), seed=st.integers(0, 99))
def test_categories_of_a_few_prompts_are_on_both_sides_of_a_split(sizes, seed):
    preferences = preference_set([f"category {i}" for i, size in enumerate(sizes) for _ in range(size)])
    kept, held_out = split_by_prompt(preferences, 0.4, seed)  # room, as 0.4 of 3 prompts rounds to one or more
    assert kept.categories == held_out.categories == preferences.categories


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_fraction_outside_0_and_1_is_refused(fraction):
    with pytest.raises(InputError, match=r"hold out is .*; expected a number between 0 and 1"):
        split_by_prompt(preference_set("ab"), fraction, seed=0)


def test_one_prompt_cannot_be_split():
    preferences = PreferenceSet("prefs.jsonl", (preference("same"), preference("same", chosen="well")))
    with pytest.raises(InputError, match=r"prefs.jsonl has 1 prompt.*expected two or more"):
        split_by_prompt(preferences, 0.5, seed=0)


def test_prompts_in_train_and_test_are_counted_and_quoted_on_one_line():
    train = PreferenceSet("train.jsonl", tuple(preference(f"Why\nis {i} {'very ' * 30} odd?") for i in range(9)))
    test = PreferenceSet("test.jsonl", (preference("What?"), *train.preferences[4:6], train.preferences[5]))
    with pytest.raises(InputError) as error:
        check_disjoint(train, test)
    assert text_of(error).startswith(
        'train.jsonl (train) and test.jsonl (test) share 2 prompts, the first of them "Why is 4'
    )
    assert text_of(error).isprintable()
    assert len(text_of(error)) < 200


def test_the_same_answers_to_other_prompts_are_no_overlap():
    check_disjoint(PreferenceSet("a", (preference("one"),)), PreferenceSet("b", (preference("two"),)))


# Pairs


def test_training_pairs_are_distinct_and_tell_two_texts_apart():
    preferences = [
        preference("?", "Chat", "a", ("b", "c", "b", "a")),
        preference("?", "Other", "a", ("b",)),
        preference("?", "Chat", "b", ("a",)),
        preference("!", "Chat", "a", ("b",)),
    ]
    question, exclamation = (prompt_id((Message("user", mark),)) for mark in "?!")
    a, b, c = map(response_id, "abc")
    assert training_pairs(preferences) == [
        Pair(question, a, b, "Chat"),
        Pair(question, a, c, "Chat"),
        Pair(question, b, a, "Chat"),
        Pair(exclamation, a, b, "Chat"),
    ]


def test_nothing_but_ties_leaves_no_pair():
    assert training_pairs([preference("?", chosen="a", rejected=("a",))]) == []
