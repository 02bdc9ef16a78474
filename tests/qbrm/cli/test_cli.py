"""A mistake on the command line costs one line on standard error and exit code 2, and loses nothing."""

import hashlib
import json
import shutil
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pytest
import torch

import qbrm
from fixtures.checksums import forget_checksums
from fixtures.commands import Ended
from fixtures.fake_encoder import FakeEncoder
from fixtures.preference_files import write_preferences
from qbrm.features import FeatureTable
from qbrm.features.pair_list import read_pairs
from qbrm.fitting import trainer
from qbrm.preferences import read_preferences, training_pairs
from qbrm.reward_models import DEFAULT_REWARD_MODEL, REWARD_MODELS
from qbrm.tables.numbers import percent_interval

COMMANDS = ("demo", "compare", "evaluate", "embed", "train", "export", "study", "bench", "serve")


@pytest.fixture(scope="module", autouse=True)
def encoder():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as monkeypatch:
        fake = FakeEncoder()
        monkeypatch.setitem(REWARD_MODELS, DEFAULT_REWARD_MODEL, lambda: fake)
        monkeypatch.setattr("qbrm_lab.report.write.pictures", lambda part, number: [])
        yield fake
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def prefs(tmp_path_factory):
    return write_preferences(tmp_path_factory.mktemp("prefs") / "prefs.jsonl", 0, 24)


@pytest.fixture
def compare(qbrm_command, prefs, tmp_path):
    """Runs `qbrm compare` on a good source, with further or other options."""

    def run(*options, train=prefs, out=tmp_path / "out", methods="base"):
        return qbrm_command(
            "compare", "--train", train, "--out", out, "--methods", methods, "--seeds", 1, "--epochs", 1, *options
        )

    return run


def process(*arguments, **options):
    command = [sys.executable, "-m", "qbrm", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)


def test_as_a_module_a_bad_source_is_one_line_and_exit_code_2(tmp_path):
    ended = process("compare", "--train", tmp_path / "nowhere.jsonl", "--out", tmp_path / "out")
    message = Ended(ended.returncode, ended.stdout, ended.stderr).refused()
    assert message == f"{tmp_path / 'nowhere.jsonl'} does not exist; expected a preference source."
    assert ended.stdout == ""
    assert not (tmp_path / "out").exists()


def test_version_is_told_without_waiting_for_torch():
    start = time.perf_counter()
    ended = process("--version")
    assert ended.stdout == f"qbrm {qbrm.__version__}\n"
    assert ended.returncode == 0
    loaded = "import sys, qbrm.cli; print('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout == "False\n"
    )
    assert time.perf_counter() - start < 30


def test_the_report_of_the_demo_has_the_probes_that_it_wrote(qbrm_command, prefs, tmp_path, monkeypatch):
    monkeypatch.setattr("qbrm.preferences.sample_source", lambda: prefs)
    monkeypatch.setitem(REWARD_MODELS, "fake", FakeEncoder)  # by its own name, as the saved model loads it
    ended = qbrm_command("demo", "--methods", "base,sqrbm", "--seeds", 1, "--epochs", 1, "--out", tmp_path)
    assert ended.code == 0, ended.err
    report = (tmp_path / "report.html").read_text()
    rows = json.loads((tmp_path / "probes" / "probes.json").read_text())["rows"]
    of_one = next(row for row in rows if row["n"])
    assert "<h2>Probes</h2>" in report
    rate = percent_interval(*(of_one[key] for key in ("base", "base_low", "base_high")))
    assert f"{of_one['probe']} {rate} base" in report
    assert (tmp_path / "probes.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_of_every_command_explains_it(qbrm_command, command):
    ended = qbrm_command(*command.split(), "--help")
    assert ended.code == 0
    assert ended.err == ""
    assert "Usage:" in ended.out
    assert len(ended.out.splitlines()) > 10


def test_no_command_shows_the_help(qbrm_command):
    ended = qbrm_command()
    assert all(command in ended.out + ended.err for command in COMMANDS)
    assert "Traceback" not in ended.err
    assert ended.code in (0, 2)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["frobnicate"], "frobnicate"),
        (["compare"], "--train"),
        (["compare", "--train", "x"], "--out"),
        (["compare", "--train", "x", "--out", "y", "--colour", "red"], "--colour"),
        (["compare", "--train", "x", "--out", "y", "extra"], "extra"),
        (["demo", "--seeds", "0"], "--seeds"),
        (["demo", "--seeds", "-3"], "--seeds"),
        (["demo", "--seeds", "many"], "--seeds"),
        (["demo", "--seeds"], "--seeds"),
        (["demo", "--epochs", "0"], "--epochs"),
        (["demo", "--seed", "-1"], "--seed"),
        (["demo", "--preset", "published"], "--preset"),
        (["export", "x"], "file"),
        (["export", "x", "y", "--format", "pickle"], "--format"),
        (["bench"], "benchmark"),
        (["bench", "refinement"], "refine"),
    ],
    ids=" ".join,
)
def test_a_wrong_option_is_named(qbrm_command, arguments, named):
    assert named.lower() in qbrm_command(*arguments).refused().lower()


