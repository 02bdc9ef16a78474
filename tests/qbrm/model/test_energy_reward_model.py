"""The class that users hold: what it saves it reads again, what it claims adds up, and nothing strange gets in."""

import itertools
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fixtures.checksums import forget_checksums
from fixtures.fake_encoder import DIM, FakeEncoder, vector
from fixtures.refined_models import EMBEDDING_DIM, SCORES, model, reward_model, score
from fixtures.tiny_models import classifier, save
from qbrm import EnergyRewardModel
from qbrm.durable import SUMS
from qbrm.energies import RBM, SemiQuantumRBM
from qbrm.errors import InputError
from qbrm.preferences import Message
from qbrm.reward_models import REWARD_MODELS, load_reward_model

PROMPTS = ["What is tea?", "What is rain?", "What is tea?", "And stones?"]
RESPONSES = ["A drink.", "Water from clouds.", "A kind of stone.", "Hard, mostly."]


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(REWARD_MODELS, "fake", FakeEncoder)


@pytest.fixture
def saved(tmp_path):
    model().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def refused(folder, naming=None):
    forget_checksums(Path(folder))
    with pytest.raises(InputError) as error:
        EnergyRewardModel.from_pretrained(folder)
    message = str(error.value)
    assert "\n" not in message
    assert str(naming or folder) in message
    return message


