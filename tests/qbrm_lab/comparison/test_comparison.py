"""The whole comparison, with a fake encoder: what comes out is what an independent reading of the files gives."""

import json
import math
import os
import stat
import sys
import threading
import time
from collections import defaultdict

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fixtures import comparisons
from fixtures.comparisons import run
from fixtures.fake_encoder import FakeEncoder, vector
from fixtures.preference_files import read_lines, write_preferences
from qbrm import EnergyRewardModel, durable
from qbrm.cli.console import Reporter
from qbrm.durable import one_writer
from qbrm.errors import InputError
from qbrm.features import FeatureTable
from qbrm.features.pair_list import read_pairs
from qbrm.fitting import trainer
from qbrm.preferences import Message, prompt_id, response_id
from qbrm.reward_models import REWARD_MODELS
from qbrm_lab.comparison import ComparisonSettings, compare, one_seed
from qbrm_lab.methods import folder_name
from qbrm_lab.report.plots.gallery import PLOTS

ALL_METHODS = ("length", "base", "mlp", "ebrm", "rbm", "sqrbm")
ROW_KEYS = ["scenario", "method", "seed", "test", "set", "category", "n", "accuracy", "ci_low", "ci_high", "nll", "ece"]
PICTURES = {f"{plot.stem}.png" for plot in PLOTS}


def prompts_of(path):
    return {prompt_id((Message("user", line["prompt"]),)) for line in read_lines(path)}


def weights(out):
    return {path.parent.name: path.read_bytes() for path in out.glob("models/*/model.safetensors")}


@pytest.fixture(scope="module", autouse=True)
def encoder():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the networks are so small that threads only wait for each other
    with pytest.MonkeyPatch.context() as monkeypatch:
        fake = FakeEncoder()
        monkeypatch.setitem(REWARD_MODELS, "fake", lambda: fake)
        yield fake
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    return {
        "train": write_preferences(folder / "train.jsonl", 0, 48),
        "first": write_preferences(folder / "first.jsonl", 1000, 24),
        "second": write_preferences(folder / "second.jsonl", 2000, 12),
    }


@pytest.fixture(scope="module")
def full(sources, tmp_path_factory):
    """All methods, two seeds, two tests: settings, results, what was printed."""
    settings = {
        "train": sources["train"],
        "tests": (sources["first"], sources["second"]),
        "methods": ALL_METHODS,
        "seeds": 2,
        "out": tmp_path_factory.mktemp("full"),
    }
    results, printed = run(**settings, pictures="drawn")
    return settings, results, printed


@pytest.fixture(scope="module")
def plain(sources, tmp_path_factory):
    """A run of one seed and one test that nothing interrupted."""
    out = tmp_path_factory.mktemp("plain")
    methods = ("base", "mlp", "sqrbm")
    settings = {"train": sources["train"], "tests": (sources["first"],), "methods": methods}
    return settings, run(**settings, out=out, pictures="rendered")[0], out


def items_of(path):
    """(prompt, chosen, rejected, category, set) of every line, by reading it anew."""
    return [
        (
            line["prompt"],
            line["chosen"],
            line["rejected"],
            line["category"],
            "bon" if line["rejected"][1:] else "pairwise",
        )
        for line in read_lines(path)
    ]


def rewards_of(full, sources, method, seed):
    """The method's rewards of test answers, by (prompt, answer), from what the run saved."""
    answers = {}
    for name in ("first", "second"):
        for prompt, chosen, rejected, *_ in items_of(sources[name]):
            answers |= {(prompt, answer): None for answer in (chosen, *rejected)}
    if method == "length":
        return {key: len(key[1]) for key in answers}
    out = full[0]["out"]
    if method == "base":
        keys = [(prompt_id((Message("user", prompt),)), response_id(answer)) for prompt, answer in answers]
        rewards = FeatureTable.open(out / "features" / f"fresh-seed-{seed}").rows(keys).reward
    else:
        model = EnergyRewardModel.from_pretrained(out / "models" / f"{method}-fresh-seed-{seed}")
        rewards = model.score(*zip(*answers, strict=True)).refined
    return dict(zip(answers, rewards.tolist(), strict=True))