def test_an_unknown_method_is_answered_with_the_nearest_known_one(compare):
    message = compare(methods="base,sqrmb").refused()
    assert message == "unknown method 'sqrmb'; did you mean 'sqrbm'? Known: " + ", ".join(known_methods()) + "."


def known_methods():
    from qbrm_lab.methods import METHODS

    return METHODS


@pytest.mark.parametrize("methods", ["", ",", "base,", "base,,rbm", "base,base", "base, base"])
def test_a_bad_list_of_methods_is_refused(compare, methods):
    assert "method" in compare(methods=methods).refused()


def test_spaces_between_methods_do_not_matter(compare, tmp_path):
    assert compare(methods="base, length").code == 0


@pytest.mark.parametrize(
    ("option", "value", "known"),
    [
        ("--scenario", "frsh", "fresh"),
        ("--reward-model", "Skywork", DEFAULT_REWARD_MODEL),
    ],
)
def test_an_unknown_name_is_told_with_the_known_ones(compare, option, value, known):
    message = compare(option, value).refused()
    assert repr(value) in message
    assert known in message


BAD_SOURCES = {
    "missing": (None, "does not exist"),
    "empty": ("", "is empty"),
    "not JSON": ("prompt: hello", "line 1"),
    "no rejected": ('{"prompt": "p", "chosen": "c"}', '"rejected" is missing'),
    "empty answer": ('{"prompt": "p", "chosen": "", "rejected": "r"}', '"chosen" is empty'),
    "number": ('{"prompt": "p", "chosen": "c", "rejected": 3}', '"rejected" is 3'),
}


@pytest.mark.parametrize("option", ["--train", "--test"])
@pytest.mark.parametrize("kind", BAD_SOURCES)
def test_a_bad_source_is_named(compare, tmp_path, option, kind):
    content, expected = BAD_SOURCES[kind]
    source = tmp_path / "bad.jsonl"
    if content is not None:
        source.write_text(content)
    ended = compare(train=source) if option == "--train" else compare("--test", source)
    message = ended.refused()
    assert str(source) in message
    assert expected in message
    assert not (tmp_path / "out").exists()


def test_json_that_holds_something_else_is_named(compare, tmp_path):
    (tmp_path / "data.json").write_text('[{"instruction": "x", "output": "y"}]')
    message = compare(train=tmp_path / "data.json").refused()
    assert "data.json, item 1" in message
    assert '"chosen" is missing' in message


def test_a_folder_without_preferences_is_named(compare, tmp_path):
    (tmp_path / "folder").mkdir()
    message = compare(train=tmp_path / "folder").refused()
    assert str(tmp_path / "folder") in message
    assert "BoN_set" in message


def test_an_empty_list_of_tests_is_refused(compare):
    assert "--test" in compare("--test", "").refused()


def test_a_trailing_comma_in_the_tests_is_refused(compare, tmp_path):
    test = write_preferences(tmp_path / "test.jsonl", 500, 4)
    message = compare("--test", f"{test},").refused()
    assert "empty" in message or "--test" in message  # and not that the current folder is no RMB tree


def test_prompts_in_both_train_and_test_are_quoted(compare, tmp_path):
    test = write_preferences(tmp_path / "test.jsonl", 23, 4)
    message = compare("--test", test).refused()
    assert "prefs.jsonl (train)" in message
    assert "test.jsonl (test)" in message
    assert '"question 23"' in message


def test_an_output_folder_below_a_file_is_refused_before_embedding(compare, encoder, tmp_path):
    (tmp_path / "file").touch()
    calls = encoder.calls
    assert str(tmp_path / "file") in compare(out=tmp_path / "file" / "out").refused()
    assert encoder.calls == calls


