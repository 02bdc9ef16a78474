"""A feature table survives kills, damage and growth, and says so when it cannot be used."""

import hashlib
import json
import multiprocessing
import re
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fixtures.checksums import forget_checksums
from fixtures.hashing_model import HashingModel
from qbrm import durable
from qbrm.durable import LOCK, one_writer
from qbrm.errors import InputError
from qbrm.features import FeatureTable, build_features, write_features
from qbrm.features.build import build_with
from qbrm.features.engine import LocalEngine, embed_block
from qbrm.features.manifest import Manifest
from qbrm.features.plan import shard_plan
from qbrm.features.refused import RefusedTextsError, rows_of
from qbrm.features.shard import write_shard
from qbrm.preferences import read_preferences
from qbrm.preferences.base import Message, Preference, PreferenceSet, response_id
from qbrm.reward_models.base import Embedded, Identity, Refusal

IDENTITY = Identity("fake", "0123456789abcdef", "plain", 16)
DIM = 5
SHARD_ROWS = 8


class FakeModel:
    """Embeds a text as numbers drawn from its hash, and remembers what it was asked."""

    def __init__(self, identity=IDENTITY, dim=DIM, reward=True, delay=0.0):
        self.identity, self.dim, self.reward, self.delay = identity, dim, reward, delay
        self.asked = []

    def embed(self, prompts, responses):
        time.sleep(self.delay)
        self.asked += list(zip(prompts, responses, strict=True))
        rows = np.stack([self._row(*pair) for pair in zip(prompts, responses, strict=True)])
        return Embedded(rows[:, : self.dim], rows[:, self.dim] if self.reward else None)

    def _row(self, prompt, response):
        digest = hashlib.sha256(repr((prompt, response)).encode()).digest()
        return np.random.default_rng(list(digest)).standard_normal(self.dim + 1).astype(np.float32)


class Uncallable(FakeModel):
    def embed(self, prompts, responses):
        raise AssertionError("nothing is missing, yet the model was called")


class Choosy(FakeModel):
    """Takes no response that has one of some words in it."""

    def __init__(self, *words, foldable=False):
        super().__init__()
        self.words, self.foldable = words, foldable

    def refusals(self, prompts, responses):
        texts = [f" {response} " for response in responses]
        odd = [any(f" {word} " in text for word in self.words) for text in texts]
        return [Refusal(index, "it is odd", self.foldable) for index in range(len(prompts)) if odd[index]]


def preferences(first=0, last=10, rejected=2):
    def preference(number):
        prompt = (Message("user", f"question {number}"),)
        responses = [f"answer {i} to {number} " + "so " * (7 * i + number) for i in range(rejected + 1)]
        return Preference(str(number), prompt, responses[0], tuple(responses[1:]), "chat", "bon")

    return PreferenceSet("made up", tuple(map(preference, range(first, last))))


def build(folder, model=None, source=None, **options):
    model = FakeModel() if model is None else model
    source = preferences() if source is None else source
    return build_features(model, source, folder, **{"shard_rows": SHARD_ROWS} | options)


def contents(table):
    keys = table.keys()
    embedding, reward = table.rows(keys)
    rewards = [None] * len(keys) if reward is None else reward.tolist()
    return {key: (row.tolist(), r) for key, row, r in zip(keys, embedding, rewards, strict=True)}


def files(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.name != LOCK}


def manifest(folder):
    return json.loads((Path(folder) / "manifest.json").read_text())


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "bit flip":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        path.unlink()


@pytest.mark.parametrize("reward", [True, False])
def test_rows_are_what_the_model_says_in_the_order_asked(tmp_path, reward):
    model = FakeModel(reward=reward)
    table = build(tmp_path, model)
    texts = preferences().responses()
    keys = [*reversed(texts), next(iter(texts))]
    expected = model.embed(*zip(*(texts[key] for key in keys), strict=True))
    found = FeatureTable.open(tmp_path).rows(keys)
    np.testing.assert_array_equal(found.embedding, expected.embedding)
    if reward:
        np.testing.assert_array_equal(found.reward, expected.reward)
    else:
        assert found.reward is None
    assert len(table) == len(texts)
    assert table.rows([]).embedding.shape == (0, DIM)
    assert manifest(tmp_path)["columns"] == ["prompt_id", "response_id", "embedding"] + ["reward"] * reward