def accuracies(rewards, items):
    """Accuracy by (set, category), with all and macro."""
    right = defaultdict(list)
    for prompt, chosen, rejected, category, set_name in items:
        wins = all(rewards[prompt, chosen] > rewards[prompt, answer] for answer in rejected)
        right[set_name, category].append(wins)
    found = {key: np.mean(values) for key, values in right.items()}
    for set_name in ("pairwise", "bon"):
        parts = [values for (name, _), values in right.items() if name == set_name]
        found[set_name, "all"] = np.mean(np.concatenate(parts))
        found[set_name, "macro"] = np.mean([np.mean(part) for part in parts])
    return found


def rows_of(results, **wanted):
    return [row for row in results["rows"] if wanted.items() <= row.items()]


def test_rows_have_the_promised_keys_and_cover_everything_once(full, sources):
    settings, results, _ = full
    on_disk = json.loads((settings["out"] / "results.json").read_text())
    assert on_disk == results
    assert on_disk["schema"] == 1
    assert all(list(row) == ROW_KEYS for row in results["rows"])
    expected = {
        ("fresh", method, seed, f"{name}.jsonl", set_name, category)
        for name in ("first", "second")
        for *_, item_category, set_name in items_of(sources[name])
        for category in (item_category, "all", "macro")
        for method in ALL_METHODS
        for seed in (0, 1)
    }
    found = [
        tuple(row[key] for key in ("scenario", "method", "seed", "test", "set", "category")) for row in results["rows"]
    ]
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_n_counts_the_items_of_each_category(full, sources):
    for name in ("first", "second"):
        items = items_of(sources[name])
        for row in rows_of(full[1], test=f"{name}.jsonl"):
            of_set = [item for item in items if item[4] == row["set"]]
            of_category = [item for item in of_set if row["category"] in ("all", "macro", item[3])]
            assert row["n"] == len(of_category)


@pytest.mark.parametrize(
    ("method", "seed"),
    # Above 2 standard deviations, ascent starts at random: model.score draws as seed 0 of a comparison does.
    [(method, seed) for method in ("length", "base", "rbm", "sqrbm") for seed in (0, 1)] + [("ebrm", 0)],
)
def test_saved_models_give_the_accuracies_in_the_results(full, sources, method, seed):
    rewards = rewards_of(full, sources, method, seed)
    for name in ("first", "second"):
        expected = accuracies(rewards, items_of(sources[name]))
        rows = rows_of(full[1], method=method, seed=seed, test=f"{name}.jsonl")
        assert {(row["set"], row["category"]): row["accuracy"] for row in rows} == pytest.approx(expected)


def test_residual_and_deep_fields_are_saved_as_they_were_compared(sources, tmp_path):
    methods = ("residual:gate,members=2", "sqrbm:deep")
    results, _ = run(train=sources["train"], tests=(sources["second"],), methods=methods, epochs=3, out=tmp_path)
    items = items_of(sources["second"])
    answers = list(
        dict.fromkeys((prompt, answer) for prompt, chosen, rejected, *_ in items for answer in (chosen, *rejected))
    )
    for method in methods:
        model = EnergyRewardModel.from_pretrained(tmp_path / "models" / f"{folder_name(method)}-fresh-seed-0")
        rewards = dict(zip(answers, model.score(*zip(*answers, strict=True)).refined.tolist(), strict=True))
        rows = rows_of(results, method=method)
        assert {(row["set"], row["category"]): row["accuracy"] for row in rows} == pytest.approx(
            accuracies(rewards, items)
        )


def test_log_loss_of_base_is_that_of_the_logistic_of_its_margins(full, sources):
    rewards = rewards_of(full, sources, "base", 1)
    losses = [
        math.log1p(math.exp(rewards[prompt, answer] - rewards[prompt, chosen]))
        for prompt, chosen, rejected, _, set_name in items_of(sources["first"])
        for answer in rejected
        if set_name == "bon"
    ]
    (row,) = rows_of(full[1], method="base", seed=1, test="first.jsonl", set="bon", category="all")
    assert row["nll"] == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize("method", ["rbm", "sqrbm"])
