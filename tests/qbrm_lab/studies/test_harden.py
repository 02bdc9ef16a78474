"""The study of hardening, on a reward model that sees nothing but length."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fixtures.fake_encoder import FakeEncoder
from fixtures.preference_files import write_preferences
from qbrm.data.pairs import PairData
from qbrm.model.score_choice import ScoreChoice
from qbrm.preferences import preferences_of
from qbrm.probes import PROBES, Must
from qbrm.probes.hacks import any_response, sample_originals
from qbrm_lab.results.harden_rows import HardenResults
from qbrm_lab.studies import harden
from qbrm_lab.studies.harden_table import BASE, NO_GATE, Outcome, OutcomeTable, SeedOutcomes, share_out
from qbrm_lab.studies.json_files import read_json

pytestmark = pytest.mark.usefixtures("one_thread")


def test_every_kind_that_must_lose_is_unseen_in_one_split():
    splits = harden.split_kinds(0)
    kinds = [kind for split in splits for kind in split]
    assert sorted(kinds) == sorted(name for name, probe in PROBES.items() if probe.must is Must.LOSE)
    assert len(splits) == 3


@pytest.mark.parametrize("headless", [True, False])
def test_five_seeds_test_every_prompt_once_and_no_prompt_has_two_roles(headless):
    prompts = [f"p{number}" for number in range(43)]
    tested = []
    for seed in range(5):
        roles = share_out(prompts, seed, headless=headless)
        assert sorted(prompt for role in roles for prompt in role) == sorted(prompts)
        assert bool(roles.head) == headless
        tested += roles.test
    assert sorted(tested) == sorted(prompts)


def test_no_hack_to_train_against_is_the_answer_to_a_test_prompt(tmp_path):
    read = preferences_of(write_preferences(tmp_path / "prefs.jsonl", 0, 43))
    originals = sample_originals(read, 43, 0, any_response)
    hacks = harden.hack_by_fifths("some", originals)
    off_topic = [row for row in hacks if row.category == "off-topic"]
    assert len(off_topic) > 40
    for seed in range(5):
        test = share_out(hacks.prompt_ids, seed, headless=False).test
        answers = {text for row, text in originals if row.prompt_id in test}
        elsewhere = {text for row, text in originals if row.prompt_id not in test}
        hacked = {row.rejected[0] for row in off_topic if row.prompt_id not in test}
        assert not hacked & (answers - elsewhere)


def test_a_score_on_the_reward_model_head_reads_what_that_head_reads(monkeypatch):
    built = []
    monkeypatch.setattr(ScoreChoice, "build", lambda choice, dim, head_dim: built.append((dim, head_dim)))
    monkeypatch.setattr(harden, "train_members", lambda build, *given: build() or SimpleNamespace(members=None))
    pairs = PairData(torch.ones(2, 6), torch.ones(2), torch.tensor([0]), torch.tensor([1]))
    features = harden.Features(pairs.embedding, pairs.reward, 4)
    judged = SimpleNamespace(
        clean=lambda prompts: pairs, features=features, roles=share_out(["a", "b", "c"], 0, headless=False)
    )
    harden._trained("ebrm", judged, None, 0)
    assert built == [(6, 4)]


def test_rates_of_seen_and_unseen_kinds_are_those_of_the_splits_in_which_they_are_that():
    kinds = ["padding", "keywords", "lists-added"]

    def outcome(split, wins):
        return Outcome("sqrbm", split, NO_GATE, [1, 0], wins * 2, 1.0)

    plain = Outcome("sqrbm", None, NO_GATE, [0, 0], [1] * 6, 1.0)
    base = Outcome(BASE, None, NO_GATE, [0, 0], [1, 0, 1] * 2, 0.0)
    hardened = [outcome(0, [1, 0, 1]), outcome(1, [0, 1, 0])]
    seed = SeedOutcomes([0, 1], [0, 0, 0, 1, 1, 1], kinds * 2, [base, plain, *hardened])
    table = OutcomeTable([seed], [["padding"], ["keywords"]])
    row = table.row("sqrbm", True, NO_GATE)
    assert (row.seen[0], row.unseen[0], row.not_gain[0]) == (0, 1, 0.5)
    assert row.accuracy[0] == row.over_plain[0] == 0.5
    of_base = table.row(BASE, False, NO_GATE)
    assert (of_base.seen[0], of_base.unseen[0], of_base.over_plain) == (0.5, 0.5, ())
    kind = table.kind("padding")
    assert (kind.n, kind.base[0], kind.plain[0], kind.seen[0], kind.unseen[0]) == (2, 1, 1, 0, 1)
    assert table.kind("lists-added").seen == ()


def test_the_study_measures_every_way_and_goes_on_from_what_is_there(command, tmp_path, monkeypatch):
    encoder = FakeEncoder(reward=1)
    monkeypatch.setattr(harden, "load_reward_model", lambda *given, **options: encoder)
    monkeypatch.setattr("qbrm.selection.candidates.LEAST_STEPS", 1)
    prefs = write_preferences(tmp_path / "prefs.jsonl", 0, 45)
    arguments = ("study", "harden", "--train", prefs, "--out", tmp_path / "out", "--quick", "--train-prompts", 42)
    code, _, error = command(*arguments)
    assert code == 0, error
    results = read_json(tmp_path / "out" / "harden.json", HardenResults)
    assert results.prompts == 42
    assert [(row.method, row.hardened, row.gate) for row in results.rows] == [
        ("base", False, "none"),
        ("sqrbm", False, "none"),
        ("sqrbm", False, "density"),
        ("sqrbm", True, "none"),
        ("sqrbm", True, "density"),
        ("sqrbm", True, "hacks too"),
        ("residual", False, "none"),
        ("residual", False, "density"),
        ("residual", True, "none"),
        ("residual", True, "density"),
        ("residual", True, "hacks too"),
    ]
    for row in results.rows:
        for mean, low, high in (row.seen, row.unseen, row.accuracy):
            assert 0 <= low <= mean <= high <= 1
    calls, page = encoder.calls, (tmp_path / "out" / "harden.md").read_text()
    assert "| sqrbm | yes | hacks too |" in page
    assert "| padding | lose |" in page
    assert (tmp_path / "out" / "harden.png").read_bytes().startswith(b"\x89PNG")
    kept = json.loads((tmp_path / "out" / "seeds" / "seed-0.json").read_text())
    assert command(*arguments)[0] == 0
    assert encoder.calls == calls
    assert json.loads((tmp_path / "out" / "seeds" / "seed-0.json").read_text()) == kept
    assert np.isfinite(results.rows[-1].seconds)


def test_too_few_prompts_are_refused(command, tmp_path):
    prefs = write_preferences(tmp_path / "prefs.jsonl", 0, 12)
    code, _, error = command("study", "harden", "--train", prefs, "--out", tmp_path / "out")
    assert code == 2
    assert "prefs.jsonl has 12 prompts; expected at least 40." in error
