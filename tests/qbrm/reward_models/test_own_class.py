"""Reward models whose own class stands in for AutoModel, as InternLM's, Eurus and Qwen2.5-Math-RM do."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fixtures.conversations import PROMPTS, RESPONSES, own_logits, refused
from fixtures.own_code import edit_config
from fixtures.tiny_models import EOS, SEP, classifier, save, tokenizer
from qbrm.reward_models import load_reward_model

pytestmark = pytest.mark.usefixtures("one_thread")

# {layer} is what the score layer is called and built by, {end} what the forward pass returns of `scored`, its output
# for every token; `ends` is each text's last attended position.
CODE = """
from torch import nn, arange
from transformers import LlamaModel, LlamaPreTrainedModel
from transformers.modeling_outputs import ModelOutput, SequenceClassifierOutputWithPast


class OwnRewardModel(LlamaPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = LlamaModel(config)
        self.{layer}
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, **others):
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids)[0]
        ends = attention_mask.cumsum(dim=1).argmax(dim=1).view(-1, 1)
        {scored}
        {end}
"""
V_HEAD = "v_head = nn.Linear(config.hidden_size, 1, bias=False)"
GATHERED = "return SequenceClassifierOutputWithPast(logits=scored.squeeze(-1).gather(1, ends))"
KINDS = {
    "InternLM's": (V_HEAD, GATHERED),
    "Eurus": (
        "regression_head = nn.Linear(config.hidden_size, 1, bias=False)",
        "return scored.squeeze(-1).gather(1, ends)",
    ),
    "an own output": (V_HEAD, "return ModelOutput(end_scores=scored[arange(len(scored)), ends[:, 0]])"),
    "a tuple": (V_HEAD, "return (scored.squeeze(-1).gather(1, ends)[:, 0],)"),
    "a name of its own": ("to_reward = nn.Linear(config.hidden_size, 1, bias=False)", GATHERED),
}


@pytest.fixture(autouse=True)
def modules(tmp_path, monkeypatch):
    """Keeps transformers from copying the models' code to the user's cache."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))


def own_class(folder, layer=V_HEAD, end=GATHERED, model=None, tok=None, **config):
    """A folder whose score layer only its own class knows."""
    save(folder, model, tok)
    name = layer.split(" ")[0]
    scored = f"scored = self.{name}(hidden)"
    (folder / "modeling_own.py").write_text(CODE.format(layer=layer, scored=scored, end=end))
    tensors = load_file(folder / "model.safetensors")
    tensors[f"{name}.weight"] = tensors.pop("score.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    own = {"auto_map": {"AutoModel": "modeling_own.OwnRewardModel"}, "architectures": ["OwnRewardModel"]}
    edit_config(folder, **(own | config))
    return folder


def trusted(folder, **options):
    return load_reward_model(str(folder), trust_remote_code=True, **options)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_own_class_gives_the_rewards_of_its_score_layer(kind, side, tmp_path):
    made = trusted(own_class(tmp_path / "model", *KINDS[kind]), padding_side=side)
    found = made.embed(PROMPTS, RESPONSES)
    np.testing.assert_allclose(found.reward, own_logits(classifier()), rtol=0, atol=2e-6)
    weight = classifier().score.weight.detach().numpy()[0]
    np.testing.assert_allclose(found.embedding @ weight, found.reward, rtol=0, atol=5e-6)
    assert made.identity.own_code


def test_a_class_that_pools_the_last_attended_token_may_pad_with_the_one_that_ends_texts(tmp_path):
    """As OpenRLHF and InternLM do: the end token is padding and pooled, and the attention mask tells which."""
    tok = tokenizer(pad=False)
    tok.pad_token = tok.eos_token
    folder = own_class(tmp_path / "model", model=classifier(pad=EOS), tok=tok)
    expected = own_logits(classifier(pad=None), tok)
    np.testing.assert_allclose(trusted(folder).embed(PROMPTS, RESPONSES).reward, expected, rtol=0, atol=2e-6)


def test_a_reward_token_of_the_configuration_ends_every_text(tmp_path):
    """InternLM's reward models read the reward at a token that their template does not write."""
    made = trusted(own_class(tmp_path / "model", reward_token_id=SEP))
    assert f"ends with token {SEP}" in made.identity.template
    ending = tokenizer(tokenizer().chat_template + "{% if not add_generation_prompt %}<sep>{% endif %}")
    np.testing.assert_allclose(
        made.embed(PROMPTS, RESPONSES).reward, own_logits(classifier(), ending), rtol=0, atol=2e-6
    )


def test_without_permission_the_own_class_is_named(tmp_path):
    message = refused(load_reward_model, str(own_class(tmp_path / "model")))
    assert "modeling_own.OwnRewardModel" in message
    assert "--trust-remote-code" in message
    assert not (tmp_path / "modules").exists()


@pytest.mark.parametrize("architectures", [[], ["LlamaForCausalLM"]])
def test_an_own_class_is_taken_whatever_the_architecture_is_called(architectures, tmp_path):
    folder = own_class(tmp_path / "model", architectures=architectures)
    found = trusted(folder).embed(PROMPTS, RESPONSES).reward
    np.testing.assert_allclose(found, own_logits(classifier()), rtol=0, atol=2e-6)


def test_a_classifier_of_transformers_needs_none_of_the_code_left_beside_it(tmp_path):
    folder = save(tmp_path / "model")
    edit_config(folder, auto_map={"AutoModel": "modeling_base.BaseModel"})
    found = load_reward_model(str(folder)).embed(PROMPTS, RESPONSES).reward
    np.testing.assert_allclose(found, own_logits(classifier()), rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("layer", "end", "named"),
    [
        (V_HEAD, "return SequenceClassifierOutputWithPast(logits=scored)", "process reward model"),
        (V_HEAD, "return SequenceClassifierOutputWithPast(logits=scored[:, 0])", "pools another position"),
        (V_HEAD, "return ModelOutput(hidden=scored)", "without scores"),
    ],
    ids=["every token", "first token", "no scores"],
)
def test_an_own_class_that_gives_no_reward_for_a_text_is_refused(layer, end, named, tmp_path):
    made = trusted(own_class(tmp_path / "model", layer, end))
    assert named in refused(made.embed, PROMPTS, RESPONSES)


def test_an_own_class_without_a_score_layer_is_refused(tmp_path):
    folder = own_class(tmp_path / "model", "v_head = nn.Identity()", "return scored")
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("v_head.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert "has no score head" in refused(trusted, folder)


@pytest.mark.parametrize("fault", ["raise OSError('no disk')", "import nowhere_to_be_found"])
def test_code_that_fails_is_one_line(fault, tmp_path):
    folder = own_class(tmp_path / "model")
    (folder / "modeling_own.py").write_text(f"{fault}\n")
    assert str(folder) in refused(trusted, folder)


def test_a_configuration_of_its_own_says_how_to_allow_it(tmp_path):
    folder = own_class(tmp_path / "model", model_type="own")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"]["AutoConfig"] = "modeling_own.OwnConfig"
    (folder / "config.json").write_text(json.dumps(config))
    code = (folder / "modeling_own.py").read_text()
    own = "from transformers import LlamaConfig\n\n\nclass OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
    (folder / "modeling_own.py").write_text(own + code + "\nOwnRewardModel.config_class = OwnConfig\n")
    assert "--trust-remote-code" in refused(load_reward_model, str(folder))
    found = trusted(folder).embed(PROMPTS, RESPONSES).reward
    np.testing.assert_allclose(found, own_logits(classifier()), rtol=0, atol=2e-6)
    assert torch.isfinite(torch.from_numpy(found)).all()