def test_log_loss_of_a_machine_is_that_of_its_saved_probabilities(full, sources, method):
    model = EnergyRewardModel.from_pretrained(full[0]["out"] / "models" / f"{method}-fresh-seed-0")
    items = [item for item in items_of(sources["first"]) if item[4] == "pairwise"]
    losses = [-math.log(model.prefer(prompt, chosen, answer)) for prompt, chosen, (answer,), *_ in items]
    (row,) = rows_of(full[1], method=method, seed=0, test="first.jsonl", set="pairwise", category="all")
    assert row["nll"] == pytest.approx(np.mean(losses), rel=1e-3)


def test_only_methods_with_probabilities_have_log_loss_and_ece(full):
    for row in full[1]["rows"]:
        assert (row["nll"] is None) == (row["ece"] is None) == (row["method"] == "length")
        assert row["ci_low"] <= row["accuracy"] <= row["ci_high"]


def test_refined_rewards_learn_something(full):
    """The labels follow the fake encoder's numbers, so a trained reward beats a coin."""
    rows = rows_of(full[1], test="first.jsonl", set="pairwise", category="all")
    mean = {method: np.mean([row["accuracy"] for row in rows if row["method"] == method]) for method in ALL_METHODS}
    assert mean["base"] > 0.6
    assert mean["sqrbm"] > 0.6
    loss = {method: np.mean([row["nll"] for row in rows if row["method"] == method]) for method in ("base", "sqrbm")}
    assert loss["sqrbm"] < loss["base"]


def test_training_and_refinement_are_timed_for_every_method_that_has_them(full, sources):
    timings = full[1]["timings"]
    assert all({"method", "seed", "stage", "seconds", "examples"} <= timing.keys() for timing in timings)
    assert all(timing["seconds"] > 0 and timing["examples"] > 0 for timing in timings)
    found = sorted((timing["method"], timing["seed"], timing["stage"]) for timing in timings)
    trained = {(method, seed, "train") for method in ("base", "mlp", "ebrm", "rbm", "sqrbm") for seed in (0, 1)}
    refined = {(method, seed, "refine") for method in ("mlp", "ebrm", "rbm", "sqrbm") for seed in (0, 1)}
    assert found == sorted(trained | refined)
    answers = sum(1 + len(rejected) for name in ("first", "second") for _, _, rejected, *_ in items_of(sources[name]))
    assert {timing["examples"] for timing in timings if timing["stage"] == "refine"} == {answers}


def test_report_and_plots_are_there(full, plain):
    assert {path.name for path in plain[2].glob("*.png")} == PICTURES
    assert all(path.stat().st_size > 5000 for path in plain[2].glob("*.png"))
    names = [path.name for path in full[0]["out"].glob("*.png")]
    for number, test in enumerate(("first", "second"), start=1):
        of_test = {name.split("-")[0] for name in names if f"-{number}-fresh-{test}-jsonl" in name}
        assert of_test >= {"training", "categories", "calibration"}
    for out in (plain[2], full[0]["out"]):
        assert "sqrbm" in (out / "report.html").read_text()


def test_abstaining_ends_at_full_accuracy_with_a_bounded_area(full):
    """At full coverage the decisions are those of the pairwise set, where base rewards decide as its accuracy says."""
    curves = full[1]["risk_coverage"]
    assert {row["method"] for row in curves} == set(ALL_METHODS) - {"length"}
    summary = {(r["method"], r["test"], r["set"]): r["accuracy"] for r in full[1]["summary"] if r["category"] == "all"}
    for row in curves:
        assert row["seeds"] == 2
        assert len(row["coverage"]) == len(row["accuracy"]) <= 50
        assert row["coverage"][-1] == 1
        assert 0 <= row["excess"] <= row["aurc"] <= 1
        assert row["ci_low"] <= row["aurc"] <= row["ci_high"]
        assert [each["reference"] for each in row["differences"]] == [n for n in ("base", "mlp") if n != row["method"]]
        if row["set"] == "pairwise" and row["method"] in ("base", "mlp"):
            assert row["accuracy"][-1] == pytest.approx(summary[row["method"], row["test"], "pairwise"], abs=1e-6)