def edit(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize("refinement", ["mode", "mean", "ascent"])
@pytest.mark.parametrize("kind", SCORES)
def test_what_was_saved_scores_as_before(kind, refinement, tmp_path):
    before = model(kind, refinement=refinement)
    before.save_pretrained(tmp_path / "new" / "folder")
    after = EnergyRewardModel.from_pretrained(tmp_path / "new" / "folder")
    assert type(after.energy_score) is type(before.energy_score)
    assert after.refinement == refinement
    first, second = before.score(PROMPTS, RESPONSES), after.score(PROMPTS, RESPONSES)
    for name in ("base", "refined", "mean", "mode", "std"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name
    assert all(torch.equal(first.quantiles[level], second.quantiles[level]) for level in first.quantiles)


def test_a_saved_folder_holds_json_safetensors_and_a_card_only(saved):
    assert sorted(path.name for path in saved.iterdir()) == [
        "README.md",
        SUMS,
        "config.json",
        "model.safetensors",
    ]
    assert all(name.split(".")[0] in ("trunk", "score") for name in load_file(saved / "model.safetensors"))


def test_saving_again_replaces_the_model(saved):
    model("rbm").save_pretrained(saved)
    assert isinstance(EnergyRewardModel.from_pretrained(saved).energy_score, RBM)


@pytest.mark.parametrize("kind", SCORES)
def test_preferences_of_both_orders_add_up_to_one(kind):
    held = model(kind)
    for a, b in itertools.pairwise(RESPONSES):
        p = held.prefer("What is tea?", a, b)
        assert 0 < p < 1
        assert p + held.prefer("What is tea?", b, a) == pytest.approx(1, abs=1e-5)
    assert held.prefer("What is tea?", "A drink.", "A drink.") == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("kind", ["rbm", "sqrbm"])
def test_preference_is_how_often_a_draw_of_one_reward_beats_another(kind):
    held = model(kind)
    clamped = held._clamp(["What is tea?"] * 2, RESPONSES[:2])
    grid = torch.linspace(-30, 30, 6001)
    p = torch.softmax(held.energy_score.at(clamped, grid[None]).detach().double(), -1)
    wins = float((p[0] * (p[1].cumsum(0) - p[1] / 2)).sum())
    assert held.prefer("What is tea?", *RESPONSES[:2]) == pytest.approx(wins, abs=1e-4)


@pytest.mark.parametrize("kind", SCORES)
def test_preferences_among_many_are_those_of_every_two(kind):
    held = model(kind)
    wins = held.score(["What is tea?"] * 4, RESPONSES).preferences()
    tolerance = 2e-3 if kind == "ebrm" else 1e-5
    for (i, a), (j, b) in itertools.product(enumerate(RESPONSES), repeat=2):
        assert float(wins[i, j]) == pytest.approx(held.prefer("What is tea?", a, b), abs=tolerance)
    assert held.score([], []).preferences().shape == (0, 0)


@pytest.mark.parametrize("kind", SCORES)
def test_a_curve_is_the_normalised_density_in_the_units_of_the_rewards(kind):
    held = model(kind)
    curves = held.score(PROMPTS, RESPONSES).curves
    standard = (curves.reward - 0.3) / 0.7
    with torch.no_grad():
        values = held.energy_score.at(held._clamp(PROMPTS, RESPONSES), standard).double()
    expected = values.softmax(-1) / (curves.reward[:, 1:2] - curves.reward[:, :1])
    torch.testing.assert_close(curves.density.double(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", SCORES)
def test_some_of_the_rows_are_the_distribution_of_some_of_the_responses(kind):
    held = model(kind)
    some, alone = held.score(PROMPTS, RESPONSES).rows(slice(1, 3)), held.score(PROMPTS[1:3], RESPONSES[1:3])
    close = {"rtol": 0, "atol": 1e-5}
    for name in ("base", "refined", "mean", "mode", "std"):
        torch.testing.assert_close(getattr(some, name), getattr(alone, name), **close)
    for level, quantile in alone.quantiles.items():
        torch.testing.assert_close(some.quantiles[level], quantile, **close)
    torch.testing.assert_close(some.curves, alone.curves, **close)
    torch.testing.assert_close(some.preferences(), alone.preferences(), **close)


@pytest.mark.parametrize("kind", ["rbm", "sqrbm"])
def test_a_score_with_zero_weights_refines_nothing(kind):
    score = SCORES[kind]()
    torch.nn.init.zeros_(score.u)
    found = EnergyRewardModel(reward_model(), score).score(PROMPTS, RESPONSES)
    torch.testing.assert_close(found.refined, found.base, rtol=0, atol=1e-5)
    assert found.base.std() > 0.1


@pytest.mark.parametrize("kind", ["rbm", "sqrbm"])
def test_an_untrained_score_changes_no_decision(kind):
    found = EnergyRewardModel(reward_model(), SCORES[kind]()).score(PROMPTS, RESPONSES)
    assert torch.equal(found.refined.argsort(), found.base.argsort())


def test_base_rewards_are_those_of_trunk_and_head():
    rm = reward_model()
    found = EnergyRewardModel(rm, score()).score(PROMPTS, RESPONSES)
    texts = zip(PROMPTS, RESPONSES, strict=True)
    vectors = torch.tensor(np.stack([vector((Message("user", prompt),), response) for prompt, response in texts]))
    with torch.no_grad():
        torch.testing.assert_close(
            found.base, rm.trunk.head(rm.trunk.layers((vectors - rm.trunk.loc) / rm.trunk.scale))[:, 0]
        )


@pytest.mark.parametrize("kind", SCORES)
def test_moments_and_quantiles_are_those_of_the_normalised_density(kind):
    held = model(kind)
    found = held.score(PROMPTS, RESPONSES)
    clamped = held._clamp(PROMPTS, RESPONSES)
    standard = torch.linspace(-10, 10, 8001)
    reward = 0.3 + 0.7 * standard.double()
    with torch.no_grad():
        p = torch.softmax(held.energy_score.at(clamped, standard[None].expand(4, -1)).double(), -1)
    mean = (p * reward).sum(1)
    torch.testing.assert_close(found.mean.double(), mean, rtol=0, atol=2e-3)
    std = (p * (reward - mean[:, None]) ** 2).sum(1).sqrt()
    torch.testing.assert_close(found.std.double(), std, rtol=0, atol=2e-3)
    torch.testing.assert_close(found.mode.double(), reward[p.argmax(1)], rtol=0, atol=1e-2)
    for level, quantile in found.quantiles.items():
        below = (p * (reward[None] <= quantile[:, None])).sum(1)
        torch.testing.assert_close(below, torch.full((4,), level).double(), rtol=0, atol=0.02)


def test_a_score_does_not_depend_on_what_else_is_scored():
    held = model()
    together = held.score(PROMPTS, RESPONSES).refined
    alone = [held.score([prompt], [response]).refined for prompt, response in zip(PROMPTS, RESPONSES, strict=True)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-5)


def test_nothing_asked_is_nothing_answered():
    found = model().score([], [])
    assert len(found.refined) == len(found.mean) == 0


def test_a_string_prompt_is_one_message_of_the_user():
    held = model()
    text, chat = "What is tea?", [{"role": "user", "content": "What is tea?"}]
    assert torch.equal(held.score([text], ["A drink."]).refined, held.score([chat], ["A drink."]).refined)
    assert held.prefer(text, "A drink.", "Rain.") == held.prefer(chat, "A drink.", "Rain.")


def test_earlier_turns_of_a_conversation_count():
    held = model()
    last = {"role": "user", "content": "And in winter?"}
    conversations = [
        [{"role": "user", "content": f"Is {drink} good?"}, {"role": "assistant", "content": "Yes."}, last]
        for drink in ("tea", "rain")
    ]
    tea, rain = held.score(conversations, ["Hot."] * 2).refined
    assert tea != rain
    assert tea != held.score([[last]], ["Hot."]).refined[0]


@pytest.mark.parametrize(
    ("prompts", "responses"),
    [
        (["a", "b"], ["x"]),
        ([[{"content": "no role"}]], ["x"]),
        ([[{"role": "user"}]], ["x"]),
        ([[{"role": "user", "content": None}]], ["x"]),
        ([["not", "messages"]], ["x"]),
        ([None], ["x"]),
        ("abc", ["x", "y", "z"]),
        (["a"], [None]),
    ],
    ids=["lengths", "no role", "no content", "null content", "strings", "null", "one string", "null response"],
)
def test_what_is_not_prompts_and_responses_is_refused_in_one_line(prompts, responses):
    with pytest.raises(InputError) as error:
        model().score(prompts, responses)
    assert "\n" not in str(error.value)


def test_a_score_of_another_embedding_size_is_refused():
    with pytest.raises(InputError, match=f"size 9, fake.* gives {EMBEDDING_DIM}"):
        EnergyRewardModel(reward_model(), RBM(9))


def test_an_unknown_refinement_is_refused():
    with pytest.raises(InputError, match=r"unknown refinement 'moed'; .*mode"):
        model(refinement="moed")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    assert name in refused(saved)


def test_a_missing_folder_is_named(tmp_path):
    refused(tmp_path / "nowhere")


def test_a_truncated_file_is_refused(saved):
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-20])
    assert "model.safetensors" in refused(saved)


def test_a_pickle_is_refused_unread(saved):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was loaded",))

    (saved / "model.safetensors").write_bytes(pickle.dumps(Trap()))
    assert "safetensors" in refused(saved)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "optimizer.pt", "model.pkl"])
