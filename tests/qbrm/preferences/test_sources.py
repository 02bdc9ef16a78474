"""Where preferences come from: packed files, folders of shards, data sets by name; and rows that are none."""

import gzip
import json
import sys

import pytest

from qbrm.errors import BadRowError, BadRowsError, InputError
from qbrm.preferences import PairCount, preferences_of

datasets = pytest.importorskip("datasets")

NAME = "garden/roses"


def record(number, **changes):
    return {"prompt": f"question {number}", "chosen": "yes", "rejected": "no", **changes}


def conversation(number):
    asked = {"role": "user", "content": f"question {number}"}
    answers = ({"role": "assistant", "content": answer} for answer in ("yes", "no"))
    return dict(zip(("chosen", "rejected"), ([asked, answer] for answer in answers), strict=True))


def lines(*records):
    return "".join(json.dumps(line) + "\n" for line in records).encode()


def questions(preferences):
    return [preference.prompt[0].content for preference in preferences]


# Files and folders


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.jsonl.gz", gzip.compress(lines(record(0), record(1)), mtime=0)),
        ("P.JSONL.GZ", gzip.compress(lines(record(0), record(1)), mtime=0)),
        ("p.json.gz", gzip.compress(json.dumps([record(0), record(1)]).encode(), mtime=0)),
        ("p.json", json.dumps([record(0), record(1)], indent=1).encode()),
        ("lines.json", lines(record(0), record(1))),
        ("one.jsonl", lines(record(0), record(1)).rstrip()),
    ],
)
def test_text_files_are_read_packed_or_not(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert questions(preferences_of(tmp_path / name)) == ["question 0", "question 1"]


def test_a_damaged_archive_is_no_bad_row(tmp_path):
    whole = gzip.compress(lines(*(record(number) for number in range(200))), mtime=0)
    (tmp_path / "p.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    for skip_bad in (True, False):
        with pytest.raises(InputError, match=r"p\.jsonl\.gz cannot be unpacked \(.*\); expected a gzip file"):
            preferences_of(tmp_path / "p.jsonl.gz", skip_bad=skip_bad)


def test_a_folder_of_shards_is_one_source_whose_ids_may_start_anew(tmp_path):
    for number in (1, 0):
        (tmp_path / f"part-{number}.jsonl").write_bytes(lines(record(number, id=0)))
    (tmp_path / "dataset_info.json").write_text("{}")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "prefs.jsonl").write_bytes(lines(record(2)))
    assert questions(preferences_of(tmp_path)) == ["question 0", "question 1"]


@pytest.mark.parametrize(
    "names",
    [
        ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet"),
        ("roses-train-a.jsonl", "roses-train-b.jsonl", "roses-test.jsonl"),
        ("train/a.json", "train/b.jsonl.gz", "test/latest.json"),
    ],
)
def test_a_folder_of_several_splits_asks_which(tmp_path, names):
    for number, name in enumerate(names):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        content = lines(record(number))
        if name.endswith(".parquet"):
            datasets.Dataset.from_list([record(number)]).to_parquet(path)
        else:
            path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(
        InputError, match=r"has several splits \(test, train\); expected one behind a colon, as in .*:train"
    ):
        preferences_of(tmp_path)
    with pytest.raises(InputError, match="has no split 'dev'; expected one of those it has: test, train"):
        preferences_of(f"{tmp_path}:dev")
    train = preferences_of(f"{tmp_path}:train")
    assert questions(train) == ["question 0", "question 1"]
    assert train.name == f"{tmp_path.name}:train"
    assert questions(preferences_of(f"{tmp_path}:test")) == ["question 2"]


def test_a_folder_that_datasets_saved_is_a_source(tmp_path):
    part = datasets.Dataset.from_list([conversation(0), conversation(1)])
    part.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=part, test=part.select([1])).save_to_disk(tmp_path / "both")
    assert questions(preferences_of(tmp_path / "one")) == ["question 0", "question 1"]
    assert questions(preferences_of(f"{tmp_path / 'both'}:test")) == ["question 1"]
    with pytest.raises(InputError, match=r"both has several splits \(test, train\)"):
        preferences_of(tmp_path / "both")


# Data sets by name


@pytest.mark.parametrize(
    ("source", "arguments", "name"),
    [
        (NAME, ((NAME,), {"split": "train"}), f"{NAME}:train"),
        (f"{NAME}:test_prefs", ((NAME,), {"split": "test_prefs"}), f"{NAME}:test_prefs"),
        (f"{NAME}:wild:test", ((NAME, "wild"), {"split": "test"}), f"{NAME}:wild:test"),
    ],
)
def test_a_data_set_by_name_is_loaded_with_its_split(tmp_path, monkeypatch, source, arguments, name):
    calls = []

    def load_dataset(*names, **options):
        calls.append((names, options))
        return datasets.Dataset.from_list([conversation(0) | {"score": 1.0}, conversation(1) | {"score": 2.0}])

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    preferences = preferences_of(source)
    assert calls == [arguments]
    assert preferences.name == name
    assert questions(preferences) == ["question 0", "question 1"]
    assert [preference.place for preference in preferences] == [f"{name}, row 1", f"{name}, row 2"]