def test_predicted_deviations_are_those_of_the_saved_models(full, sources):
    pairs = [
        (prompt, chosen, answer)
        for prompt, chosen, rejected, _, set_name in items_of(sources["first"])
        if set_name == "pairwise"
        for answer in rejected
    ]
    assert {row["method"] for row in full[1]["deviation"]} == {"ebrm", "rbm", "sqrbm"}
    for method in ("ebrm", "sqrbm"):
        expected = []
        for seed in (0, 1):
            model = EnergyRewardModel.from_pretrained(full[0]["out"] / "models" / f"{method}-fresh-seed-{seed}")
            prompts, chosen, rejected = zip(*pairs, strict=True)
            variance = sum(model.score(prompts, side).std.double() ** 2 for side in (chosen, rejected))
            parts = np.array_split(np.sort(np.sqrt(variance.numpy())), min(10, len(pairs)))
            expected.append([part.mean() for part in parts])
        (row,) = (
            row
            for row in full[1]["deviation"]
            if (row["method"], row["test"], row["set"]) == (method, "first.jsonl", "pairwise")
        )
        assert row["n"] == len(pairs)
        assert row["deviation"] == pytest.approx(np.mean(expected, axis=0), rel=1e-3)


def test_summary_is_the_mean_over_seeds(full):
    for row in full[1]["summary"]:
        if row["category"] == "all":
            wanted = {key: row[key] for key in ("method", "test", "set", "category")}
            seeds = rows_of(full[1], **wanted)
            assert row["accuracy"] == pytest.approx(np.mean([seed["accuracy"] for seed in seeds]))
            assert row["seeds"] == len(seeds) == 2


def test_differences_are_differences_of_the_summaries(full):
    summary = {(r["method"], r["test"], r["set"]): r["accuracy"] for r in full[1]["summary"] if r["category"] == "all"}
    differences = full[1]["differences"]
    expected = [(method, reference) for reference in ("base", "mlp") for method in ALL_METHODS if method != reference]
    assert sorted({(row["method"], row["reference"]) for row in differences}) == sorted(expected)
    for row in differences:
        mine, other = (summary[name, row["test"], row["set"]] for name in (row["method"], row["reference"]))
        assert row["difference"] == pytest.approx(mine - other, abs=1e-12)
        assert row["ci_low"] <= row["difference"] + 1e-12
        assert row["ci_high"] >= row["difference"] - 1e-12


def test_every_energy_score_is_judged_on_all_pairs_of_each_test(full, sources):
    """As `qbrm fit` counts them: of both sets, each once, means over seeds."""
    rows = {(row["method"], row["test"]): row for row in full[1]["verdicts"]}
    assert set(rows) == {
        (method, f"{name}.jsonl") for method in ("ebrm", "rbm", "sqrbm") for name in ("first", "second")
    }
    for name in ("first", "second"):
        pairs = {
            (prompt, chosen, answer)
            for prompt, chosen, rejected, *_ in items_of(sources[name])
            for answer in rejected
            if answer != chosen
        }
        for method in ("rbm", "sqrbm"):
            row = rows[method, f"{name}.jsonl"]
            assert (row["pairs"], row["prompts"]) == (len(pairs), len({prompt for prompt, *_ in pairs}))
            accuracy = {}
            for judged in ("base", method, "length"):
                rewards = [rewards_of(full, sources, judged, seed) for seed in (0, 1)]
                right = [[of[p, chosen] > of[p, answer] for p, chosen, answer in pairs] for of in rewards]
                accuracy[judged] = np.mean(right)
            assert row["base"]["accuracy"] == pytest.approx(accuracy["base"])
            assert row["refined"]["accuracy"] == pytest.approx(accuracy[method])
            assert row["length_accuracy"] == pytest.approx(accuracy["length"])
            assert row["difference"]["accuracy"][0] == pytest.approx(accuracy[method] - accuracy["base"])
            assert f"on {len(pairs)} pairs" in row["sentence"]