@pytest.mark.parametrize("name", ["training", "models", "features", "results.json", "report.html"])
def test_an_output_that_cannot_be_written_is_named(compare, tmp_path, name):
    """A file where a folder has to be, or the other way round: what root, too, cannot write."""
    out = tmp_path / "out"
    out.mkdir()
    if "." in name:
        (out / name).mkdir()
    else:
        (out / name).touch()
    assert str(out) in compare(out=out, methods="sqrbm").refused()


def test_what_was_computed_before_an_error_is_kept(compare, encoder, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "out").mkdir()
    (out / "report.html").mkdir()
    assert compare(out=out).code == 2
    (out / "report.html").rmdir()
    calls = encoder.calls
    assert compare(out=out).code == 0
    assert encoder.calls == calls


def test_features_of_another_model_are_refused_with_both_names(compare, monkeypatch):
    assert compare().code == 0
    monkeypatch.setitem(REWARD_MODELS, DEFAULT_REWARD_MODEL, lambda: FakeEncoder(name="other"))
    message = compare().refused()
    assert "fake@0123456" in message
    assert "other@0123456" in message


def doctored(folder):
    """Put a NaN into the table's first embedding, with a checksum that says all is well."""
    manifest = json.loads((folder / "manifest.json").read_text())
    shard = folder / manifest["shards"][0]["file"]
    table = pa.ipc.open_file(pa.BufferReader(shard.read_bytes())).read_all()
    embedding = table["embedding"].combine_chunks()
    values = embedding.flatten().to_numpy().copy()
    values[0] = np.nan
    column = pa.FixedSizeListArray.from_arrays(pa.array(values), embedding.type.list_size)
    table = table.set_column(table.schema.get_field_index("embedding"), "embedding", column)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    content = sink.getvalue().to_pybytes()
    shard.write_bytes(content)
    manifest["shards"][0] |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    forget_checksums(folder)
    return shard


def test_a_feature_that_is_not_finite_is_refused_with_shard_and_row(compare, tmp_path):
    assert compare().code == 0
    shard = doctored(tmp_path / "out" / "features")
    message = compare().refused()
    assert str(shard) in message
    assert "row 0" in message


def test_a_damaged_shard_is_named_and_computed_again(compare, encoder, tmp_path):
    assert compare().code == 0
    before = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    shard = tmp_path / "out" / "features" / "features-00000.arrow"
    shard.write_bytes(shard.read_bytes()[:-10])
    calls = encoder.calls
    ended = compare()
    assert ended.code == 0
    assert encoder.calls > calls
    assert f"{shard} is damaged" in ended.err
    assert json.loads((tmp_path / "out" / "results.json").read_text())["rows"] == before


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}"], ids=repr)
def test_a_damaged_manifest_is_named(compare, tmp_path, content):
    assert compare().code == 0
    manifest = tmp_path / "out" / "features" / "manifest.json"
    manifest.write_bytes(content)
    ended = compare()
    assert ended.code == 2
    warned, refused = ended.err.splitlines()
    assert f"{manifest} is not as it was written" in warned
    assert f"{manifest} is not a feature table's manifest" in refused


def test_a_damaged_checkpoint_is_no_obstacle(compare, tmp_path):
    assert compare().code == 0
    before = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    for path in (tmp_path / "out" / "training").rglob("checkpoint.safetensors"):
        path.write_bytes(b"damaged")
    assert compare().code == 0
    assert json.loads((tmp_path / "out" / "results.json").read_text())["rows"] == before


def test_a_training_that_cannot_go_on_is_one_line_and_exit_code_1(compare, monkeypatch):
    monkeypatch.setattr(trainer, "_gradients_finite", lambda model: False)
    message = compare().refused(code=1)
    assert "epoch 1, batch 0" in message


def test_an_interrupted_run_says_that_it_can_go_on(compare, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "_train_epoch", interrupt)
        assert "continues" in compare().refused(code=130)
    assert compare().code == 0


def test_what_was_read_done_and_found_is_printed_in_that_order(compare, prefs, tmp_path):
    lines = compare(methods="base,sqrbm").out.splitlines()
    starts = ["prefs.jsonl", "prefs.jsonl", "features", "training", "fresh", "method", "base", "sqrbm"]
    assert [line.split()[0] for line in lines[: len(starts)]] == starts
    assert "sqrbm over base" in "\n".join(lines)
    assert lines[-1] == f"report                 {tmp_path / 'out' / 'report.html'}"


