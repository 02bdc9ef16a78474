"""Benchmarks are read as they are published, whatever is wrong with them is one line, and a model is scored on them."""

import gzip
import io
import json
import math
import sys
import types
from functools import partial

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from rich.console import Console

from fixtures.benchmark_files import REWARDBENCH, REWARDBENCH_2, RM_BENCH, instance, transcript, write_jsonl, write_rmb
from fixtures.fake_encoder import FakeEncoder
from fixtures.preference_files import write_preferences
from fixtures.refined_models import model
from qbrm import EnergyRewardModel
from qbrm.benchmarks import BENCHMARKS, as_preferences
from qbrm.benchmarks.evaluate import evaluate
from qbrm.benchmarks.source import read_benchmark
from qbrm.cli.console import Reporter
from qbrm.cli.evaluation import evaluate_model
from qbrm.errors import InputError
from qbrm.features import build_features
from qbrm.preferences import Message, sample_source
from qbrm.reward_models import REWARD_MODELS


def write_json(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(records))
    return path


def write_parquet(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), path)
    return path


def write_gzip(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(json.dumps(record) + "\n" for record in records).encode()))
    return path


def hh_pair(number=0):
    return {"chosen": transcript(f"q{number}", "yes"), "rejected": transcript(f"q{number}", "no")}