def test_without_best_of_n_a_verdict_has_the_interval_of_the_difference(tmp_path):
    lines = [
        line for line in read_lines(write_preferences(tmp_path / "both.jsonl", 0, 40)) if len(line["rejected"]) == 1
    ]
    (tmp_path / "pairwise.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    results, _ = run(
        train=tmp_path / "pairwise.jsonl", methods=("base", "rbm"), seeds=2, epochs=2, out=tmp_path / "out"
    )
    (verdict,), (difference,) = results["verdicts"], results["differences"]
    expected = [difference[key] for key in ("difference", "ci_low", "ci_high")]
    assert verdict["difference"]["accuracy"] == pytest.approx(expected)


def test_a_score_is_judged_against_a_base_that_is_not_compared(tmp_path):
    train = write_preferences(tmp_path / "train.jsonl", 0, 16)
    results, _ = run(train=train, methods=("rbm",), epochs=1, out=tmp_path / "out")
    assert [row["method"] for row in results["verdicts"]] == ["rbm"]
    assert {row["method"] for row in results["rows"]} == {"rbm"}


def test_filtering_note_counts_the_pairs_that_base_rewards_do_not_support(full):
    for seed in (0, 1):
        folder = full[0]["out"] / "features" / f"fresh-seed-{seed}"
        table = FeatureTable.open(folder)
        pairs = read_pairs(table)
        total, reward = len(pairs.chosen), table.rows(table.keys()).reward
        dropped = int((reward[pairs.chosen] <= reward[pairs.rejected]).sum())
        assert 0 < dropped < total
        note = f"fresh, ebrm, seed {seed}: {dropped} of {total} pairs dropped by conflict-aware filtering"
        assert note in full[1]["notes"]
        assert note in full[2]


def test_tensorboard_holds_the_validation_loss_of_every_epoch(full):
    for method in ("base", "mlp", "ebrm", "rbm", "sqrbm"):
        folder = full[0]["out"] / "training" / method / "fresh-seed-1"
        events = EventAccumulator(str(folder)).Reload().Scalars("validation_loss")
        epochs = [row for row in full[1]["epochs"] if (row["method"], row["seed"]) == (method, 1)]
        assert [event.step for event in events] == [row["epoch"] for row in epochs]
        assert [event.value for event in events] == pytest.approx([row["validation_loss"] for row in epochs], rel=1e-6)


def test_second_run_gives_the_same_rows_and_neither_embeds_nor_trains(full, encoder, monkeypatch):
    def not_again(*arguments):
        raise AssertionError("trained again")

    settings, first, _ = full
    monkeypatch.setattr(trainer, "_train_epoch", not_again)
    calls = encoder.calls
    again, _ = run(**settings)
    assert again["rows"] == first["rows"]
    assert again["epochs"] == first["epochs"]
    assert encoder.calls == calls


class KilledError(BaseException):
    pass


