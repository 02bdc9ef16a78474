"""Where commands hand over to one another: what one writes, the next has to take, refuse in one line, or mention."""

import json

import pytest
import torch
from test_comparison import write_preferences
from test_pretrained import remote
from test_stream import IDENTITY, write_table
from tiny_models import save

from qbrm import EnergyRewardModel
from qbrm.energies import RBM
from qbrm.errors import InputError
from qbrm.features import FeatureTable, build_features
from qbrm.preferences import read_preferences
from qbrm.reward_models import load_reward_model

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def rm(tmp_path):
    return save(tmp_path / "rm")


@pytest.fixture
def rm_with_code(rm, tmp_path, monkeypatch):
    """A reward model with code of its own, whose tensors the class of transformers takes as well."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    remote(rm)
    return rm


def refine(reward_model):
    torch.manual_seed(0)
    return EnergyRewardModel(reward_model, RBM(reward_model.dim, hidden=4))


def test_a_score_trained_with_the_models_own_code_is_not_loaded_without_it(rm_with_code, tmp_path):
    trained = load_reward_model(str(rm_with_code), trust_remote_code=True)
    refine(trained).save_pretrained(tmp_path / "refined")
    with pytest.raises(InputError, match=r"was trained on .*rm@\w+ with the model's own code; .*--trust-remote-code"):
        EnergyRewardModel.from_pretrained(tmp_path / "refined")
    held = EnergyRewardModel.from_pretrained(tmp_path / "refined", trust_remote_code=True)
    assert held.reward_model.identity == trained.identity


def test_features_of_the_models_own_code_are_not_added_to_without_it(rm_with_code, tmp_path):
    """The class of transformers takes the same tensors, so that nothing else would tell."""
    own, library = (load_reward_model(str(rm_with_code), trust_remote_code=trust) for trust in (True, False))
    assert (own.identity.own_code, library.identity.own_code) == (True, False)
    prefs = read_preferences(write_preferences(tmp_path / "prefs.jsonl", 0, 2))
    build_features(own, prefs, tmp_path / "features")
    assert FeatureTable.open(tmp_path / "features").identity.own_code
    with pytest.raises(InputError, match=r"own_code"):
        build_features(library, prefs, tmp_path / "features")


def test_manifests_from_before_own_code_was_recorded_still_read(tmp_path):
    folder = write_table(tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["identity"]["own_code"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert FeatureTable.open(folder).identity == IDENTITY