def test_shards_together_are_the_table(tmp_path):
    table = build(tmp_path)
    shards = list(table.shards())
    assert [
        (p, r) for shard in shards for p, r in zip(shard.prompt_ids, shard.response_ids, strict=True)
    ] == table.keys()
    np.testing.assert_array_equal(np.concatenate([s.embedding for s in shards]), table.rows(table.keys()).embedding)
    assert max(len(shard.embedding) for shard in shards) <= SHARD_ROWS
    assert table.complete


def test_equal_texts_are_embedded_once_and_a_finished_table_asks_nothing(tmp_path):
    source, model = preferences(), FakeModel()
    doubled = PreferenceSet("twice", source.preferences + source.preferences)
    build(tmp_path, model, doubled)
    assert len(model.asked) == len(set(model.asked)) == len(source.responses())
    before = files(tmp_path)
    build(tmp_path, Uncallable(), doubled)
    assert files(tmp_path) == before


def test_progress_starts_at_what_is_there_and_ends_at_the_total(tmp_path):
    build(tmp_path, source=preferences(0, 4))
    seen = []
    build(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (12, 30)
    assert seen[-1] == (30, 30)
    assert seen == sorted(seen)


def build_slowly(folder):
    build(folder, FakeModel(delay=0.15))


def test_a_build_killed_by_sigkill_continues_where_it_was(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=build_slowly, args=(tmp_path / "killed",))
    process.start()
    deadline = time.monotonic() + 60
    while not ((tmp_path / "killed/manifest.json").exists() and len(manifest(tmp_path / "killed")["shards"]) >= 2):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.join()
    left = FeatureTable.open(tmp_path / "killed")
    assert 0 < len(left) < len(preferences().responses())
    assert not left.complete
    model = FakeModel()
    build(tmp_path / "killed", model)
    assert len(model.asked) == len(preferences().responses()) - len(left)
    build(tmp_path / "whole")
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


class Killed(BaseException):
    pass


@contextmanager
def flush_interrupted(monkeypatch, number):
    calls = iter(range(number))

    def fsync(descriptor):
        if next(calls, None) is None:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(durable.os, "fsync", fsync)
        yield


def test_a_build_stopped_at_any_write_loses_at_most_one_shard(tmp_path, monkeypatch):
    build(tmp_path / "whole")
    shards = len(manifest(tmp_path / "whole")["shards"])
    # Shard, manifest and checksums are flushed, the folder after each; old checksums are dropped in the end.
    for number in range(3 + shards * (2 + 4) + 4):
        folder = tmp_path / str(number)
        stopped, resumed = FakeModel(), FakeModel()
        with flush_interrupted(monkeypatch, number), pytest.raises(Killed):
            build(folder, stopped)
        build(folder, resumed)
        asked = len(stopped.asked) + len(resumed.asked)
        assert asked <= len(preferences().responses()) + SHARD_ROWS
        assert files(folder) == files(tmp_path / "whole")


@pytest.mark.parametrize("how", ["truncated", "bit flip", "missing"])
def test_a_damaged_shard_is_named_and_exactly_its_rows_are_computed_again(tmp_path, how, caplog):
    before = contents(build(tmp_path))
    victim = manifest(tmp_path)["shards"][1]
    damage(tmp_path / victim["file"], how)
    with pytest.raises(InputError, match=rf"{victim['file']} is damaged .*rerun the command that built it"):
        FeatureTable.open(tmp_path)
    model = FakeModel()
    repaired = build(tmp_path, model)
    assert re.search(rf"{victim['file']} is damaged .*{victim['rows']} rows", caplog.text)
    assert len(model.asked) == victim["rows"]
    assert contents(repaired) == before
    assert contents(FeatureTable.open(tmp_path)) == before


def test_a_table_grows_with_a_second_source(tmp_path):
    build(tmp_path, source=preferences(0, 6))
    model = FakeModel()
    table = build(tmp_path, model, preferences(3, 9))
    assert {prompt[0].content for prompt, _ in model.asked} == {f"question {number}" for number in (6, 7, 8)}
    assert set(table.keys()) == set(preferences(0, 9).responses())
    assert contents(table) == contents(build(tmp_path / "at once", source=preferences(0, 9)))


def refused_texts(model, source, folder):
    with pytest.raises(RefusedTextsError) as error:
        build(folder, model, source)
    assert not model.asked
    return error.value


def test_texts_that_the_model_cannot_take_are_named_by_their_rows_before_any_is_embedded(tmp_path):
    rows = [{"prompt": f"q {n}", "chosen": f"yes {n}", "rejected": f"no {n}"} for n in range(30)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source, line = read_preferences(tmp_path / "p.jsonl"), f"{tmp_path / 'p.jsonl'}, line"
    one = str(refused_texts(Choosy("3"), source, tmp_path / "features"))
    assert one == f"{line} 4: it is odd; expected texts that the model can take."
    two = str(refused_texts(Choosy("3", "8", foldable=True), source, tmp_path / "features"))
    assert two.startswith(f"2 rows cannot be embedded: {line} 4, {line} 9: it is odd; expected")
    assert "--fold-system" in two
    all_of_them = refused_texts(Choosy("yes", "no"), source, tmp_path / "features")
    assert str(all_of_them).count(line) == 20
    assert "; and 10 more; expected" in str(all_of_them)
    assert len(all_of_them.keys) == 60


def test_rows_without_the_refused_texts_can_be_embedded(tmp_path):
    source, model = preferences(), Choosy("to 3")
    refused = refused_texts(model, source, tmp_path)
    assert [row.uid for row in rows_of(source, refused.keys)] == ["3"]
    kept = source.of_prompts({row.prompt_id for row in source} - {prompt for prompt, _ in refused.keys})
    assert len(build(tmp_path, model, kept)) == len(kept.responses()) == 27


def test_refusals_leave_a_table_as_it_was(tmp_path):
    build(tmp_path, source=preferences(0, 5))
    before = files(tmp_path)
    refused_texts(Choosy("to 7"), preferences(0, 10), tmp_path)
    assert files(tmp_path) == before
    assert FeatureTable.open(tmp_path).complete


def test_a_table_without_rows_is_any_models(tmp_path):
    """A build that ended before its first shard leaves a manifest, and the next one may have other settings."""
    refused_texts(Choosy("to 3"), preferences(), tmp_path)
    other = Identity("fake", "0123456789abcdef", "another template", 16)
    assert build(tmp_path, FakeModel(other)).identity == other


def test_a_table_that_is_not_complete_says_how_much_there_is(tmp_path, monkeypatch):
    refused_texts(Choosy("to 3"), preferences(), tmp_path / "none")
    with flush_interrupted(monkeypatch, 10), pytest.raises(Killed):
        build(tmp_path / "some")
    for folder, low, high in [("none", 0, 1), ("some", 1, 30)]:
        table = FeatureTable.open(tmp_path / folder)
        assert low <= len(table) < high
        with pytest.raises(
            InputError, match=f"{folder} are not complete: {len(table)} of 30 responses; run qbrm embed"
        ):
            table.require_complete()
    build(tmp_path / "some")
    FeatureTable.open(tmp_path / "some").require_complete()


def test_features_of_another_model_are_refused_naming_both(tmp_path):
    build(tmp_path)
    other = FakeModel(Identity("Skywork-8B", "9f2c1e0", "chat", 16))
    with pytest.raises(InputError, match=r"come from fake@0123456, the reward model is Skywork-8B@9f2c1e0\.$"):
        build(tmp_path, other)
    shorter = FakeModel(Identity("fake", "0123456789abcdef", "plain", 8), dim=4)
    with pytest.raises(InputError, match=r"fake@0123456 \(max_length 16, embedding size 5\), .*\(max_length 8, embed"):
        build(tmp_path, shorter)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", ["embedding", "reward"])
def test_a_value_that_is_not_finite_is_never_written(tmp_path, value, column):
    class Broken(FakeModel):
        def embed(self, prompts, responses):
            features = super().embed(prompts, responses)
            getattr(features, column)[responses.index(bad)] = value
            return features

    bad = preferences().preferences[9].chosen
    with pytest.raises(
        InputError, match=f"fake@0123456 gave NaN or infinity for response {response_id(bad)} of prompt"
    ):
        build(tmp_path, Broken())
    assert all(np.isfinite(shard.embedding).all() for shard in FeatureTable.open(tmp_path).shards())
    keys = FeatureTable.open(tmp_path).keys()
    assert response_id(bad) not in {response for _, response in keys}


def test_embeddings_of_the_wrong_size_are_never_written(tmp_path):
    model = FakeModel()
    model.embed = lambda prompts, responses: FakeModel(dim=4).embed(prompts, responses)
    with pytest.raises(InputError, match=r"fake@0123456 gave embeddings of shape \(\d+, 4\); expected \(\d+, 5\)"):
        build(tmp_path, model)


def foreign_table(folder, embedding, dim=DIM):
    """A table that some other program wrote: nothing was checked, but its checksums are right."""
    keys = [("prompt", str(row)) for row in range(len(embedding))]
    entry = write_shard(folder / "features-00000.arrow", keys, Embedded(embedding, None))
    Manifest(IDENTITY, dim, False, (entry,), True).write(folder)
    return keys


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_named_when_read(tmp_path, value):
    embedding = np.zeros((4, DIM), dtype=np.float32)
    embedding[2, 3] = value
    keys = foreign_table(tmp_path, embedding)
    table = FeatureTable.open(tmp_path)
    with pytest.raises(InputError, match=r"features-00000\.arrow, row 2: not finite"):
        list(table.shards())
    with pytest.raises(InputError, match=r"features-00000\.arrow, row 2: not finite"):
        table.rows(keys[::-1])
    assert table.rows(keys[:2]).embedding.shape == (2, DIM)


def test_mixed_embedding_sizes_are_refused(tmp_path):
    foreign_table(tmp_path, np.zeros((4, 3), dtype=np.float32))
    with pytest.raises(InputError, match=r"features-00000\.arrow has embedding .*\[3\]; its manifest says .*\[5\]"):
        FeatureTable.open(tmp_path)
    with pytest.raises(InputError, match=r"\[3\]; its manifest says"):
        build(tmp_path, FakeModel(reward=False))


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    for folder in (tmp_path / "file", tmp_path / "file" / "features"):
        with pytest.raises(InputError, match=f"folder {folder} cannot be written: .*; expected a writable folder"):
            build(folder, Uncallable())


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 2}', "\xff"])
def test_a_manifest_that_is_not_one_is_named(tmp_path, text):
    (tmp_path / "manifest.json").write_bytes(text.encode("latin-1"))
    for use in (FeatureTable.open, build):
        with pytest.raises(InputError, match=r"manifest\.json .*manifest"):
            use(tmp_path)


def test_a_manifest_cannot_point_outside_its_folder(tmp_path):
    build(tmp_path)
    content = manifest(tmp_path)
    content["shards"][0]["file"] = "../features-00000.arrow"
    forget_checksums(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"shard file '\.\./features-00000\.arrow'"):
        FeatureTable.open(tmp_path)


def test_no_table_is_an_error_and_shards_without_manifest_are_left_alone(tmp_path):
    with pytest.raises(InputError, match=r"no feature table in .*manifest\.json is missing"):
        FeatureTable.open(tmp_path)
    (tmp_path / "features-00000.arrow").write_bytes(b"somebody's")
    with pytest.raises(InputError, match=r"has shards but no manifest\.json"):
        build(tmp_path, Uncallable())
    assert files(tmp_path) == {"features-00000.arrow": b"somebody's"}


def test_a_row_that_the_table_lacks_is_named(tmp_path):
    with pytest.raises(InputError, match="lack response nobody of prompt none; rerun"):
        build(tmp_path).rows([("none", "nobody")])


def test_reading_maps_the_file_and_copies_nothing(tmp_path):
    rng = np.random.default_rng(0)
    write_features(tmp_path, IDENTITY, [("p", str(i)) for i in range(1000)], rng.random((1000, 64), np.float32), None)
    table = FeatureTable.open(tmp_path)
    before = pa.total_allocated_bytes()
    (shard,) = table.shards()
    assert pa.total_allocated_bytes() == before
    assert not shard.embedding.flags.owndata
    assert not shard.embedding.flags.writeable
    np.testing.assert_array_equal(shard.embedding, np.random.default_rng(0).random((1000, 64), np.float32))


def test_a_written_table_replaces_the_old_one_whole_or_not_at_all(tmp_path, monkeypatch):
    old = contents(build(tmp_path))
    keys = [("p", str(number)) for number in range(20)]
    embedding, reward = np.ones((20, 3), dtype=np.float32), np.arange(20, dtype=np.float32)
    other = Identity("trunk", "fedcba9", "plain", 16)
    for number in range(2 * 3 + 2):  # three shards, the manifest and its checksum; then it is renamed
        with flush_interrupted(monkeypatch, number), pytest.raises(Killed):
            write_features(tmp_path, other, keys, embedding, reward, shard_rows=8)
        assert contents(FeatureTable.open(tmp_path)) == old
    written = write_features(tmp_path, other, keys, embedding, reward, shard_rows=8)
    assert written.keys() == FeatureTable.open(tmp_path).keys() == keys
    assert (written.identity, written.dim, written.complete) == (other, 3, True)
    np.testing.assert_array_equal(written.rows(keys[::-1]).reward, reward[::-1])
    assert len(files(tmp_path)) == 5


@pytest.mark.parametrize(
    ("keys", "embedding", "reward", "message"),
    [
        ([("p", "a"), ("p", "a")], np.zeros((2, 3)), None, "twice"),
        ([("p", "a")], np.zeros((2, 3)), None, "shape"),
        ([("p", "a"), ("p", "b")], np.zeros((2, 3)), np.zeros(1), "shape"),
        ([("p", "a"), ("p", "b")], np.array([[0.0], [np.nan]]), None, "response b of prompt p"),
    ],
)
def test_arrays_that_are_no_table_are_refused(tmp_path, keys, embedding, reward, message):
    with pytest.raises(InputError, match=message):
        write_features(tmp_path / "features", IDENTITY, keys, embedding, reward)
    assert not (tmp_path / "features").exists()


class Short(FakeModel):
    """Takes texts of at most 20 characters."""

    def embed_and_count(self, prompts, responses):
        return self.embed(prompts, responses), sum(len(response) > 20 for response in responses)


def test_texts_that_were_cut_are_counted_also_after_a_kill(tmp_path, monkeypatch):
    with flush_interrupted(monkeypatch, 5), pytest.raises(Killed):
        build(tmp_path / "killed", Short())
    expected = sum(len(response) > 20 for _, response in preferences().responses().values())
    assert 0 < expected < len(preferences().responses())
    for name in ("killed", "whole", "whole"):
        assert build(tmp_path / name, Short()).cut == FeatureTable.open(tmp_path / name).cut == expected
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_a_table_of_an_earlier_version_tells_of_no_cut_texts(tmp_path):
    build(tmp_path, Short())
    content = manifest(tmp_path)
    for shard in content["shards"]:
        del shard["cut"]
    forget_checksums(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    assert FeatureTable.open(tmp_path).cut == 0


def test_an_empty_source_gives_an_empty_table(tmp_path):
    table = build(tmp_path, Uncallable(), PreferenceSet("empty", ()))
    assert (len(table), table.keys(), list(table.shards())) == (0, [], [])


def test_a_second_writer_waits_for_the_first(tmp_path, caplog):
    model = FakeModel()
    with one_writer(tmp_path):
        thread = threading.Thread(target=build, args=(tmp_path, model))
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        assert not model.asked
    thread.join(10)
    assert "being written by another process" in caplog.text
    assert len(FeatureTable.open(tmp_path)) == len(preferences().responses())


def test_the_plan_keeps_a_prompt_in_one_shard_in_any_order():
    texts = preferences(0, 20).responses()
    plan = list(shard_plan(texts, SHARD_ROWS))
    assert plan == list(shard_plan(dict(reversed(texts.items())), SHARD_ROWS))
    homes = {(prompt, number) for number, shard in enumerate(plan) for prompt, _ in shard}
    assert len(homes) == 20
    assert sorted(key for shard in plan for key in shard) == sorted(texts)


class Backwards(LocalEngine):
    """Finishes the last block first, and dies after some."""

    def __init__(self, model, blocks):
        super().__init__(model)
        self.blocks = blocks

    def embed(self, blocks, advance):
        for done, block in enumerate(reversed(blocks)):
            if done == self.blocks:
                raise Killed
            yield block, embed_block(HashingModel(), block)


@pytest.mark.parametrize("finished", range(5))
def test_neither_the_order_of_blocks_nor_a_kill_shows_in_the_bytes(tmp_path, finished):
    build(tmp_path / "whole", HashingModel())
    with pytest.raises(Killed):
        build_with(Backwards(HashingModel(), finished), preferences(), tmp_path / "killed", None, SHARD_ROWS)
    assert len(manifest(tmp_path / "killed")["shards"]) == finished
    build(tmp_path / "killed", HashingModel())
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_a_repaired_table_is_the_same_bytes(tmp_path, caplog):
    build(tmp_path, HashingModel())
    before = files(tmp_path)
    damage(tmp_path / "features-00002.arrow", "bit flip")
    build(tmp_path, HashingModel())
    assert "features-00002.arrow is damaged" in caplog.text
    assert files(tmp_path) == before


def test_what_a_reward_model_was_loaded_with_is_kept_with_its_features(tmp_path):
    model = HashingModel()
    assert build(tmp_path / "plain", model).settings == {}
    model.settings = lambda: {"head": "linear"}
    build(tmp_path / "set", model)
    assert FeatureTable.open(tmp_path / "set").settings == {"head": "linear"}


def test_a_prompt_with_more_responses_than_a_shard_holds_is_spread():
    texts = preferences(0, 2, rejected=20).responses()
    sizes = [len(shard) for shard in shard_plan(texts, SHARD_ROWS)]
    assert max(sizes) == SHARD_ROWS
    assert sum(sizes) == len(texts)