def killed_at(call, function):
    """`function`, but its call of that number, counted from 1, ends the run before it does anything."""
    calls = 0

    def counted(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == call:
            raise KilledError
        return function(*arguments, **options)

    return counted


KILLS = {
    "while embedding": ("encoder", 1),
    "first epoch of the trunk": ("_train_epoch", 1),
    "before the trunk's third checkpoint": ("save_checkpoint", 3),
    "amid the mlp": ("_train_epoch", 15),
    "before the last checkpoint": ("save_checkpoint", -1),
    "before the report": ("write_report", 1),
}


@pytest.mark.parametrize("moment", KILLS)
def test_killed_and_rerun_gives_the_rows_of_a_run_that_nothing_interrupted(
    plain, moment, encoder, monkeypatch, tmp_path
):
    settings, uninterrupted, out = plain
    where, call = KILLS[moment]
    call = call if call > 0 else len(uninterrupted["epochs"])
    module = {"encoder": encoder, "write_report": comparisons}.get(where, trainer)
    name = "embed" if where == "encoder" else where
    with monkeypatch.context() as patch:
        patch.setattr(module, name, killed_at(call, getattr(module, name)))
        with pytest.raises(KilledError):
            run(**settings, out=tmp_path)
    assert not (tmp_path / "results.json").exists()
    again, _ = run(**settings, out=tmp_path)
    assert again["rows"] == uninterrupted["rows"]
    assert weights(tmp_path) == weights(out)


@pytest.mark.parametrize("file", [2, 7, 20], ids="file {}".format)
def test_a_half_written_file_of_a_killed_run_does_not_count(plain, file, monkeypatch, tmp_path):
    """Killed while a file, counted from 1, is flushed: features, checkpoint or model."""
    settings, uninterrupted, out = plain
    with monkeypatch.context() as patch:
        flush = durable.os.fsync
        kill = killed_at(file, flush)
        is_folder = lambda opened: stat.S_ISDIR(os.fstat(opened).st_mode)  # noqa: E731
        patch.setattr(durable.os, "fsync", lambda opened: (flush if is_folder(opened) else kill)(opened))
        with pytest.raises(KilledError):
            run(**settings, out=tmp_path)
    half_written = list(tmp_path.rglob(f"*{durable.TEMPORARY}"))
    assert half_written  # the file, and maybe its checksum
    for path in half_written:
        path.write_bytes(path.read_bytes()[:10])
    assert run(**settings, out=tmp_path)[0]["rows"] == uninterrupted["rows"]
    assert weights(tmp_path) == weights(out)


def test_metrics_of_epochs_before_a_kill_are_on_disk(plain, tmp_path, monkeypatch):
    """A killed process closes nothing, and its checkpoint keeps the resumed run from logging those epochs again."""
    folder = tmp_path / "training" / "base" / "fresh-seed-0"
    seen = []
    watch = one_seed._Watch.on_epoch

    def look(self, epoch):
        watch(self, epoch)
        if self._method == "base" and epoch["epoch"] == 3:
            deadline = time.monotonic() + 5  # the writer has a thread of its own
            while len(seen) < 4 and time.monotonic() < deadline:
                seen[:] = EventAccumulator(str(folder)).Reload().Scalars("validation_loss")
            raise KilledError

    monkeypatch.setattr(one_seed._Watch, "on_epoch", look)
    with pytest.raises(KilledError):
        run(**plain[0], out=tmp_path)
    assert [event.step for event in seen] == [0, 1, 2, 3]


def flipped(path, target):
    """The same prompts and answers, with another answer chosen."""
    lines = read_lines(path)
    for line in lines:
        line["chosen"], line["rejected"][0] = line["rejected"][0], line["chosen"]
    target.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return target


def test_nothing_of_the_test_labels_reaches_training(plain, sources, tmp_path):
    settings, results, out = plain
    test = flipped(sources["first"], tmp_path / "first.jsonl")
    other, _ = run(**{**settings, "tests": (test,)}, out=tmp_path / "out")
    assert weights(tmp_path / "out") == weights(out)
    assert other["epochs"] == results["epochs"]
    assert other["rows"] != results["rows"]


def test_nothing_of_the_test_texts_reaches_training(plain, sources, tmp_path):
    settings, _, out = plain
    run(**{**settings, "tests": (sources["second"],)}, out=tmp_path)
    assert weights(tmp_path) == weights(out)


class Spy:
    """Remembers which prompts each kind of model was trained on and validated with."""

    def __init__(self, monkeypatch, out):
        self.trained, self.validated, self._out = defaultdict(set), defaultdict(set), out
        train_epoch, validation_loss = trainer._train_epoch, trainer.validation_loss

        def train(epoch, *rest):
            self.trained[type(epoch.model).__name__].update(epoch.pairs.rows().tolist())
            return train_epoch(epoch, *rest)

        def validate(model, objective, pairs, seed):
            self.validated[type(model).__name__].update(pairs.rows().tolist())
            return validation_loss(model, objective, pairs, seed)

        monkeypatch.setattr(trainer, "_train_epoch", train)
        monkeypatch.setattr(trainer, "validation_loss", validate)

    def prompts(self, rows, scenario):
        keys = FeatureTable.open(self._out / "features" / f"{scenario}-seed-0").keys()
        return {model: {keys[row][0] for row in picked} for model, picked in rows.items()}


@pytest.mark.parametrize("held_out", [True, False], ids=["held out", "own test"])
@pytest.mark.parametrize("scenario", ["same", "fresh"])
def test_prompts_are_trained_on_or_validated_with_or_tested_on(scenario, held_out, sources, monkeypatch, tmp_path):
    spy = Spy(monkeypatch, tmp_path)
    tests = () if held_out else (sources["first"],)
    methods = ("base", "mlp", "sqrbm")
    results, _ = run(train=sources["train"], tests=tests, scenario=scenario, methods=methods, epochs=1, out=tmp_path)
    trained, validated = spy.prompts(spy.trained, scenario), spy.prompts(spy.validated, scenario)
    assert trained.keys() == validated.keys() == {"Trunk", "RewardCorrection", "SemiQuantumRBM"}
    assert trained["RewardCorrection"] == trained["SemiQuantumRBM"]
    assert validated["Trunk"] == validated["RewardCorrection"] == validated["SemiQuantumRBM"]
    reward_model, refinement, validation = trained["Trunk"], trained["SemiQuantumRBM"], validated["Trunk"]
    used = reward_model | refinement | validation
    assert not (reward_model | refinement) & validation
    if scenario == "same":
        assert reward_model == refinement
    else:
        assert not reward_model & refinement
        assert abs(len(reward_model) - len(refinement)) <= 1
    everything = prompts_of(sources["train"])
    assert used <= everything
    tested = everything - used
    assert {row["prompts"] for row in results["data"] if row["role"] == "test"} == {len(tested) if held_out else 24}
    assert len(tested) == (round(0.2 * 48) if held_out else 0)


def test_all_seeds_are_tested_on_the_same_held_out_prompts(sources, monkeypatch, tmp_path):
    results, _ = run(train=sources["train"], methods=("length",), seeds=3, out=tmp_path)
    by_seed = [[row["accuracy"] for row in rows_of(results, seed=seed)] for seed in range(3)]
    assert by_seed[0] == by_seed[1] == by_seed[2]


def test_overlapping_prompts_are_refused_and_named(sources, tmp_path):
    test = write_preferences(tmp_path / "overlapping.jsonl", 46, 10)
    with pytest.raises(InputError, match=r"train\.jsonl .* overlapping\.jsonl .*2 prompts.*question 46"):
        run(train=sources["train"], tests=(sources["first"], test), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("prompts", [1, 2, 3])
def test_too_few_prompts_are_counted_as_the_file_has_them(prompts, tmp_path):
    source = write_preferences(tmp_path / "few.jsonl", 0, prompts)
    with pytest.raises(InputError, match=rf"few\.jsonl has {prompts} prompt"):
        run(train=source, out=tmp_path / "out")


def test_smallest_source_that_is_enough_is_compared(tmp_path):
    source = write_preferences(tmp_path / "few.jsonl", 0, 4)
    results, _ = run(train=source, out=tmp_path / "out")
    assert {row["n"] for row in results["rows"]} == {1}


@pytest.mark.parametrize("methods", [("length",), ("base",), ("rbm", "length")], ids=",".join)
def test_any_choice_of_methods_is_reported(methods, tmp_path):
    train = write_preferences(tmp_path / "train.jsonl", 0, 16)
    results, _ = run(train=train, methods=methods, epochs=1, out=tmp_path, pictures="drawn")
    assert list(dict.fromkeys(row["method"] for row in results["rows"])) == list(methods)
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("objective", "refinement"), [("nce", "mean"), ("likelihood", "ascent"), ("preference", "mode")]
)
def test_every_score_takes_every_objective_and_refinement(objective, refinement, tmp_path):
    train = write_preferences(tmp_path / "train.jsonl", 0, 24)
    options = f"objective={objective},refinement={refinement}"
    methods = (f"ebrm:{options},keep", f"rbm:{options}", f"sqrbm:{options}")
    results, _ = run(train=train, methods=methods, epochs=1, out=tmp_path / "out")
    assert {row["objective"] for row in results["epochs"] if row["method"] in methods} == {objective}
    for method in methods:
        folder = tmp_path / "out" / "models" / f"{folder_name(method)}-fresh-seed-0"
        assert EnergyRewardModel.from_pretrained(folder).refinement == refinement
    assert all(math.isfinite(row["nll"]) and math.isfinite(row["accuracy"]) for row in results["rows"])


def validation_losses(results, method):
    return [row["validation_loss"] for row in results["epochs"] if row["method"] == method]


@pytest.mark.parametrize(
    ("method", "changed"), [("sqrbm", {"epochs": 2}), ("ebrm", {"epochs": 2}), ("rbm", {"hidden": 8})]
)
def test_another_setting_in_the_same_folder_is_trained_anew(method, changed, tmp_path):
    """A checkpoint of other settings is no checkpoint of these."""
    train = write_preferences(tmp_path / "train.jsonl", 0, 16)
    common = {"train": train, "epochs": 1, "methods": (method,)}
    run(**common, out=tmp_path / "used")
    used, _ = run(**{**common, **changed}, out=tmp_path / "used")
    anew, _ = run(**{**common, **changed}, out=tmp_path / "anew")
    assert validation_losses(used, method) == validation_losses(anew, method)
    assert used["rows"] == anew["rows"]


@pytest.fixture
def own_reward(monkeypatch):
    """Registers a reward model that has a score layer; its reward is the labels' signal times a sign."""

    def register(sign):
        model = FakeEncoder(reward=sign, name="scored")
        monkeypatch.setitem(REWARD_MODELS, "scored", lambda: model)

    return register


def test_reward_model_with_its_own_reward_is_not_trained(own_reward, sources, tmp_path):
    own_reward(1)
    out = tmp_path / "out"
    results, _ = run(
        train=sources["train"], tests=(sources["first"],), reward_model="scored", methods=("base", "rbm"), out=out
    )
    assert {timing["method"] for timing in results["timings"]} == {"rbm"}
    rewards = {
        (prompt, answer): float(vector((Message("user", prompt),), answer)[:2].sum())
        for prompt, chosen, rejected, *_ in items_of(sources["first"])
        for answer in (chosen, *rejected)
    }
    found = {(row["set"], row["category"]): row["accuracy"] for row in rows_of(results, method="base")}
    assert found == pytest.approx(accuracies(rewards, items_of(sources["first"])))


def test_no_pair_left_after_filtering_is_an_error_with_numbers(own_reward, tmp_path):
    own_reward(-1)
    train = write_preferences(tmp_path / "train.jsonl", 0, 30, noise=0)
    with pytest.raises(InputError, match=r"ebrm: .* left 0 of \d+ training pairs"):
        run(train=train, reward_model="scored", methods=("base", "ebrm"), out=tmp_path / "out")


def test_waiting_for_another_run_in_the_same_folder_is_said(sources, tmp_path, caplog):
    features = tmp_path / "features"
    features.mkdir()
    held, over = threading.Event(), threading.Event()

    def other_run():
        with one_writer(features):
            held.set()
            over.wait(20)

    other = threading.Thread(target=other_run)
    other.start()
    held.wait(20)
    settings = ComparisonSettings(
        train=sources["second"], out=tmp_path, methods=("length",), reward_model="fake", seeds=1
    )
    mine = threading.Thread(target=compare, args=(settings, Reporter.silent()))
    mine.start()
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline and "another process" not in caplog.text:
        time.sleep(0.02)
    waiting = caplog.text
    over.set()
    mine.join(60)
    other.join(60)
    assert "another process" in waiting


def test_wandb_gets_every_epoch_offline(sources, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is an optional dependency (qbrm[wandb])")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run(train=sources["train"], methods=("base",), epochs=1, wandb=True, out=tmp_path)
    assert list((tmp_path / "wandb").rglob("*.wandb"))


def test_wandb_that_is_not_installed_is_said_before_anything_is_embedded(sources, tmp_path, monkeypatch, encoder):
    monkeypatch.setitem(sys.modules, "wandb", None)
    calls = encoder.calls
    with pytest.raises(InputError, match="wandb is not installed"):
        run(train=sources["train"], methods=("base",), wandb=True, out=tmp_path)
    assert encoder.calls == calls