def test_a_folder_with_a_pickle_inside_is_refused(saved, name):
    (saved / name).write_bytes(pickle.dumps([1]))
    assert name in refused(saved)


def test_a_missing_tensor_is_named(saved):
    tensors = load_file(saved / "model.safetensors")
    del tensors["score.W"]
    save_file(tensors, saved / "model.safetensors")
    assert "W" in refused(saved)


@pytest.mark.parametrize("name", ["score.extra", "trunk.extra", "extra", "encoder.weight"])
def test_an_extra_tensor_is_named(saved, name):
    tensors = load_file(saved / "model.safetensors")
    save_file({**tensors, name: torch.zeros(2)}, saved / "model.safetensors")
    assert name.split(".")[-1] in refused(saved)


def test_a_tensor_of_another_shape_is_named(saved):
    tensors = load_file(saved / "model.safetensors")
    save_file({**tensors, "score.c": torch.zeros(2, 9)}, saved / "model.safetensors")
    assert "c" in refused(saved)


def test_a_weight_that_is_not_finite_is_refused(saved):
    tensors = load_file(saved / "model.safetensors")
    tensors["score.W"][0, 0, 0] = torch.nan
    save_file(tensors, saved / "model.safetensors")
    assert "score.W" in refused(saved)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"schema": 2}', b'{"schema": 1}'], ids=repr)
def test_a_configuration_that_is_none_is_refused(saved, content):
    (saved / "config.json").write_bytes(content)
    assert "config.json" in refused(saved)


@pytest.mark.parametrize(
    "changes",
    [
        {"score": {"name": "sqrmb"}},
        {"score": {"name": "sqrbm", "dim": EMBEDDING_DIM, "colour": "red"}},
        {"score": {"name": "sqrbm"}},
        {"score": {"name": "sqrbm", "dim": EMBEDDING_DIM, "axes": 7}},
        {"score": "sqrbm"},
        {"trunk": {}},
        {"trunk": {"vector_dim": "many"}},
        {"reward_model": {}},
        {"reward_model_settings": {"trust_remote_code": True}},
        {"reward_model_settings": None},
        {"provenance": {"rumour": 1}},
        {"trunk": None},
        {"refinement": "moed"},
        {"refinement": None},
    ],
    ids=str,
)
def test_a_configuration_that_builds_nothing_is_refused(saved, changes):
    edit(saved, **changes)
    refused(saved)


def test_another_encoder_than_trained_on_is_refused(saved, monkeypatch):
    other = FakeEncoder()
    other.identity = other.identity.__class__("fake", "fedcba9876543210", "plain", 16)
    monkeypatch.setitem(REWARD_MODELS, "fake", lambda: other)
    message = refused(saved)
    assert "fake@0123456" in message
    assert "fake@fedcba9" in message


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file.*cannot be written"):
        model().save_pretrained(tmp_path / "file" / "model")


