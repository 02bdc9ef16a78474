"""Whatever a preference file holds, reading ends soon, within memory, in preferences or in an `InputError`."""

import gzip
import io
import json
import os
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qbrm.errors import InputError
from qbrm.preferences import files, read_preferences
from qbrm.preferences.field import LONGEST_TEXT

EXAMPLES = int(os.environ.get("QBRM_EXAMPLES", "200"))
MOST_MEMORY = 400 * 2**20
PAIR = {"prompt": "What is tea?", "chosen": "A drink.", "rejected": "A stone."}


def refused(path, **options):
    with pytest.raises(InputError) as error:
        read_preferences(path, **options)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
    return str(error.value)


def peak_of(reading):
    """The most bytes that reading took, of Python's and of Arrow's memory; the latter at most what it ever was."""
    tracemalloc.start()
    reading()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak + pa.default_memory_pool().max_memory()


# ------------------------------------------------------------------------------------------------------------ bombs


def test_a_small_parquet_file_that_expands_to_gigabytes_is_refused(tmp_path):
    path, text = tmp_path / "bomb.parquet", "a" * 3_000_000
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), [text])
    pq.write_table(pa.table(dict.fromkeys(PAIR, column)), path, compression="zstd")
    assert path.stat().st_size < 2**16
    said = []
    assert peak_of(lambda: said.append(refused(path))) < MOST_MEMORY
    assert "unpacks to more than 67,108,864 bytes; expected at most 100 times its size" in said[0]


@pytest.mark.parametrize("name", ["bomb.jsonl.gz", "bomb.json.gz"])
def test_a_small_packed_file_that_expands_to_gigabytes_is_refused(tmp_path, name):
    line = json.dumps({**PAIR, "prompt": "a" * 2**20}).encode() + b"\n"
    packed, one = io.BytesIO(), gzip.compress(line * 16)
    if name.endswith(".json.gz"):
        packed.write(gzip.compress(b"["))
    for _ in range(8):
        packed.write(one)
    (tmp_path / name).write_bytes(packed.getvalue())
    said = []
    assert peak_of(lambda: said.append(refused(tmp_path / name))) < MOST_MEMORY
    assert "unpacks to more than 67,108,864 bytes" in said[0]


def test_a_line_of_a_hundred_megabytes_is_refused(tmp_path):
    path = tmp_path / "long.jsonl"
    with path.open("wb") as file:
        file.write(b'{"prompt": "')
        for _ in range(100):
            file.write(b"a" * 2**20)
        file.write(b'", "chosen": "a", "rejected": "b"}\n')
    said = []
    assert peak_of(lambda: said.append(refused(path))) < MOST_MEMORY
    assert "line 1 is longer than 67,108,864 bytes" in said[0]


def test_a_text_longer_than_any_model_reads_is_refused_by_its_row(tmp_path):
    path = tmp_path / "long.json"
    path.write_text(json.dumps([{**PAIR, "prompt": "a" * (LONGEST_TEXT + 1)}]))
    assert '"prompt" has 10,000,001 characters; expected at most 10,000,000.' in refused(path)


def test_a_json_file_too_large_to_read_as_a_whole_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LARGEST_JSON", 100)
    path = tmp_path / "large.json"
    path.write_text(json.dumps([PAIR] * 5))
    assert "has more than 100 bytes; expected JSONL" in refused(path)


def test_ordinary_files_that_pack_well_are_read(tmp_path):
    rows = [{**PAIR, "prompt": f"question {number}"} for number in range(5000)]
    (tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "packed.parquet", compression="zstd")
    assert len(read_preferences(tmp_path / "packed.jsonl.gz")) == len(read_preferences(tmp_path / "packed.parquet"))


# ------------------------------------------------------------------------------------------------ columns and labels


def test_a_column_that_is_there_twice_is_named(tmp_path):
    path = tmp_path / "twice.parquet"
    names = ["prompt", "prompt", "chosen", "rejected"]
    pq.write_table(pa.Table.from_arrays([pa.array([name]) for name in ("p", "q", "a", "b")], names=names), path)
    assert 'has 2 columns "prompt"; expected one' in refused(path)


@pytest.mark.parametrize("category", ["a" * 100_000, "a\x00b", "a\x1b[31mred", "\x85\x9b"])
def test_a_category_that_no_table_can_show_is_refused(tmp_path, category):
    path = tmp_path / "prefs.jsonl"
    path.write_text(json.dumps({**PAIR, "category": category}) + "\n")
    message = refused(path)
    assert 'line 1: "category"' in message
    assert message.isprintable()


# -------------------------------------------------------------------------------------------------------- malformed


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["user", "assistant", "\n\nHuman: hi\n\nAssistant: yes", "\x00", "a" * 300, "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["role", "content", "text", "type", "tool_calls", "prompt", "chosen", "rejected", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system", "tool"]), "content": VALUES}),
    max_size=3,
)
ROWS = st.fixed_dictionaries(
    {},
    optional={
        "prompt": VALUES | MESSAGES,
        "chosen": VALUES | MESSAGES,
        "rejected": VALUES | MESSAGES,
        "category": VALUES,
        "id": VALUES,
        "category_path": VALUES,
        "pair_uid": VALUES,
        "bon_uid": VALUES,
        "conversation_input": VALUES,
        "bon_best": VALUES,
        "loser_list": VALUES,
    },
)
KINDS = st.sampled_from(["jsonl", "json", "jsonl.gz", "json.gz", "parquet"])


def written(rows, kind):
    """Rows as a file of a kind, or None where Arrow has no type for them."""
    if kind == "parquet":
        sink = io.BytesIO()
        try:
            pq.write_table(pa.Table.from_pylist(rows), sink)
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            return None
        return sink.getvalue()
    text = json.dumps(rows) if kind.startswith("json.") or kind == "json" else "\n".join(map(json.dumps, rows))
    return gzip.compress(text.encode()) if kind.endswith(".gz") else text.encode()


@given(
    st.lists(ROWS, min_size=1, max_size=4),
    KINDS,
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=3),
    st.floats(0.1, 1),
    st.booleans(),
)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_malformed_file_gives_preferences_or_one_error(tmp_path_factory, rows, kind, changes, kept, skip_bad):
    """Rows of anything, then bytes changed, then the end cut off."""
    content = written(rows, kind)
    if content is None:
        return
    damaged = bytearray(content)
    for place, value in changes:
        damaged[int(place * len(damaged))] = value
    damaged = damaged[: max(1, round(kept * len(damaged)))] if kept < 0.9 else damaged
    path = tmp_path_factory.getbasetemp() / f"malformed.{kind}"
    path.write_bytes(bytes(damaged))
    preferences, message = (), ""
    try:
        preferences = read_preferences(path, skip_bad=skip_bad)
    except InputError as error:
        message = str(error)
    assert len(preferences) > 0 or message
    assert all(line.isprintable() and len(line) < 1000 for line in message.split("\n"))
    for preference in preferences:
        assert preference.chosen.strip()
        assert preference.rejected
        assert preference.chosen not in preference.rejected