def write_own(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_preferences(path, 0, 4)


LAYOUTS = {
    "rmb": lambda folder: write_rmb(folder / "RMB_dataset", [("Helpfulness/Chat", 1, 0)], []).parent,
    "rewardbench": lambda folder: write_jsonl(folder / "filtered.jsonl", REWARDBENCH),
    "rewardbench-2": lambda folder: write_jsonl(folder / "test.jsonl", REWARDBENCH_2),
    "rm-bench": lambda folder: write_json(folder / "total_dataset.json", RM_BENCH),
    "hh-rlhf": lambda folder: write_gzip(folder / "helpful-base" / "test.jsonl.gz", [hh_pair()]),
    "llmbar": lambda folder: write_json(folder / "Natural" / "dataset.json", [instance(1, 0, 1)]),
    "preferences": lambda folder: write_own(folder / "prefs.jsonl"),
}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_layout_of_a_path_is_recognised_as_a_name_before_it_is(name, tmp_path):
    path = LAYOUTS[name](tmp_path)
    guessed, told = read_benchmark(str(path)), read_benchmark(f"{name}:{path}")
    assert guessed.benchmark.name == told.benchmark.name == name
    assert guessed.items == told.items
    assert len(guessed.items) > 0


def test_published_parquet_shards_are_read_without_what_was_filtered_out(tmp_path):
    write_parquet(tmp_path / "data" / "raw-00000-of-00001.parquet", REWARDBENCH * 2)
    write_parquet(tmp_path / "data" / "filtered-00000-of-00002.parquet", REWARDBENCH[:5])
    write_parquet(tmp_path / "data" / "filtered-00001-of-00002.parquet", REWARDBENCH[5:])
    items = read_benchmark(str(tmp_path)).items
    assert [item.chosen[0] for item in items] == [record["chosen"] for record in REWARDBENCH]


def test_a_clone_of_a_repository_is_recognised_among_what_else_it_holds(tmp_path):
    write_json(tmp_path / "Dataset" / "LLMBar" / "Natural" / "dataset.json", [instance(1, 0, 1)])
    write_json(tmp_path / "Dataset" / "LLMBar" / "Natural" / "evaluators" / "statistics.json", {"correct": "1 / 1"})
    write_json(tmp_path / "Dataset" / "CaseStudy" / "Negation" / "dataset.json", [instance(1, 0, 1)])
    source = read_benchmark(str(tmp_path))
    assert source.benchmark.name == "llmbar"
    assert len(source.items) == 1


def test_rm_bench_domains_come_from_file_names_where_records_have_none(tmp_path):
    for name in ("chat", "safety-refuse"):
        records = [{key: value for key, value in RM_BENCH[0].items() if key != "domain"}]
        write_json(tmp_path / f"{name}_filtered.json", records)
    assert [item.subset for item in read_benchmark(str(tmp_path)).items] == ["chat", "safety"]


def test_the_file_of_all_rm_bench_domains_is_read_alone(tmp_path):
    write_json(tmp_path / "chat_filtered.json", RM_BENCH[:1])
    write_json(tmp_path / "total_dataset.json", RM_BENCH)
    assert len(read_benchmark(str(tmp_path)).items) == len(RM_BENCH)


def hh(chosen, rejected, tmp_path):
    (item,) = BENCHMARKS["hh-rlhf"].read(
        write_jsonl(tmp_path / "test.jsonl", [{"chosen": chosen, "rejected": rejected}])
    )
    return item


def test_a_transcript_is_taken_apart_into_messages_up_to_the_last_answer(tmp_path):
    start = "\n\nHuman: Hi there\n\nAssistant: Hello!\n\nHuman: What is tea?\nAnd rain?\n\nAssistant:"
    item = hh(f"{start} A drink.\n\nAnd water.", f"{start} Stones. ", tmp_path)
    assert item.prompt == (
        Message("user", "Hi there"),
        Message("assistant", "Hello!"),
        Message("user", "What is tea?\nAnd rain?"),
    )
    assert (item.chosen, item.rejected) == (("A drink.\n\nAnd water.",), ("Stones.",))


def test_transcripts_that_part_early_keep_later_turns_in_the_response(tmp_path):
    first = "\n\nHuman: Hi\n\nAssistant:"
    item = hh(f"{first} Hello.\n\nHuman: Bye\n\nAssistant: Bye.", f"{first} Go away.", tmp_path)
    assert item.prompt == (Message("user", "Hi"),)
    assert item.chosen == ("Hello.\n\nHuman: Bye\n\nAssistant: Bye.",)
    assert item.rejected == ("Go away.",)


def test_transcripts_that_part_at_a_human_turn_part_at_the_answer(tmp_path):
    first = "\n\nHuman: Hi\n\nAssistant: Hello."
    item = hh(f"{first}\n\nHuman: A?\n\nAssistant: a", f"{first}\n\nHuman: B?\n\nAssistant: b", tmp_path)
    assert item.prompt == (Message("user", "Hi"),)
    assert item.rejected == ("Hello.\n\nHuman: B?\n\nAssistant: b",)


def test_equal_or_empty_answers_of_a_published_benchmark_are_kept(tmp_path):
    same = hh(transcript("q", "twin"), transcript("q", "twin"), tmp_path)
    assert same.chosen == same.rejected == ("twin",)
    assert hh(transcript("q", "yes"), transcript("q", ""), tmp_path).rejected == ("",)


def test_items_with_several_right_answers_become_one_preference_for_each(tmp_path):
    source = read_benchmark(str(LAYOUTS["rm-bench"](tmp_path)))
    preferences = as_preferences("rm-bench", source.items)
    assert len(preferences) == 3 * len(RM_BENCH)
    assert preferences.n_pairs == 9 * len(RM_BENCH)
    texts = {text for _, text in preferences.responses().values()}
    assert texts == {text for item in source.items for text in item.chosen + item.rejected}


def changed(record, **changes):
    return {key: value for key, value in {**record, **changes}.items() if value != "absent"}


PAIR, TIE, BEST = REWARDBENCH[0], REWARDBENCH_2[5], REWARDBENCH_2[0]
NO_TRANSCRIPT = r'expected a transcript of "\n\nHuman:"'
QUESTION = "\n\nHuman: only a question"
WRONG = [
    ("rewardbench", [PAIR, changed(PAIR, subset="alpaca")], 'line 2: "subset" is "alpaca"; expected one of alpacaeval'),
    ("rewardbench", [PAIR, changed(PAIR, subset="absent")], 'line 2: "subset" is missing'),
    ("rewardbench", [changed(PAIR, chosen="absent")], 'line 1: "chosen" is missing; expected a string'),
    ("rewardbench", [changed(PAIR, rejected=["no"])], 'line 1: "rejected" is ["no"]; expected a string'),
    ("rewardbench", [changed(PAIR, prompt="")], 'line 1: "prompt" is empty'),
    ("rewardbench", [changed(PAIR, prompt=[{"role": "human", "content": "?"}])], '"prompt[0].role" is "human"'),
    ("rewardbench", [changed(PAIR, id=[1])], 'line 1: "id" is [1]; expected a non-empty string or a whole number'),
    ("rewardbench", [PAIR, 3], "line 2 is 3; expected an object"),
    ("rewardbench", [], "is empty"),
    ("rewardbench-2", [changed(TIE, id="17")], '"id" is "17"; expected "ref:" or "tied:" and a number'),
    ("rewardbench-2", [changed(TIE, chosen=["1 yes"])], '"chosen" is ["1 yes"]; expected two or more right answers'),
    ("rewardbench-2", [changed(BEST, chosen=["1", "2"])], '"chosen" is ["1", "2"]; expected one right answer'),
    ("rewardbench-2", [changed(BEST, rejected=[])], '"rejected" is empty; expected a string or a list of strings'),
    ("rewardbench-2", [changed(BEST, subset="Chat")], '"subset" is "Chat"; expected one of Factuality, Focus, Math'),
    ("rewardbench-2", [TIE, TIE], 'line 2: "id" is "tied:1", as in'),
    ("rm-bench", [changed(RM_BENCH[0], chosen=["1", "2"])], '"chosen" is ["1", "2"]; expected three answers'),
    ("rm-bench", [changed(RM_BENCH[0], domain="sport")], '"domain" is "sport"; expected a domain that begins with'),
    ("rm-bench", [changed(RM_BENCH[0], domain="absent")], '"domain" is "test"; expected a domain that begins with'),
    ("hh-rlhf", [hh_pair(), {"chosen": "hello", "rejected": "bye"}], f'line 2: "chosen" is "hello"; {NO_TRANSCRIPT}'),
    ("hh-rlhf", [changed(hh_pair(), rejected=QUESTION)], f'"rejected" is {json.dumps(QUESTION)}; {NO_TRANSCRIPT}'),
    ("hh-rlhf", [changed(hh_pair(), rejected=transcript("another", "no"))], '"chosen" stands alone; expected'),
    ("llmbar", [instance(1, 0, 3)], '"label" is 3; expected 1 or 2'),
    ("llmbar", [instance(1, 0, 1)], '"folder" is'),
    ("preferences", [{"prompt": "q", "chosen": "yes"}], 'line 1: "rejected" is missing'),
]  # fmt: skip


@pytest.mark.parametrize(("name", "records", "expected"), WRONG)
def test_what_is_wrong_with_a_benchmark_is_one_line_with_file_and_line(name, records, expected, tmp_path):
    path = write_jsonl(tmp_path / "test.jsonl", records)
    with pytest.raises(InputError) as error:
        BENCHMARKS[name].read(path)
    message = str(error.value)
    assert expected in message
    assert "\n" not in message
    assert "test.jsonl" in message


def test_damaged_files_are_one_line(tmp_path):
    packed = tmp_path / "test.jsonl.gz"
    packed.write_bytes(gzip.compress(b"{}\n" * 1000)[:20])
    parquet = tmp_path / "test.parquet"
    parquet.write_bytes(b"PAR1 no more")
    for path, expected in ((packed, "expected a gzip file"), (parquet, "expected a sound Parquet file")):
        with pytest.raises(InputError, match=expected) as error:
            BENCHMARKS["rewardbench"].read(path)
        assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("rewardbnch", "'rewardbnch' is neither a path that exists nor a benchmark; did you mean 'rewardbench'?"),
        ("rewardbnch:data", "did you mean 'rewardbench'?"),
        ("nowhere.jsonl", "'nowhere.jsonl' is neither a path that exists nor a benchmark. Known: rmb, rewardbench"),
        ("rewardbench:nowhere", "nowhere does not exist"),
        ("preferences", "preferences are no published benchmark; expected a path"),
        ("strange.jsonl", "strange.jsonl is in no known layout; expected NAME:PATH"),
        ("notes.txt", "notes.txt is of no known kind"),
        ("broken", "prefs.jsonl, line 1: Expecting"),
        ("empty", "empty holds no .json, .jsonl, .json.gz, .jsonl.gz or .parquet file"),
    ],
)
def test_a_source_that_is_no_benchmark_is_one_line(source, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "strange.jsonl", [{"a": 1}])
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "prefs.jsonl").write_text("{'prompt'")
    with pytest.raises(InputError) as error:
        read_benchmark(source)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_of_a_benchmarks_name_is_read_rather_than_downloaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "rewardbench" / "filtered.jsonl", REWARDBENCH)
    assert len(read_benchmark("rewardbench").items) == len(REWARDBENCH)


