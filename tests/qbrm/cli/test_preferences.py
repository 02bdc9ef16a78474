"""What commands say of the preferences that they read: bad rows, repeated pairs, texts that were cut."""

import json

import pytest

from fixtures.fake_encoder import FakeEncoder
from fixtures.preference_files import read_lines, write_preferences
from qbrm.features import FeatureTable
from qbrm.features.pair_list import read_pairs
from qbrm.preferences import preferences_of
from qbrm.reward_models import DEFAULT_REWARD_MODEL, REWARD_MODELS
from qbrm.reward_models.base import Refusal

datasets = pytest.importorskip("datasets")

BAD = ('{"prompt": "question 1", "chosen": "yes"}', "{oops", '{"prompt": "question 2", "chosen": "a", "rejected": "a"}')


class ShortEncoder(FakeEncoder):
    """Gives rewards; takes responses of at most 30 characters, and none that speaks of a dragon."""

    def __init__(self):
        super().__init__(reward=1.0, name=DEFAULT_REWARD_MODEL)

    def embed_and_count(self, prompts, responses):
        return self.embed(prompts, responses), sum(len(response) > 30 for response in responses)

    def refusals(self, prompts, responses):
        return [Refusal(number, "a dragon") for number, text in enumerate(responses) if "dragon" in text]


