"""A refined reward model chooses among candidates: at once, with a machine across them, saved, in TRL's groups."""

import json

import numpy as np
import pytest
import torch

from fixtures.candidate_sets import write_candidates
from fixtures.checksums import forget_checksums
from fixtures.fake_encoder import FakeEncoder
from fixtures.refined_models import EMBEDDING_DIM, model
from qbrm import EnergyRewardModel, RewardFunction
from qbrm.energies.candidates import CandidateMachine
from qbrm.errors import InputError
from qbrm.model.candidates import candidates_of, described
from qbrm.preferences import Message, prompt_id
from qbrm.preferences.candidate_lists import read_candidates
from qbrm.preferences.digest import prompt_digests
from qbrm.reward_models import REWARD_MODELS

pytestmark = pytest.mark.usefixtures("one_thread")

PROMPT = "What is tea?"
RESPONSES = ["A drink.", "Water from clouds.", "A kind of stone.", "Hard, mostly."]


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(REWARD_MODELS, "fake", FakeEncoder)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_candidates(tmp_path_factory.mktemp("sets") / "candidates.jsonl", prompts=30)


@pytest.fixture(scope="module")
def fitted(source):
    held = model()
    held.report = held.fit_candidates(source)
    return held


def test_without_a_machine_the_greatest_refined_reward_is_chosen():
    held = model()
    refined = held.score([PROMPT] * 4, RESPONSES).refined
    best, rewards, good = held.choose(PROMPT, RESPONSES)
    assert (best, good) == (int(refined.argmax()), None)
    np.testing.assert_allclose(rewards, refined, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(held.score_set(PROMPT, RESPONSES), rewards)


def test_with_a_machine_rewards_are_what_it_makes_of_the_scores_rewards_and_the_embeddings(fitted):
    scored = fitted.score([PROMPT] * 4, RESPONSES)
    embedding = torch.from_numpy(fitted.reward_model.embed([(Message("user", PROMPT),)] * 4, RESPONSES).embedding)
    judged = fitted.candidates.judge(candidates_of(scored.refined, scored.std, RESPONSES, embedding))
    best, rewards, good = fitted.choose(PROMPT, RESPONSES)
    np.testing.assert_allclose(rewards, judged.reward, atol=1e-5)
    np.testing.assert_allclose(good, judged.good, atol=1e-5)
    assert best == int(rewards.argmax())
    assert np.abs(rewards - scored.refined.numpy()).max() > 1e-3


def test_a_single_candidate_has_its_ordinary_reward(fitted):
    alone = fitted.choose(PROMPT, RESPONSES[:1])
    assert alone.rewards == pytest.approx(fitted.score([PROMPT], RESPONSES[:1]).refined.tolist())


def test_what_trains_and_what_measures_share_no_prompt(fitted):
    report = fitted.report
    assert (report.trained, report.tested) == (24, 6)
    assert report.difference.mean == pytest.approx(report.machine - report.refined)
    assert report.difference.low <= report.difference.mean <= report.difference.high


def test_a_saved_machine_chooses_as_before(fitted, tmp_path):
    fitted.save_pretrained(tmp_path / "model")
    again = EnergyRewardModel.from_pretrained(tmp_path / "model")
    for before, after in zip(fitted.choose(PROMPT, RESPONSES), again.choose(PROMPT, RESPONSES), strict=True):
        np.testing.assert_allclose(before, after, rtol=0, atol=1e-12)
    forget_checksums(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["candidates"]["directions"] += 1
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"model.safetensors does not fit its configuration: .*basis"):
        EnergyRewardModel.from_pretrained(tmp_path / "model")


def test_a_model_saved_without_a_machine_has_none(tmp_path):
    model().save_pretrained(tmp_path / "model")
    assert EnergyRewardModel.from_pretrained(tmp_path / "model").candidates is None


def test_consecutive_completions_of_equal_prompts_are_one_set_for_trl(fitted):
    prompts = [PROMPT, PROMPT, "What is rain?", PROMPT]
    rewards = RewardFunction(fitted)(prompts, RESPONSES)
    expected = [*fitted.score_set(PROMPT, RESPONSES[:2]), *fitted.score_set("What is rain?", RESPONSES[2:3])]
    np.testing.assert_allclose(rewards, [*expected, *fitted.score_set(PROMPT, RESPONSES[3:])], atol=1e-6)


def test_best_of_n_preferences_are_sets_whose_best_is_the_chosen_response():
    record = {"prompt": PROMPT, "chosen": "A drink.", "rejected": ["Hard.", "Hard.", "Soft."]}
    pair = {"prompt": PROMPT, "chosen": "A drink.", "rejected": "Hard."}
    [only] = read_candidates([record, pair])
    assert (only.responses, only.gold) == (("A drink.", "Hard.", "Soft."), (1.0, 0.0, 0.0))


def test_a_folder_may_be_called_as_records_in_memory_are(tmp_path):
    lines = [{"prompt": PROMPT, "chosen": "A drink.", "rejected": ["Hard.", "Soft."]}]
    (tmp_path / "candidates").mkdir()
    (tmp_path / "candidates" / "prefs.jsonl").write_text(json.dumps(lines[0]) + "\n")
    assert read_candidates(tmp_path / "candidates") == read_candidates(iter(lines))


def test_prompts_that_the_score_was_fitted_on_are_left_out(source):
    held = model()
    prompts = [prompt_id((Message("user", f"asked {number}"),)) for number in range(12)]
    held.training_prompts = prompt_digests(prompts)
    report = held.fit_candidates(source)
    assert report.trained + report.tested == 18
    held.training_prompts = prompt_digests(one.prompt_id for one in read_candidates(source))
    with pytest.raises(
        InputError, match=r"^0 sets .* \(0 have one candidate, 30 a known prompt\); expected 10 or more.$"
    ):
        held.fit_candidates(source)


GOOD = {"response": "A drink.", "gold": 0.5}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"prompt": PROMPT, "candidates": []}, '"candidates" is empty; expected one or more objects'),
        ({"prompt": PROMPT, "candidates": [GOOD, {"response": "Hard."}]}, '"candidates[1].gold" is missing'),
        ({"prompt": PROMPT, "candidates": [{"response": 3, "gold": 1}]}, '"candidates[0].response" is 3'),
        ({"prompt": PROMPT, "candidates": [{"response": "a", "gold": True}]}, '"candidates[0].gold" is true'),
        ({"prompt": "", "candidates": [GOOD]}, '"prompt" is empty'),
        ({"prompt": PROMPT, "candidates": [7]}, '"candidates[0]" is 7; expected an object'),
    ],
)
def test_a_bad_line_is_named_in_one_line(line, message, tmp_path):
    path = write_candidates(tmp_path / "candidates.jsonl", prompts=1)
    path.write_text(path.read_text() + json.dumps(line) + "\n")
    with pytest.raises(InputError) as error:
        read_candidates(path)
    assert str(error.value).startswith(f"{path}, line 2: {message}")
    assert "\n" not in str(error.value)


