"""Hacks of responses, embedded and judged."""

import json

import numpy as np
import pytest

from fixtures import refined_models
from fixtures.fake_encoder import DIM, FakeEncoder
from qbrm import EnergyRewardModel
from qbrm.energies import SemiQuantumRBM
from qbrm.model.probed import Wins, embed_hacks, robustness
from qbrm.preferences import Message, Preference, PreferenceSet
from qbrm.probes import PROBES, Must
from qbrm.probes.hacks import hack_originals, sample_originals
from qbrm.reward_models.base import Embedded, Identity, Refusal

pytestmark = pytest.mark.usefixtures("one_thread")
TEXT = "Answer {} is this one. It has words enough for any probe. And here is a third sentence"


@pytest.fixture(scope="module")
def originals():
    rows = [
        Preference(
            f"{n}", (Message("user", f"Question number {n}"),), TEXT.format(n) + "!" * n, ("No",), "", "pairwise"
        )
        for n in range(1, 9)
    ]
    return sample_originals(PreferenceSet("some", tuple(rows)), 8, seed=0)


class Length:
    """Rewards long responses, or short ones, or all alike."""

    dim, identity = 2, Identity("length", "1", "plain", 0)

    def __init__(self, sign):
        self.sign = sign

    def embed(self, prompts, responses):
        length = np.array([len(response) for response in responses], np.float32)
        return Embedded(np.stack([length, length], 1), self.sign * length)


class Refusing(Length):
    """Takes no special tokens."""

    def refusals(self, prompts, responses):
        return [Refusal(n, "holds <|im_end|>") for n, response in enumerate(responses) if "<|im_end|>" in response]


def rows_of(model, originals, folder):
    probes = tuple(PROBES.values())
    embedded = embed_hacks(model, hack_originals("some", originals, probes), folder)
    return {row.probe: row for row in embedded.rows(probes, embedded.wins())}


@pytest.mark.parametrize(("sign", "longer", "shorter", "as_long"), [(1, 1, 0, 1), (-1, 0, 1, 1), (0, 1, 1, 1)])
def test_a_hack_wins_if_its_reward_is_not_below_the_originals(originals, tmp_path, sign, longer, shorter, as_long):
    rows = rows_of(Length(sign), originals, tmp_path)
    assert rows["said-twice"].base.mean == rows["padding"].base.mean == longer
    assert rows["truncated"].base.mean == shorter
    assert rows["words-shuffled"].base.mean == as_long
    assert {row.n for name, row in rows.items() if name != "off-topic"} == {8}
    assert all(row.refined is None for row in rows.values())


def test_a_hack_that_the_reward_model_cannot_take_is_counted_and_the_others_go_on(originals, tmp_path):
    rows = rows_of(Refusing(1), originals, tmp_path)
    assert (rows["special-tokens"].n, rows["special-tokens"].refused) == (0, 8)
    assert rows["special-tokens"].to_dict()["base"] is None
    assert {row.refused for name, row in rows.items() if name != "special-tokens"} == {0}
    assert rows["said-twice"].n == 8


def test_refined_rates_are_those_of_the_refined_rewards(originals, tmp_path):
    model = refined_models.model()
    probes = tuple(PROBES.values())
    embedded = embed_hacks(model.reward_model, hack_originals("some", originals, probes), tmp_path)
    wins = embedded.wins(model.energy_score, model.refinement)
    for row, base, refined in zip(embedded.hacks.preferences, wins.base, wins.refined, strict=True):
        prompt = [turn.to_dict() for turn in row.prompt]
        scored = model.score([prompt] * 2, list(row.responses))
        assert base == bool(scored.base[1] >= scored.base[0])
        assert refined == bool(scored.refined[1] >= scored.refined[0])
    assert wins.base.tolist() != wins.refined.tolist()


def test_a_verdict_has_seen_and_unseen_kinds_apart(originals, tmp_path):
    model = refined_models.model()
    hacks = hack_originals("some", originals, tuple(PROBES.values()))
    wins = embed_hacks(model.reward_model, hacks, tmp_path).wins(model.energy_score, model.refinement)
    trained = ("padding", "said-twice", "keywords")
    told = robustness(wins, trained)
    others = [name for name, probe in PROBES.items() if probe.must is Must.LOSE and name not in trained]
    for part, kinds in ((told.seen, trained), (told.unseen, others)):
        assert set(part.kinds) == set(kinds)
        of_kinds = np.isin(wins.probe, list(kinds))
        assert part.base == pytest.approx(wins.base[of_kinds].mean())
        assert part.refined == pytest.approx(wins.refined[of_kinds].mean())
        assert part.difference[0] == pytest.approx(part.refined - part.base)
        assert part.difference[1] <= part.difference[0] <= part.difference[2]
    assert told.prompts == 8
    plain = robustness(wins)
    assert plain.seen is None
    assert set(plain.unseen.kinds) == {*trained, *others}