# A reward model that is not the embedded default


@pytest.fixture
def hf_folder(tmp_path):
    return save(tmp_path / "rm")


def hf_model(folder, **options):
    base = load_reward_model(str(folder), **options)
    torch.manual_seed(1)
    held = SemiQuantumRBM(base.dim, hidden=4)
    torch.nn.init.normal_(held.W)
    return EnergyRewardModel(base, held)


def test_any_reward_model_is_saved_by_name_and_scores_as_before(hf_folder, tmp_path):
    before = hf_model(hf_folder, max_length=60, template="plain")
    before.save_pretrained(tmp_path / "refined")
    assert all(name.startswith("score.") for name in load_file(tmp_path / "refined" / "model.safetensors"))
    after = EnergyRewardModel.from_pretrained(tmp_path / "refined")
    assert after.reward_model.identity == before.reward_model.identity
    first, second = before.score(PROMPTS, RESPONSES), after.score(PROMPTS, RESPONSES)
    assert torch.equal(first.refined, second.refined)
    assert torch.equal(first.base, second.base)


def test_a_reward_model_that_moved_is_found_where_it_is_said_to_be(hf_folder, tmp_path):
    before = hf_model(hf_folder)
    before.save_pretrained(tmp_path / "refined")
    moved = hf_folder.rename(tmp_path / "elsewhere")
    assert str(hf_folder) in refused(tmp_path / "refined", naming=hf_folder)
    after = EnergyRewardModel.from_pretrained(tmp_path / "refined", reward_model=str(moved))
    assert torch.equal(before.score(PROMPTS, RESPONSES).refined, after.score(PROMPTS, RESPONSES).refined)


def test_other_weights_of_the_same_name_are_refused_with_both_revisions(hf_folder, tmp_path):
    hf_model(hf_folder).save_pretrained(tmp_path / "refined")
    trained = load_reward_model(str(hf_folder)).identity
    save(hf_folder, classifier(seed=1))
    message = refused(tmp_path / "refined")
    assert str(trained) in message
    assert str(load_reward_model(str(hf_folder)).identity) in message
    assert "revision differs" in message


def test_another_template_under_the_same_weights_is_told_apart(hf_folder, tmp_path):
    hf_model(hf_folder).save_pretrained(tmp_path / "refined")
    config = json.loads((tmp_path / "refined" / "config.json").read_text())
    config["reward_model_settings"]["template"] = "plain"
    (tmp_path / "refined" / "config.json").write_text(json.dumps(config))
    assert "template differs" in refused(tmp_path / "refined")


def test_a_model_saved_before_means_were_the_default_still_reads_the_last_token(hf_folder, tmp_path):
    before = hf_model(hf_folder, embedding="last")
    before.save_pretrained(tmp_path / "refined")
    config = json.loads((tmp_path / "refined" / "config.json").read_text())
    del config["reward_model_settings"]["embedding"], config["reward_model"]["embedding"]
    (tmp_path / "refined" / "config.json").write_text(json.dumps(config))
    forget_checksums(tmp_path / "refined")
    after = EnergyRewardModel.from_pretrained(tmp_path / "refined")
    assert after.reward_model.identity.embedding == "last"
    assert load_reward_model(str(hf_folder)).identity.embedding == "mean"
    assert torch.equal(before.score(PROMPTS, RESPONSES).refined, after.score(PROMPTS, RESPONSES).refined)


def test_a_trunk_tensor_without_a_trunk_is_refused(hf_folder, tmp_path):
    hf_model(hf_folder).save_pretrained(tmp_path / "refined")
    weights = tmp_path / "refined" / "model.safetensors"
    save_file({**load_file(weights), "trunk.head.weight": torch.zeros(1)}, weights)
    assert "trunk.head.weight" in refused(tmp_path / "refined")


def test_a_reward_model_of_another_embedding_size_is_refused(hf_folder):
    with pytest.raises(InputError, match=r"size 9, .*rm@[0-9a-f]{7} gives 32"):
        EnergyRewardModel(load_reward_model(str(hf_folder)), RBM(9))


def test_an_encoder_without_a_score_layer_is_no_reward_model():
    with pytest.raises(InputError, match=r"fake@0123456 gives no rewards"):
        EnergyRewardModel(FakeEncoder(), RBM(DIM)).score(PROMPTS, RESPONSES)