def test_the_command_is_in_the_results_and_in_the_report(compare, tmp_path):
    compare()
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["command"].startswith("qbrm compare --train ")
    assert f"--out {tmp_path / 'out'}" in results["command"]


def test_output_is_plain_where_it_is_not_a_terminal(compare):
    ended = compare()
    assert "\x1b" not in ended.out + ended.err
    assert "\r" not in ended.out + ended.err


def test_demo_compares_on_the_sample_set(qbrm_command, tmp_path):
    ended = qbrm_command("demo", "--out", tmp_path / "demo", "--methods", "length,base", "--seeds", 2, "--epochs", 1)
    assert ended.code == 0
    results = json.loads((tmp_path / "demo" / "results.json").read_text())
    assert {row["test"] for row in results["rows"]} == {"sample"}
    assert sum(data["prompts"] for data in results["data"]) == 192
    assert {row["seed"] for row in results["rows"]} == {0, 1}


def test_export_takes_what_compare_left(compare, qbrm_command, tmp_path):
    assert compare().code == 0
    ended = qbrm_command("export", tmp_path / "out" / "features", "--format", "ebrm-pt", tmp_path / "features.pt")
    assert ended.code == 0
    pairs = len(read_pairs(FeatureTable.open(tmp_path / "out" / "features" / "fresh-seed-0")).chosen)
    assert len(torch.load(tmp_path / "features.pt", weights_only=True)) == 2 * pairs
    assert f"{pairs} pairs" in ended.out


def test_features_have_the_pairs_of_the_source_and_a_rerun_embeds_nothing(qbrm_command, prefs, encoder, tmp_path):
    ended = qbrm_command("embed", prefs, "--out", tmp_path / "features")
    assert ended.code == 0
    table, source = FeatureTable.open(tmp_path / "features"), read_preferences(prefs)
    keys, listed = table.keys(), read_pairs(table)
    found = {(keys[c][0], keys[c][1], keys[r][1]) for c, r in zip(listed.chosen, listed.rejected, strict=True)}
    assert found == {tuple(pair[:3]) for pair in training_pairs(source)}
    assert {keys[c][0] for c in listed.chosen} == {keys[r][0] for r in listed.rejected}
    assert (table.complete, len(table), listed.prompts) == (True, len(source.responses()), 24)
    calls = encoder.calls
    assert "0 embedded now" in qbrm_command("embed", prefs, "--out", tmp_path / "features").out
    assert encoder.calls == calls


def test_an_engine_that_does_not_exist_is_refused(qbrm_command, prefs, tmp_path):
    assert "--engine" in qbrm_command("embed", prefs, "--out", tmp_path / "f", "--engine", "spark").refused()
    assert "--workers" in qbrm_command("embed", prefs, "--out", tmp_path / "f", "--workers", 2).refused()
    assert not (tmp_path / "f").exists()


def test_export_of_nothing_is_refused(qbrm_command, tmp_path):
    assert "nowhere" in qbrm_command("export", tmp_path / "nowhere", tmp_path / "x.pt").refused()


def test_bench_prints_one_list_and_nothing_else(qbrm_command, monkeypatch, tmp_path):
    from qbrm_lab import bench

    row = {"dim": 12, "method": "rbm", "rows_per_s": 1.0, "ratio_to_published": 1.0, "ratio_to_ebrm": 1.0}
    monkeypatch.setitem(bench.SPEED_BENCHMARKS, "refine", lambda seed: [{**row, "multiple_of_floor": 1.0}])
    ended = qbrm_command("bench", "refine", "--json", "--out", tmp_path / "bench.json")
    assert ended.code == 0
    assert json.loads(ended.out) == json.loads((tmp_path / "bench.json").read_text())


def test_a_finished_folder_can_be_moved(compare, encoder, tmp_path):
    """Nothing inside a run's folder names the folder."""
    assert compare().code == 0
    before = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    shutil.move(tmp_path / "out", tmp_path / "moved")
    calls = encoder.calls
    assert compare(out=tmp_path / "moved").code == 0
    assert encoder.calls == calls
    assert json.loads((tmp_path / "moved" / "results.json").read_text())["rows"] == before
