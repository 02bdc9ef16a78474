"""A model that version 0.1 saved still loads, with every tensor where it was."""

import json

import pytest
import torch
from safetensors.torch import save_file

from fixtures.fake_encoder import DIM, FakeEncoder
from qbrm import EnergyRewardModel
from qbrm.energies import EBRM
from qbrm.reward_models import REWARD_MODELS

UNITS = {"reward_loc": (), "reward_scale": (), "embedding_loc": (DIM,), "embedding_scale": (DIM,)}
SHIFT = {"a": (DIM,), "a0": (), "log_tau": ()}
COMMON = {"dim": DIM, "hidden": 3, "anchored": True, "coupling": 1.5, "gate_rank": None}


def machine(axes):
    return {"W": (axes, 3, DIM), "c": (axes, 3), "u": (axes, 3), **SHIFT, **UNITS}


# The settings that config.json held, and the shapes of the tensors beside it.
SAVED = {
    "rbm": (COMMON, machine(1)),
    "sqrbm": ({**COMMON, "axes": 2, "members": 1}, machine(2)),
    "qbm": ({**COMMON, "sampler": "gibbs", "samples": 64}, {**machine(1), "upper_couplings": (3,)}),
    "ebrm": ({"dim": DIM, "reads": None}, {name: value.shape for name, value in EBRM(DIM).state_dict().items()}),
}


@pytest.mark.parametrize("name", SAVED)
def test_a_model_of_version_0_1_loads(name, tmp_path, monkeypatch):
    monkeypatch.setitem(REWARD_MODELS, "fake", lambda: FakeEncoder(reward=1))
    settings, shapes = SAVED[name]
    identity = {"name": "fake", "revision": "0123456789abcdef", "template": "plain", "max_length": 16}
    config = {
        "schema": 2,
        "qbrm": "0.1.0",
        "reward_model": {**identity, "dtype": "float32", "own_code": False},
        "reward_model_settings": {},
        "trunk": None,
        "score": {"name": name, **settings},
        "refinement": "mean",
        "provenance": None,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    generator = torch.Generator().manual_seed(0)
    tensors = {f"score.{key}": torch.rand(shape, generator=generator) for key, shape in shapes.items()}
    save_file(tensors, tmp_path / "model.safetensors")

    model = EnergyRewardModel.from_pretrained(tmp_path)
    for key, value in model.energy_score.state_dict().items():
        assert torch.equal(value, tensors[f"score.{key}"]), key
    assert torch.isfinite(model.score(["What is tea?"], ["A drink."]).refined).all()
