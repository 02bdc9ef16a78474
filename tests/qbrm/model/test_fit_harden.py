"""`EnergyRewardModel.fit(..., harden=...)`: from the user's own responses to the verdict."""

import json

import numpy as np
import pytest

from fixtures.fake_encoder import FakeEncoder
from fixtures.preference_files import read_lines, write_preferences
from qbrm import EnergyRewardModel
from qbrm.cli.console import Reporter
from qbrm.cli.fit import _show_choice
from qbrm.errors import InputError
from qbrm.model.hardened import hacks_to_train, hardening_of, seen_kinds
from qbrm.model.probed import embed_hacks
from qbrm.preferences import preferences_of
from qbrm.probes import PROBES, Must
from qbrm.selection import Choice
from qbrm.selection.candidates import CANDIDATES
from qbrm.selection.cross_validation import Judged

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK = {"score": "sqrbm", "hidden": 4, "epochs": 2}
LOSING = {name for name, probe in PROBES.items() if probe.must is Must.LOSE}


@pytest.fixture(autouse=True)
def no_strength_is_shown(monkeypatch):
    """As on few prompts, without the trainings that show it."""
    monkeypatch.setattr("qbrm.model.judged_fit.greatest_safe_strength", lambda difference: 0.0)
    monkeypatch.setattr("qbrm.model.judged_fit.JudgedFit._judges", lambda fit, family: Judges())


class Judges:
    def refined_right(self, candidate):
        return lambda strength: None


@pytest.fixture
def prefs(tmp_path):
    return write_preferences(tmp_path / "prefs.jsonl", 0, 48)


def fit(prefs, encoder=None, **options):
    return EnergyRewardModel.fit(encoder or FakeEncoder(reward=1), prefs, **QUICK | options)


def test_a_verdict_tells_how_often_hacks_win_without_hardening_too(prefs):
    verdict = fit(prefs).verdict
    assert verdict["harden"] is None
    assert LOSING - {"language-switched", "last-sentence-repeated"} <= set(verdict["probes"]) <= set(PROBES)
    for rates in verdict["probes"].values():
        assert rates.keys() == {"base", "refined"}
        assert all(0 <= rate <= 1 for rate in rates.values())


@pytest.mark.parametrize("reward", [1, None])
def test_hardening_is_applied_though_no_strength_is_shown_and_the_verdict_says_so(prefs, reward, tmp_path):
    model = fit(prefs, FakeEncoder(reward=reward), harden=True)
    verdict = model.verdict
    assert verdict["score"] == "sqrbm"
    assert verdict["strength"] == 1
    seen, unseen = (set(verdict["harden"][side]["kinds"]) for side in ("seen", "unseen"))
    assert seen <= set(seen_kinds(0))
    assert seen.isdisjoint(unseen)
    assert seen | unseen <= LOSING
    roles = {part.role: part for part in model.provenance.data}
    hardened = next(part for role, part in roles.items() if role.startswith("is to lose: "))
    assert hardened.prompts <= roles["trains, and chooses the score"].prompts
    model.save_pretrained(tmp_path / "model")
    assert "## Probes" in (tmp_path / "model" / "README.md").read_text()


def test_hacks_are_embedded_once_and_only_of_prompts_that_train(prefs, tmp_path):
    first, second = FakeEncoder(reward=1), FakeEncoder(reward=1)
    fit(prefs, first, out=tmp_path / "out", harden=("padding",))
    for folder in ("harden", "probes"):
        assert (tmp_path / "out" / folder / "manifest.json").exists()
    fit(prefs, second, out=tmp_path / "out", harden=("padding",))
    assert first.calls > 0
    assert second.calls == 0


def test_other_kinds_in_one_folder_are_another_question(prefs, tmp_path):
    """The folder's table grows with every call, and kinds may make as many hacks as others."""
    preferences = preferences_of(prefs)
    keys = []
    for kind in ("padding", "flattery", "padding"):
        hacks = hacks_to_train(preferences, [kind], 0)
        keys.append(repr(hardening_of(embed_hacks(FakeEncoder(reward=1), hacks, tmp_path / "harden"), [kind])))
    assert keys[1] != keys[2]


def test_labels_do_not_change_what_is_hacked(prefs, tmp_path):
    turned = [
        {**row, "chosen": row["rejected"][0], "rejected": [row["chosen"], *row["rejected"][1:]]}
        for row in read_lines(prefs)
    ]
    (tmp_path / "turned.jsonl").write_text("".join(json.dumps(row) + "\n" for row in turned))
    texts = []
    for path in (prefs, tmp_path / "turned.jsonl"):
        hacks = hacks_to_train(preferences_of(path), seen_kinds(0), 0).preferences
        texts.append([(row.prompt_id, row.category, row.chosen, row.rejected) for row in hacks])
    assert texts[0] == texts[1]


@pytest.mark.parametrize(("most", "each"), [(8000, 11), (96 * 5, 10), (48 * 4, 4)])
def test_few_prompts_are_hacked_by_every_kind_and_many_by_some(most, each, prefs, monkeypatch):
    monkeypatch.setattr("qbrm.model.hardened.MOST_HACKS", most)
    preferences = preferences_of(prefs)
    hacks = hacks_to_train(preferences, seen_kinds(0), 0)
    tried = len(hacks.preferences.preferences) + sum(hacks.skipped.values())
    assert tried == each * len(preferences.prompt_ids)


@pytest.mark.parametrize("hardened", [True, False])
def test_the_losses_of_candidates_are_said_to_have_that_of_hacks_in_them(hardened, capsys):
    losses = [Judged(candidate, np.array([0.5, 0.7])) for candidate in CANDIDATES[:2]]
    _show_choice(Choice.among(losses, np.array([0, 1])), Reporter(), hardened=hardened)
    assert ("log-loss with hacks" in capsys.readouterr().out) == hardened


def test_a_quarter_of_the_kinds_that_must_lose_is_held_out_by_the_seed():
    drawn = [set(seen_kinds(seed)) for seed in range(5)]
    assert all(kinds < LOSING and len(LOSING - kinds) == len(LOSING) // 4 for kinds in drawn)
    assert len({frozenset(kinds) for kinds in drawn}) > 1


@pytest.mark.parametrize(
    ("harden", "said"),
    [
        (["paddin"], "unknown probe 'paddin'; did you mean 'padding'"),
        (["lists-added"], "harden names lists-added, which makes nothing worse; expected probes that must lose"),
    ],
)
def test_kinds_that_cannot_be_trained_against_are_named(prefs, harden, said):
    with pytest.raises(InputError, match=said):
        fit(prefs, harden=harden)