def test_a_path_that_exists_is_no_data_set_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", None)
    (tmp_path / NAME).mkdir(parents=True)
    (tmp_path / NAME / "prefs.jsonl").write_bytes(lines(record(0)))
    assert questions(preferences_of(NAME)) == ["question 0"]


@pytest.mark.parametrize(
    "error", [ConnectionError("no\nroute."), ValueError('Unknown split "x"'), KeyError(), OSError()]
)
def test_a_name_that_cannot_be_loaded_is_one_line(tmp_path, monkeypatch, error):
    def fail(*names, **options):
        raise error

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(InputError) as told:
        preferences_of(f"{NAME}:x")
    assert str(told.value).startswith(f"{NAME}:x is neither a path that exists nor a data set that can be loaded (")
    assert str(told.value).isprintable()


def test_without_the_package_datasets_a_name_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"garden/roses is no path .* pip install 'qbrm\[benchmarks\]'"):
        preferences_of(NAME)


# Bad rows

BROKEN = (
    lines(record(0), {"prompt": "question 1", "chosen": "yes"})
    + b'{"prompt": "question 2", \n'
    + b'{"prompt": "\xff"}\n'
    + lines(record(4, rejected="yes"), record(5), {"prompt": "question 6", "chosen": "yes"}, ["question 7"])
)
KINDS = {
    '"rejected" is missing': 2,
    "the line is not JSON": 1,
    "the line is not UTF-8": 1,
    '"rejected" is the same as "chosen"': 1,
    'the row is not an object with "prompt", "chosen" and "rejected"': 1,
}


def test_every_bad_row_is_named_at_once(tmp_path):
    (tmp_path / "p.jsonl").write_bytes(BROKEN)
    with pytest.raises(BadRowsError) as error:
        preferences_of(tmp_path / "p.jsonl")
    first, *rows, last = error.value.lines
    assert first == "6 of 8 rows of p.jsonl are bad:"
    assert [int(row.removeprefix(f"{tmp_path / 'p.jsonl'}, line ")[0]) for row in rows] == [2, 3, 4, 5, 7, 8]
    assert all("; expected " in row and row.isprintable() for row in rows)
    assert "--skip-bad" in last


def test_bad_rows_that_are_left_out_are_counted_by_kind(tmp_path):
    (tmp_path / "p.jsonl").write_bytes(BROKEN)
    preferences = preferences_of(tmp_path / "p.jsonl", skip_bad=True)
    assert questions(preferences) == ["question 0", "question 5"]
    assert preferences.left_out == KINDS


def test_more_than_twenty_bad_rows_are_counted(tmp_path):
    bad = [record(number, chosen=None) for number in range(25)]
    with pytest.raises(BadRowsError) as error:
        preferences_of([*bad, record(25)])
    assert len(error.value.lines) == 1 + 20 + 2
    assert error.value.lines[-2] == "and 5 more."


def test_a_single_bad_row_is_one_line():
    with pytest.raises(BadRowError) as error:
        preferences_of([record(0), record(1, chosen=None)])
    assert str(error.value).startswith('preferences, record 2: "chosen" is null; expected')
    assert str(error.value).isprintable()


def test_a_source_of_nothing_but_bad_rows_is_refused_even_if_they_may_be_left_out():
    with pytest.raises(BadRowsError, match="2 of 2 rows of preferences are bad"):
        preferences_of([record(0, chosen=None), record(1, rejected=None)], skip_bad=True)


def test_an_id_may_occur_again_as_files_have_one_per_prompt():
    preferences = preferences_of([record(0, id=0), record(1, id=0.0), record(2, id="1")])
    assert questions(preferences) == ["question 0", "question 1", "question 2"]
    assert not preferences.left_out


def test_bad_items_of_rmb_are_bad_rows(tmp_path):
    def item(uid, **changes):
        chat = [{"role": "user", "content": f"question {uid}"}]
        answers = {"chosen": {"answer": "yes"}, "reject": {"answer": "no"}}
        return {"pair_uid": uid, "conversation_input": chat, "category_path": "Chat", **answers, **changes}

    (tmp_path / "Pairwise_set").mkdir()
    items = [item("a", chosen=None), item("b"), item("c", reject=7), item("b")]
    (tmp_path / "Pairwise_set" / "S1.json").write_text(json.dumps(items))
    with pytest.raises(BadRowsError, match=f"3 of 4 rows of {tmp_path.name} are bad"):
        preferences_of(tmp_path)
    assert questions(preferences_of(tmp_path, skip_bad=True)) == ["question b"]


# Pairs


def test_pairs_that_are_left_out_are_counted():
    records = [record(0), record(0), record(1, rejected=["no", "never", "no"])]
    preferences = preferences_of(records)
    assert preferences.pair_count == PairCount(distinct=3, repeated=2, equal=0)
    assert sum(preferences.pair_count) == preferences.n_pairs
