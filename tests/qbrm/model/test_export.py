"""The published EBRM code can train on what `qbrm export` writes."""

import importlib
import json

import pytest
import torch

from fixtures.checksums import forget_checksums
from fixtures.fake_encoder import FakeEncoder
from fixtures.preference_files import write_preferences
from qbrm.cli.console import Reporter
from qbrm.errors import InputError
from qbrm.features import FeatureTable
from qbrm.features.pair_list import read_pairs, write_pairs
from qbrm.model.export.ebrm import export_ebrm
from qbrm.preferences import read_preferences, training_pairs
from qbrm.reward_models import DEFAULT_REWARD_MODEL, REWARD_MODELS
from qbrm_lab.comparison import ComparisonSettings, compare

export_module = importlib.import_module("qbrm.model.export.ebrm")


@pytest.fixture(scope="module", autouse=True)
def encoder():
    with pytest.MonkeyPatch.context() as monkeypatch:
        fake = FakeEncoder()
        monkeypatch.setitem(REWARD_MODELS, "fake", lambda: fake)
        monkeypatch.setitem(REWARD_MODELS, DEFAULT_REWARD_MODEL, lambda: fake)
        monkeypatch.setattr("qbrm_lab.report.write.pictures", lambda part, number: [])
        yield fake


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_preferences(tmp_path_factory.mktemp("source") / "train.jsonl", 0, 60)


@pytest.fixture(scope="module")
def finished(source, tmp_path_factory):
    """A finished run of two seeds."""
    out = tmp_path_factory.mktemp("run")
    settings = ComparisonSettings(train=source, out=out, methods=("base",), reward_model="fake", seeds=2)
    compare(settings, Reporter.silent())
    return out


def read(file):
    """What the published code would read, after checks on its form."""
    content = torch.load(file, weights_only=True)
    assert isinstance(content, list)
    assert all(entry.keys() == {"embedding", "reward"} for entry in content)
    assert all(entry["embedding"].dtype == torch.float32 and entry["embedding"].dim() == 1 for entry in content)
    assert len(content) % 2 == 0
    return content


def assert_holds(content, table, keys):
    rows = table.rows(keys)
    assert len(content) == len(keys)
    for entry, embedding, reward in zip(content, rows.embedding, rows.reward, strict=True):
        assert torch.equal(entry["embedding"], torch.from_numpy(embedding))
        assert float(entry["reward"]) == float(reward)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_seed_folder_gives_its_training_pairs_chosen_first(finished, source, tmp_path, seed):
    folder, file = finished / "features" / f"fresh-seed-{seed}", tmp_path / "export.pt"
    export_ebrm(folder, file, 0)
    content, table = read(file), FeatureTable.open(folder)
    keys, listed = table.keys(), read_pairs(table)
    pairs = [(keys[chosen], keys[rejected]) for chosen, rejected in zip(listed.chosen, listed.rejected, strict=True)]
    assert_holds(content, table, [key for pair in pairs for key in pair])
    labelled = {(pair.prompt_id, pair.chosen_response_id, pair.rejected_response_id) for pair in source_pairs(source)}
    assert {(prompt, chosen, rejected) for (prompt, chosen), (_, rejected) in pairs} <= labelled
    assert 0 < len(pairs) < len(labelled)  # validation, test and the reward model's own half are not in it


def source_pairs(source):
    return training_pairs(read_preferences(source))


def test_a_features_folder_gives_its_first_seed(finished, tmp_path):
    export_ebrm(finished / "features", tmp_path / "all.pt", 0)
    export_ebrm(finished / "features" / "fresh-seed-0", tmp_path / "first.pt", 0)
    for mine, other in zip(read(tmp_path / "all.pt"), read(tmp_path / "first.pt"), strict=True):
        assert torch.equal(mine["embedding"], other["embedding"])
        assert mine["reward"] == other["reward"]


def test_a_preference_source_is_embedded_and_all_its_pairs_exported(source, tmp_path):
    file = tmp_path / "new" / "export.pt"
    export_ebrm(source, file, 0)
    content, pairs = read(file), source_pairs(source)
    assert len(content) == 2 * len(pairs)
    # Which row is whose can be told from the responses that several pairs share.
    rows = [(p.prompt_id, response) for p in pairs for response in (p.chosen_response_id, p.rejected_response_id)]
    of_row = {}
    for key, entry in zip(rows, content, strict=True):
        first = of_row.setdefault(key, entry)
        assert torch.equal(first["embedding"], entry["embedding"])
        assert first["reward"] == entry["reward"]
    assert len({entry["embedding"].numpy().tobytes() for entry in of_row.values()}) == len(of_row)
    chosen, rejected = (torch.tensor([entry["reward"] for entry in content[side::2]]) for side in (0, 1))
    assert (chosen > rejected).float().mean() > 0.65  # the reward model was trained on these pairs