class Rows(list):
    """A data set, as far as it is used."""

    column_names = ("id", "prompt", "chosen", "rejected", "subset", "num_correct", "domain", "chosen_model")

    def select_columns(self, names):
        return Rows({name: row[name] for name in names if name in row} for row in self)


@pytest.fixture
def hub(monkeypatch):
    """Stands in for `datasets`; gives what was asked for. Its contents are set by repository, folder and split."""
    asked, contents = [], {}

    def load_dataset(repository, split, data_dir=None):
        asked.append((repository, data_dir, split))
        return contents.get((repository, data_dir, split), Rows())

    def download_and_extract(url):
        asked.append(url)
        return contents[url]

    fake = types.ModuleType("datasets")
    fake.load_dataset, fake.contents, fake.asked = load_dataset, contents, asked
    fake.DownloadManager = lambda: types.SimpleNamespace(download_and_extract=download_and_extract)
    fake.exceptions = types.SimpleNamespace(DatasetsError=RuntimeError)
    monkeypatch.setitem(sys.modules, "datasets", fake)
    return fake


def test_by_name_the_published_splits_are_asked_for(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hub.contents["allenai/reward-bench", None, "filtered"] = Rows(REWARDBENCH)
    hub.contents["allenai/preference-test-sets", None, "shp"] = Rows([changed(PAIR, subset="forum")])
    hub.contents["allenai/reward-bench-2", None, "test"] = Rows(REWARDBENCH_2)
    hub.contents["THU-KEG/RM-Bench", None, "train"] = Rows(RM_BENCH)
    harmless = ("Anthropic/hh-rlhf", "harmless-base", "test")
    hub.contents[harmless] = Rows([hh_pair()])
    Rows.column_names += ("unused",)
    assert [item.subset for item in read_benchmark("rewardbench").items][-2:] == ["hep-go", "shp"]
    assert len(read_benchmark("rewardbench-2").items) == len(REWARDBENCH_2)
    assert len(read_benchmark("rm-bench").items) == len(RM_BENCH)
    assert [item.subset for item in read_benchmark("hh-rlhf").items] == ["harmless-base"]
    assert harmless in hub.asked


def test_by_name_what_is_not_on_the_hub_comes_from_its_repository(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / "a" / "LLMBar-main/Dataset/LLMBar/Natural/dataset.json", [instance(1, 0, 1)])
    write_rmb(tmp_path / "b" / "RMB-Reward-Model-Benchmark-main/RMB_dataset", [("Helpfulness/Chat", 1, 0)], [])
    from qbrm.benchmarks import llmbar, rmb

    hub.contents.update({llmbar.ARCHIVE: str(tmp_path / "a"), rmb.ARCHIVE: str(tmp_path / "b")})
    assert [item.subset for item in read_benchmark("llmbar").items] == ["Natural"]
    assert [item.subset for item in read_benchmark("rmb").items] == ["Helpfulness/Chat, best-of-n"]


def test_a_bad_row_of_a_data_set_is_named_with_its_split(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hub.contents["allenai/reward-bench-2", None, "test"] = Rows([BEST, changed(BEST, subset="Chat")])
    with pytest.raises(InputError, match='allenai/reward-bench-2/test, row 2: "subset" is "Chat"'):
        read_benchmark("rewardbench-2")


def test_without_package_or_network_a_name_is_one_line_of_advice(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def unreachable(*_, **__):
        raise ConnectionError("Couldn't reach the Hub\nat all.")

    monkeypatch.setattr(hub, "load_dataset", unreachable)
    with pytest.raises(InputError) as error:
        read_benchmark("rm-bench")
    assert str(error.value) == (
        "THU-KEG/RM-Bench cannot be downloaded (Couldn't reach the Hub at all); "
        "expected a network, or a path as NAME:PATH."
    )
    monkeypatch.setitem(sys.modules, "datasets", None)  # as if it were not installed
    with pytest.raises(InputError, match=r"needs the package datasets; pip install 'qbrm\[benchmarks\]'"):
        read_benchmark("rm-bench")


def test_the_package_datasets_itself_gives_the_rows_that_are_read(tmp_path, monkeypatch):
    pytest.importorskip("datasets", reason="an extra: pip install 'qbrm[benchmarks]'")
    from qbrm.benchmarks.hub import hub_records

    monkeypatch.chdir(tmp_path)  # `load_dataset` takes a folder of a repository's name before it asks the Hub
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    records = [{**record, "id": str(record["id"]), "models": ["a", "b"]} for record in REWARDBENCH_2]
    write_parquet(tmp_path / "allenai" / "reward-bench-2" / "data" / "test-00000-of-00001.parquet", records)
    benchmark = BENCHMARKS["rewardbench-2"]
    rows = list(hub_records("allenai/reward-bench-2", "test", benchmark.columns))
    assert set(rows[0].field.value) == set(benchmark.columns)
    assert benchmark.items(rows, "here") == benchmark.read(write_jsonl(tmp_path / "test.jsonl", records))


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A saved model, and the fake encoder that loading it uses."""
    fake = FakeEncoder()
    monkeypatch.setitem(REWARD_MODELS, "fake", lambda: fake)
    model(refinement="mean").save_pretrained(tmp_path / "model")
    return types.SimpleNamespace(folder=tmp_path / "model", encoder=fake)


@pytest.fixture
def sources(tmp_path):
    return [str(LAYOUTS[name](tmp_path / name)) for name in ("rewardbench", "rm-bench", "preferences")]


def run(trained, sources, out):
    reporter = Reporter(Console(file=io.StringIO(), width=200))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("qbrm.cli.evaluation.Reporter", lambda: reporter)
        evaluate_model(str(trained.folder), sources, out, 0)
    return json.loads((out / "evaluation.json").read_text()), reporter.console.file.getvalue()


def test_base_and_refined_tables_are_those_of_the_models_own_rewards(trained, sources, tmp_path):
    refined = EnergyRewardModel.from_pretrained(trained.folder)
    found = [read_benchmark(source) for source in sources]
    results = evaluate(refined, found, tmp_path / "features")
    for result, source in zip(results, found, strict=True):
        right = {"base": [], "refined": []}
        for item in source.items:
            texts = item.chosen + item.rejected
            scored = refined.score([as_chat(item.prompt)] * len(texts), texts)
            for side, rewards in (("base", scored.base), ("refined", scored.refined)):
                right[side].append(wins(rewards[: len(item.chosen)], rewards[len(item.chosen) :]))
        table = {row.name: row for row in result.rows}
        for side, values in right.items():
            if source.benchmark.name == "preferences":
                pairs = [value for value, item in zip(values, source.items, strict=True) if len(item.rejected) == 1]
                assert getattr(table["pairwise"], side).value == pytest.approx(np.mean(pairs))
            if source.benchmark.name == "rm-bench":
                chat = [value for value, item in zip(values, source.items, strict=True) if item.subset == "chat"]
                assert getattr(table["Chat"], side).value == pytest.approx(np.mean(chat))


def as_chat(prompt):
    return [message._asdict() for message in prompt]


def wins(chosen, rejected):
    """The share of comparisons won; of one pair, whether it is."""
    return float((chosen[:, None] > rejected[None, :]).float().mean())


def test_log_loss_and_calibration_are_those_of_what_prefer_says(trained, tmp_path):
    refined = EnergyRewardModel.from_pretrained(trained.folder)
    source = read_benchmark(str(LAYOUTS["preferences"](tmp_path / "prefs")))
    (result,) = evaluate(refined, [source], tmp_path / "features")
    said, base = [], []
    for item in source.items:
        for rejected in item.rejected:
            said.append(refined.prefer(as_chat(item.prompt), item.chosen[0], rejected))
            a, b = refined.score([as_chat(item.prompt)] * 2, [item.chosen[0], rejected]).base.tolist()
            base.append(1 / (1 + math.exp(b - a)))
    assert result.pairs == len(said)
    assert result.refined.log_loss == pytest.approx(-np.mean(np.log(said)), rel=1e-4)
    assert result.base.log_loss == pytest.approx(-np.mean(np.log(base)), rel=1e-4)
    for found, probabilities in ((result.refined, said), (result.base, base)):
        assert found.ece == pytest.approx(gap_by_tenths(probabilities), rel=1e-4)


def gap_by_tenths(probabilities):
    """Mean |confidence - accuracy| over ten bins of confidence from 1/2 to 1, weighted by pairs."""
    bins = [[] for _ in range(10)]
    for probability in probabilities:
        confidence = max(probability, 1 - probability)
        bins[min(int((confidence - 0.5) * 20), 9)].append((confidence, probability > 0.5))
    gaps = [abs(sum(c for c, _ in one) - sum(right for _, right in one)) for one in bins]
    return sum(gaps) / len(probabilities)


def test_the_same_table_is_printed_and_written_as_json_and_markdown(trained, sources, tmp_path):
    content, printed = run(trained, sources, tmp_path / "out")
    markdown = (tmp_path / "out" / "evaluation.md").read_text()
    assert [benchmark["name"] for benchmark in content["benchmarks"]] == ["rewardbench", "rm-bench", "preferences"]
    for benchmark in content["benchmarks"]:
        for row in benchmark["rows"]:
            assert row["difference"]["value"] == pytest.approx(row["refined"]["value"] - row["base"]["value"])
            assert row["base"]["low"] <= row["base"]["value"] <= row["base"]["high"]
            shown = f"{100 * row['base']['value']:.1f} [{100 * row['base']['low']:.1f}"
            assert shown in markdown
            assert (shown in printed) or row["kind"] == "subset"
        assert benchmark["pairs"]["n"] > 0
    assert "not there: " in printed
    assert "log-loss" in printed


def test_a_killed_evaluation_continues_with_what_was_embedded(trained, sources, tmp_path, monkeypatch):
    monkeypatch.setattr("qbrm.benchmarks.evaluate.build_features", partial(build_features, shard_rows=4))
    embed, embedded = trained.encoder.embed, []

    def dies_in_the_fifth_shard(prompts, responses):
        if len(embedded) == 4:
            embedded.append(0)
            raise KeyboardInterrupt
        embedded.append(len(responses))
        return embed(prompts, responses)

    trained.encoder.embed = dies_in_the_fifth_shard
    with pytest.raises(KeyboardInterrupt):
        run(trained, sources, tmp_path / "out")
    assert not (tmp_path / "out" / "evaluation.json").exists()
    content, _ = run(trained, sources, tmp_path / "out")
    assert sum(embedded) == responses_of(sources)  # each once, over both runs
    whole, _ = run(trained, sources, tmp_path / "another")
    assert content["benchmarks"] == whole["benchmarks"]


def responses_of(sources):
    items = [item for source in sources for item in read_benchmark(source).items]
    return len(as_preferences("all", items).responses())


def test_the_command_evaluates_a_saved_model(trained, sources, tmp_path, monkeypatch, qbrm_command):
    monkeypatch.chdir(tmp_path)
    ended = qbrm_command("evaluate", trained.folder, "--on", ",".join(sources))
    assert (ended.code, ended.err) == (0, "")
    (out,) = (tmp_path / "runs/evaluation").iterdir()
    assert out.name.startswith("model-")
    assert (out / "evaluation.json").exists()
    assert qbrm_command("evaluate", trained.folder, "--on", "prefs.jsonl,").refused().startswith("--on 'prefs.jsonl,'")
    assert "did you mean 'rmb'" in qbrm_command("evaluate", trained.folder, "--on", "rmbb").refused()
    assert "nowhere" in qbrm_command("evaluate", tmp_path / "nowhere", "--on", sources[0]).refused()


def test_the_command_explains_itself(qbrm_command):
    ended = qbrm_command("evaluate", "--help")
    assert ended.code == 0
    assert all(name in " ".join(ended.out.split()) for name in BENCHMARKS)


def test_features_of_another_model_are_refused(trained, sources, tmp_path):
    run(trained, sources[:1], tmp_path / "out")
    torch.manual_seed(5)
    other = model()
    torch.nn.init.normal_(other.reward_model.trunk.head.weight)
    other.save_pretrained(trained.folder)
    with pytest.raises(InputError, match=r"features in .* come from"):
        run(trained, sources[:1], tmp_path / "out")


def test_the_bundled_sample_is_an_rmb_with_nothing_missing():
    source = read_benchmark(str(sample_source()))
    assert source.benchmark.name == "rmb"
    assert len(source.items) == 742
    goals = {item.subset.partition("/")[0] for item in source.items}
    assert goals == {"Helpfulness", "Harmlessness"}