def test_other_unusable_input_is_refused_in_one_line(source):
    with pytest.raises(InputError, match="no responses to choose from; expected one or more"):
        model().choose(PROMPT, [])
    with pytest.raises(InputError, match="none with several rejected responses; expected best-of-n preferences"):
        read_candidates([{"prompt": PROMPT, "chosen": "A drink.", "rejected": "Hard."}])
    few = [{"prompt": PROMPT, "candidates": [GOOD]}]
    with pytest.raises(InputError, match=r"^0 sets of two or more candidates .* \(1 have one candidate, 0 a known"):
        model().fit_candidates(few)
    with pytest.raises(
        InputError, match=rf"embeddings of size 3, .* gives {EMBEDDING_DIM}; expected one fitted to this"
    ):
        EnergyRewardModel(model().reward_model, model().energy_score, candidates=CandidateMachine(3))


def test_features_describe_candidates_as_texts_do(fitted):
    embedded = fitted.reward_model.embed([(Message("user", PROMPT),)] * 4, RESPONSES)
    features = torch.from_numpy(embedded.embedding), torch.from_numpy(embedded.reward)
    from_features = described(fitted.energy_score, fitted.refinement, *features, RESPONSES)
    scored = fitted.score([PROMPT] * 4, RESPONSES)
    torch.testing.assert_close(from_features.reward, scored.refined)
    torch.testing.assert_close(from_features.deviation, scored.std, rtol=1e-3, atol=1e-4)