def test_the_same_seed_exports_the_same_and_does_not_embed_again(source, encoder, tmp_path):
    export_ebrm(source, tmp_path / "export.pt", 3)
    first, calls = (tmp_path / "export.pt").read_bytes(), encoder.calls
    export_ebrm(source, tmp_path / "export.pt", 3)
    assert (tmp_path / "export.pt").read_bytes() == first
    assert encoder.calls == calls
    export_ebrm(source, tmp_path / "export.pt", 4)
    assert (tmp_path / "export.pt").read_bytes() != first


def test_a_source_is_not_changed_by_exporting_it(finished, tmp_path):
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    export_ebrm(finished / "features", tmp_path / "export.pt", 0)
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


class KilledError(BaseException):
    pass


@pytest.mark.parametrize("error", [KilledError, OSError], ids=["killed", "disk full"])
def test_a_half_written_file_never_has_the_final_name(finished, tmp_path, monkeypatch, error):
    file = tmp_path / "export.pt"
    export_ebrm(finished / "features", file, 0)
    whole = file.read_bytes()

    def half(content, target):
        target.write_bytes(whole[: len(whole) // 2])
        raise error(28, "No space left on device")

    monkeypatch.setattr(export_module.torch, "save", half)
    with pytest.raises(InputError if error is OSError else error):
        export_ebrm(finished / "features" / "fresh-seed-1", file, 0)
    assert file.read_bytes() == whole


@pytest.mark.parametrize("place", ["file/export.pt", "folder"], ids=["below a file", "a folder"])
def test_a_path_that_cannot_be_written_is_named(finished, tmp_path, place):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError) as error:
        export_ebrm(finished / "features", tmp_path / place, 0)
    assert str(tmp_path / place) in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("*.partial"))


def test_a_path_that_cannot_be_written_is_refused_before_embedding(source, encoder, tmp_path):
    (tmp_path / "folder").mkdir()
    calls = encoder.calls
    with pytest.raises(InputError, match="folder"):
        export_ebrm(source, tmp_path / "folder", 0)
    assert encoder.calls == calls


def test_a_run_that_did_not_get_to_the_rewards_is_said_to_have_none(finished, tmp_path):
    features = tmp_path / "features"
    features.mkdir()
    for path in (finished / "features").glob("*.*"):
        (features / path.name).write_bytes(path.read_bytes())
    with pytest.raises(InputError, match=r"features holds features without rewards"):
        export_ebrm(features, tmp_path / "export.pt", 0)


@pytest.mark.parametrize("content", ["", "[]", "half", "shard", "empty"])
def test_damaged_pairs_are_named(finished, tmp_path, content):
    folder = tmp_path / "seed"
    folder.mkdir()
    for path in (finished / "features" / "fresh-seed-0").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    forget_checksums(folder)
    pairs = folder / "pairs.arrow"
    whole = pairs.read_bytes()
    damaged = {"half": whole[: len(whole) // 2], "shard": (folder / "features-00000.arrow").read_bytes()}
    if content == "empty":
        write_pairs(folder, [])
    else:
        pairs.write_bytes(damaged.get(content, content.encode()))
    with pytest.raises(InputError, match=r"pairs\.arrow is not a list of response pairs"):
        export_ebrm(folder, tmp_path / "export.pt", 0)
    assert not (tmp_path / "export.pt").exists()


def test_a_damaged_shard_is_named(finished, tmp_path):
    folder = tmp_path / "seed"
    folder.mkdir()
    for path in (finished / "features" / "fresh-seed-0").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    shard = folder / "features-00000.arrow"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"features-00000\.arrow is damaged"):
        export_ebrm(folder, tmp_path / "export.pt", 0)


def test_a_source_without_a_usable_pair_is_refused(tmp_path):
    """RMB holds answers that are chosen and rejected at once; a source of nothing else trains nothing."""
    items = [
        {
            "pair_uid": str(number),
            "category_path": "Pairwise_set/a",
            "conversation_input": [{"role": "user", "content": f"question {number}"}],
            "chosen": {"llm_name": "x", "answer": "same"},
            "reject": {"llm_name": "x", "answer": "same"},
        }
        for number in range(6)
    ]
    (tmp_path / "same.json").write_text(json.dumps(items))
    with pytest.raises(InputError, match=r"same\.json"):
        export_ebrm(tmp_path / "same.json", tmp_path / "export.pt", 0)