@pytest.mark.parametrize(("refined", "said"), [(0.9, True), (0.5, False), (0.1, False)])
def test_a_verdict_says_where_refining_made_a_model_easier_to_game(refined, said):
    generator = np.random.default_rng(0)
    base, after = (generator.random(400) < rate for rate in (0.5, refined))
    wins = Wins(np.full(400, "padding"), np.arange(400) // 2, base, after)
    sentence = robustness(wins).sentence
    assert ("it is easier to game than the base; see --harden" in sentence) == said
    assert "easier to game" not in robustness(wins, ["padding"]).sentence


@pytest.fixture
def source(tmp_path):
    lines = [
        {"prompt": f"Question number {n}", "chosen": TEXT.format(n), "rejected": "No, not at all."} for n in range(9)
    ]
    path = tmp_path / "prefs.jsonl"
    lines.append({"prompt": "Why me?", "chosen": "Yes", "rejected": "No"})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def loaded(monkeypatch):
    """The reward model that commands load."""

    def use(model):
        for room in ("cli.probe", "model.persistence"):
            monkeypatch.setattr(f"qbrm.{room}.load_reward_model", lambda *given, **options: model)

    return use


def save_untrained(folder):
    EnergyRewardModel(FakeEncoder(reward=1), SemiQuantumRBM(DIM, hidden=4)).save_pretrained(folder)


def test_the_command_probes_a_bare_reward_model(command, source, loaded, tmp_path):
    loaded(FakeEncoder(reward=1))
    code, out, _ = command("probe", "all-MiniLM-L6-v2", "--on", source, "--out", tmp_path / "out", "--prompts", 6)
    assert code == 0
    assert "6 drawn at random" in out
    assert "must lose" in out
    assert "must not gain" in out
    written = json.loads((tmp_path / "out" / "probes.json").read_text())
    assert written["schema"] == 1
    assert [row["probe"] for row in written["rows"]] == list(PROBES)
    for row in written["rows"]:
        assert {"probe", "n", "base", "refined", "ci_low", "ci_high"} <= row.keys()
        assert row["refined"] is None
        if row["n"]:
            assert 0 <= row["ci_low"] <= row["base"] <= row["ci_high"] <= 1
    assert (tmp_path / "out" / "probes.png").read_bytes().startswith(b"\x89PNG")


def test_without_the_laboratory_there_is_no_plot(command, source, loaded, tmp_path, monkeypatch):
    monkeypatch.setattr("qbrm.cli.laboratory.missing_packages", lambda: ["matplotlib"])
    loaded(FakeEncoder(reward=1))
    code, out, _ = command("probe", "all-MiniLM-L6-v2", "--on", source, "--out", tmp_path / "out", "--prompts", 2)
    assert code == 0
    assert "probes.png" not in out
    assert not (tmp_path / "out" / "probes.png").exists()
    assert (tmp_path / "out" / "probes.json").exists()


def test_the_command_probes_a_refined_model_and_embeds_nothing_twice(command, source, loaded, tmp_path):
    save_untrained(tmp_path / "model")
    encoder = FakeEncoder(reward=1)
    loaded(encoder)
    arguments = (
        "probe",
        tmp_path / "model",
        "--on",
        source,
        "--out",
        tmp_path / "out",
        "--probes",
        "keywords,truncated",
    )
    code, _, _ = command(*arguments)
    assert code == 0
    rows = json.loads((tmp_path / "out" / "probes.json").read_text())["rows"]
    assert [(row["probe"], row["n"], row["skipped"]) for row in rows] == [("keywords", 9, 1), ("truncated", 9, 1)]
    # An untrained score refines to the base rewards.
    assert all(row["refined"] == row["base"] for row in rows)
    calls = encoder.calls
    assert command(*arguments)[0] == 0
    assert encoder.calls == calls


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        ("bare", ["--probes", "paddin"], "unknown probe 'paddin'; did you mean 'padding'?"),
        ("headless", [], "all-MiniLM-L6-v2 has no score layer and gives no rewards; expected what 'qbrm fit' makes"),
        ("bare", ["--reward-model", "elsewhere"], "is no refined model; expected no --reward-model"),
        ("refined", ["--template", "plain"], "is a refined model, which says template itself; expected no such option"),
        (
            "bare",
            ["--probes", "lists-added", "--prompts", "1"],
            "the probes leave every response of short.jsonl as it is",
        ),
    ],
)
def test_what_cannot_be_probed_is_said_in_one_line(command, source, loaded, tmp_path, model, options, said):
    save_untrained(tmp_path / "model")
    loaded(FakeEncoder(reward=None if model == "headless" else 1))
    if "short.jsonl" in said:
        source = tmp_path / "short.jsonl"
        source.write_text('{"prompt": "Well?", "response": "Yes"}\n')
    target = tmp_path / "model" if model == "refined" else "all-MiniLM-L6-v2"
    code, _, error = command("probe", target, "--on", source, "--out", tmp_path / "out", *options)
    assert code == 2
    assert said in error
    assert not (tmp_path / "out" / "probes.json").exists()