@pytest.fixture(scope="module", autouse=True)
def encoder(one_thread):
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(REWARD_MODELS, DEFAULT_REWARD_MODEL, ShortEncoder)
        monkeypatch.setattr("qbrm_lab.report.write.pictures", lambda part, number: [])
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Good rows only, the first of them twice."""
    path = write_preferences(tmp_path_factory.mktemp("whole") / "prefs.jsonl", 0, 24)
    path.write_text(path.read_text() + path.read_text().splitlines(keepends=True)[0])
    return path


@pytest.fixture(scope="module")
def mixed(whole, tmp_path_factory):
    """The same, with three bad rows."""
    path = tmp_path_factory.mktemp("mixed") / "prefs.jsonl"
    path.write_text("\n".join([BAD[0], whole.read_text().rstrip(), *BAD[1:]]) + "\n")
    return path


def facts(printed, label):
    (line,) = (line for line in printed.splitlines() if line.startswith(f"{label} "))
    return line.removeprefix(label).strip().split(" · ")


@pytest.mark.parametrize("command", ["embed", "compare"])
def test_bad_rows_are_named_one_by_one_and_end_with_exit_code_2(qbrm_command, mixed, tmp_path, command):
    source = [mixed] if command == "embed" else ["--train", mixed]
    ended = qbrm_command(command, *source, "--out", tmp_path / "out")
    assert ended.code == 2
    first, *rows, last = ended.err.splitlines()
    assert first == "qbrm: 3 of 28 rows of prefs.jsonl are bad:"
    assert [row.split(":")[0] for row in rows] == [f"{mixed}, line {number}" for number in (1, 27, 28)]
    assert all("; expected " in row for row in rows)
    assert "--skip-bad" in last


def test_a_single_bad_row_is_one_line(qbrm_command, whole, tmp_path):
    (tmp_path / "p.jsonl").write_text(BAD[0] + "\n" + whole.read_text())
    message = qbrm_command("embed", tmp_path / "p.jsonl", "--out", tmp_path / "out").refused()
    assert message.startswith(f'{tmp_path / "p.jsonl"}, line 1: "rejected" is missing; expected')


def test_left_out_rows_and_pairs_are_counted_alike_by_every_command(qbrm_command, mixed, whole, tmp_path):
    kinds = ['1: "rejected" is missing', "1: the line is not JSON", '1: "rejected" is the same as "chosen"']
    embedded = qbrm_command("embed", mixed, "--out", tmp_path / "features", "--skip-bad")
    assert (embedded.code, embedded.err) == (0, "")
    assert facts(embedded.out, "left out") == ["3 bad rows", *kinds]
    prompts, *pairs = facts(embedded.out, "prefs.jsonl")
    count = preferences_of(whole).pair_count
    assert prompts == "24 prompts"
    assert pairs == [f"{count.distinct} pairs", f"{count.repeated} repeated left out"]
    assert count.repeated == len(read_lines(whole)[0]["rejected"])

    trained = qbrm_command("train", tmp_path / "features", "--out", tmp_path / "model", "--epochs", 1)
    assert facts(trained.out, str(tmp_path / "features"))[-2:] == pairs
    assert read_pairs(FeatureTable.open(tmp_path / "features")).pair_count == count

    compared = qbrm_command(
        *("compare", "--train", mixed, "--test", whole, "--out", tmp_path / "out", "--methods", "base"),
        *("--seeds", 1, "--epochs", 1, "--skip-bad"),
    )
    assert "share 24 prompts" in compared.refused()
    compared = qbrm_command(
        *("compare", "--train", mixed, "--out", tmp_path / "out", "--methods", "base", "--seeds", 1, "--skip-bad")
    )
    assert facts(compared.out, "left out") == ["3 bad rows", *kinds]
    lines = [line for line in compared.out.splitlines() if line.startswith("prefs.jsonl ")]
    distinct = [int(line.split(" · ")[1].split()[0]) for line in lines]
    assert sum(distinct) == count.distinct
    assert sum("repeated left out" in line for line in lines) == 1

    evaluated = qbrm_command(
        "evaluate", tmp_path / "model", "--on", mixed, "--out", tmp_path / "evaluation", "--skip-bad"
    )
    assert (evaluated.code, evaluated.err) == (0, "")
    assert facts(evaluated.out, "left out") == ["3 bad rows", *kinds]
    assert "3 of 28 rows" in qbrm_command("evaluate", tmp_path / "model", "--on", mixed).err


def test_texts_that_were_cut_are_counted_by_embed_and_train(qbrm_command, whole, tmp_path):
    responses = preferences_of(whole).responses().values()
    cut = sum(len(response) > 30 for _, response in responses)
    embedded = qbrm_command("embed", whole, "--out", tmp_path / "features")
    assert f"{cut} cut to 16 tokens" in facts(embedded.out, "written")
    trained = qbrm_command("train", tmp_path / "features", "--out", tmp_path / "model", "--epochs", 1)
    assert f"{cut} cut to 16 tokens" in facts(trained.out, str(tmp_path / "features"))


def test_rows_that_the_reward_model_cannot_take_are_left_out_like_bad_ones(qbrm_command, whole, tmp_path):
    dragons = [{"prompt": f"dragons {n}", "chosen": "yes", "rejected": "a dragon" * n} for n in (1, 2)]
    source = tmp_path / "p.jsonl"
    source.write_text(whole.read_text() + "".join(json.dumps(line) + "\n" for line in dragons))
    assert "2 rows cannot be embedded" in qbrm_command("embed", source, "--out", tmp_path / "refused").refused()
    ended = qbrm_command("embed", source, "--out", tmp_path / "features", "--skip-bad")
    assert facts(ended.out, "left out") == ["2 rows that the reward model cannot take"]
    assert len(FeatureTable.open(tmp_path / "features")) == len(preferences_of(whole).responses())


def test_a_data_set_by_name_goes_through_every_command(qbrm_command, whole, tmp_path, monkeypatch):
    rows = [
        {
            side: [{"role": "user", "content": line["prompt"]}, {"role": "assistant", "content": answer}]
            for side, answer in (("chosen", line["chosen"]), ("rejected", line["rejected"][0]))
        }
        for line in read_lines(whole)
    ]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: datasets.Dataset.from_list(rows))
    embedded = qbrm_command("embed", "garden/roses:train", "--out", "features")
    assert facts(embedded.out, "garden/roses:train") == ["24 prompts", "24 pairs", "1 repeated left out"]
    assert qbrm_command("train", "features", "--out", "model", "--epochs", 1).code == 0
    evaluated = qbrm_command("evaluate", "model", "--on", "garden/roses:train,preferences:garden/roses:test")
    assert (evaluated.code, evaluated.err) == (0, "")
    compared = qbrm_command(
        "compare", "--train", "garden/roses", "--out", "out", "--methods", "base", "--seeds", 1, "--epochs", 1
    )
    assert (compared.code, compared.err) == (0, "")
