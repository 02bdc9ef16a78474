"""`EnergyRewardModel.fit`: from a reward model and preferences, wherever they are, to a refined reward model."""

import re

import pytest
import torch
from datasets import Dataset

from fixtures.fake_encoder import FakeEncoder
from fixtures.preference_files import read_lines, write_preferences
from qbrm import EnergyRewardModel
from qbrm.energies import ENERGY_SCORES
from qbrm.errors import InputError
from qbrm.model.score_choice import ScoreChoice
from qbrm.samplers.gibbs import GibbsSampler

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK = {"score": "sqrbm", "hidden": 4, "epochs": 2}


@pytest.fixture
def prefs(tmp_path):
    return write_preferences(tmp_path / "prefs.jsonl", 0, 48)


def encoder():
    return FakeEncoder(reward=1)


def tensors(model):
    return model.energy_score.state_dict()


def assert_same(one, other):
    for name, value in tensors(one).items():
        assert torch.equal(value, tensors(other)[name]), name


def test_a_path_a_data_set_and_records_give_the_same_model(prefs):
    records = read_lines(prefs)
    sources = prefs, str(prefs), Dataset.from_list(records), records
    first, *others = (EnergyRewardModel.fit(encoder(), source, **QUICK) for source in sources)
    for other in others:
        assert_same(first, other)
        assert (first.training_prompts == other.training_prompts).all()


@pytest.mark.parametrize("name", ENERGY_SCORES)
def test_every_score_is_fitted_by_name(prefs, name):
    units = {} if name in ("ebrm", "residual") else {"hidden": 4}
    model = EnergyRewardModel.fit(encoder(), prefs, score=name, epochs=2, **units)
    assert model.verdict["score"] in (name, "base:tempered")
    assert model.refinement == (ENERGY_SCORES[name].refinement if model.verdict["strength"] else "mode")
    assert torch.isfinite(model.score(["question 1"], ["answer 0 to 1"]).refined).all()


def test_a_sampler_may_be_an_object(prefs, tmp_path):
    sampler = GibbsSampler(sweeps=2)
    model = EnergyRewardModel.fit(encoder(), prefs, **QUICK | {"score": "qbm", "sampler": sampler})
    model.save_pretrained(tmp_path / "model")
    assert "GibbsSampler" in (tmp_path / "model" / "README.md").read_text()


def test_progress_counts_responses_and_pairs(prefs):
    heard = []
    EnergyRewardModel.fit(encoder(), prefs, progress=lambda *step: heard.append(step), **QUICK)
    for name in ("features", "training"):
        counts = [(done, total) for step, done, total in heard if step == name]
        assert counts[-1][0] == counts[-1][1] > 0
        assert len({total for _, total in counts}) == 1
    assert {step for step, *_ in heard} == {"features", "probes", "training", "judging"}


def test_features_that_are_there_are_not_computed_again(prefs, tmp_path):
    first, second = encoder(), encoder()
    models = [EnergyRewardModel.fit(e, prefs, out=tmp_path, **QUICK) for e in (first, second)]
    assert first.calls > 0
    assert second.calls == 0
    assert_same(*models)


def test_a_model_without_a_score_layer_gets_one(prefs):
    model = EnergyRewardModel.fit(FakeEncoder(), prefs, **QUICK)
    assert torch.isfinite(model.score(["question 1"], ["answer 0 to 1"]).base).all()
    assert len(model.training_prompts) == 48


@pytest.mark.parametrize(
    ("preferences", "message"),
    [
        (7, "preferences are a int; expected a path"),
        ({"prompt": "x"}, "preferences are a dict; expected a path"),
        ([{"prompt": "x", "chosen": "a"}], "record 1"),
        ([], "."),
    ],
)
def test_what_are_no_preferences_is_one_line(preferences, message):
    with pytest.raises(InputError, match=message) as error:
        EnergyRewardModel.fit(encoder(), preferences, **QUICK)
    assert "\n" not in str(error.value)


def test_an_unknown_score_is_one_line(prefs):
    with pytest.raises(InputError, match="unknown score 'sqrmb'; did you mean 'sqrbm'"):
        EnergyRewardModel.fit(encoder(), prefs, score="sqrmb")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"name": "ebrm", "members": 5}, "score ebrm takes no members; expected one of: residual, rbm, sqrbm."),
        ({"name": "ebrm", "gate": True}, "score ebrm takes no gate; expected one of: residual, rbm, sqrbm, qbm, tqbm."),
        ({"name": "qbm", "members": 2}, "score qbm takes no members; expected one of: residual, rbm, sqrbm."),
        ({"name": "ebrm", "hidden": 8}, "score ebrm takes no hidden; expected one of: rbm, sqrbm, qbm, tqbm."),
        ({"name": "sqrbm", "sampler": "gibbs"}, "score sqrbm takes no sampler; expected one of: qbm, tqbm."),
        ({"name": "qbm", "sampler": "gibs"}, "unknown sampler 'gibs'; did you mean 'gibbs'?"),
    ],
)
def test_an_option_that_a_score_does_not_take_is_refused_at_once(options, line):
    with pytest.raises(InputError, match=f"^{re.escape(line)}"):
        ScoreChoice(**options)
