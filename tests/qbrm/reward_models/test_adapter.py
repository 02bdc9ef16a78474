"""Adapters: the rewards of the base with the adapter on it, as peft itself computes them."""

import json
import logging

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from fixtures.conversations import PROMPTS, RESPONSES, refused
from fixtures.fake_hub import running
from fixtures.own_code import edit_config
from fixtures.tiny_models import classifier, own_logit, save, tokenizer
from qbrm.reward_models import load_reward_model

peft = pytest.importorskip("peft", reason="adapters are an extra")

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore::FutureWarning")]


def trained_adapter(folder, base, model=None, tok=None, **settings):
    """Write an adapter of random numbers; gives the model with the adapter beside its weights, as in training."""
    model = model or classifier()
    settings = {"task_type": "SEQ_CLS", "r": 2, "target_modules": ["q_proj", "v_proj"]} | settings
    adapted = peft.get_peft_model(model, peft.LoraConfig(**settings))
    torch.manual_seed(5)
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad and "magnitude" not in name:
            torch.nn.init.normal_(parameter, std=0.3)
    adapted.save_pretrained(folder)
    (tok or tokenizer()).save_pretrained(folder)
    edit_adapter(folder, base_model_name_or_path=str(base))
    return adapted.eval()


def edit_adapter(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(folder, change):
    tensors = load_file(folder / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")


def logits(adapted, output=0):
    pairs = zip(PROMPTS, RESPONSES, strict=True)
    return np.array([float(own_logit(adapted, tokenizer(), *pair)[0][output]) for pair in pairs])


def rewards(folder, **options):
    return load_reward_model(str(folder), **options).embed(PROMPTS, RESPONSES).reward


@pytest.fixture
def base(tmp_path):
    return save(tmp_path / "base")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"task_type": None, "modules_to_save": ["score"]},
        {"use_rslora": True, "lora_alpha": 16, "target_modules": "all-linear"},
        {"use_dora": True},
        {"layers_to_transform": [1]},
    ],
    ids=["as usual", "no task", "all layers", "DoRA", "one layer"],
)
def test_an_adapter_gives_the_rewards_of_its_base_with_it(settings, base, tmp_path):
    expected = logits(trained_adapter(tmp_path / "adapter", base, **settings))
    np.testing.assert_allclose(rewards(tmp_path / "adapter"), expected, rtol=0, atol=5e-6)
    assert np.abs(expected - rewards(base)).max() > 0.01


def test_an_encoders_adapter_is_merged_too(tmp_path):
    base = save(tmp_path / "base", classifier("deberta-v2"))
    settings = {"target_modules": ["query_proj"], "modules_to_save": ["classifier", "pooler"]}
    expected = logits(trained_adapter(tmp_path / "adapter", base, classifier("deberta-v2"), **settings))
    np.testing.assert_allclose(rewards(tmp_path / "adapter"), expected, rtol=0, atol=5e-6)


def test_the_head_of_an_adapter_stands_in_for_the_one_that_its_base_lacks(tmp_path):
    """Reward models are often trained as adapters of language models."""
    torch.manual_seed(0)
    language_model = LlamaForCausalLM(classifier().config)
    model = classifier()
    model.model.load_state_dict(language_model.model.state_dict())
    expected = logits(trained_adapter(tmp_path / "adapter", save(tmp_path / "lm", language_model), model))
    np.testing.assert_allclose(rewards(tmp_path / "adapter"), expected, rtol=0, atol=5e-6)


def test_one_of_several_outputs_of_an_adapter_is_chosen(base, tmp_path):
    model = classifier(num_labels=3)
    model.model.load_state_dict(classifier().model.state_dict())
    expected = logits(trained_adapter(tmp_path / "adapter", base, model), output=2)
    np.testing.assert_allclose(rewards(tmp_path / "adapter", output=2), expected, rtol=0, atol=5e-6)
    assert "3 outputs" in refused(load_reward_model, str(tmp_path / "adapter"))


def test_a_base_is_also_looked_for_beside_its_adapter(base, tmp_path):
    expected = logits(trained_adapter(tmp_path / "adapter", "../base"))
    np.testing.assert_allclose(rewards(tmp_path / "adapter"), expected, rtol=0, atol=5e-6)


def test_weights_are_merged_in_the_bases_number_format(tmp_path):
    base = save(tmp_path / "base", classifier().to(torch.bfloat16))
    expected = logits(trained_adapter(tmp_path / "adapter", base))
    made = load_reward_model(str(tmp_path / "adapter"))
    assert made.identity.dtype == "bfloat16"
    np.testing.assert_allclose(made.embed(PROMPTS, RESPONSES).reward, expected, rtol=0, atol=0.1)


def test_a_vocabulary_that_grew_before_training_grows_with_the_adapter(base, tmp_path):
    model = classifier()
    model.resize_token_embeddings(310, mean_resizing=False)
    torch.nn.init.normal_(model.model.embed_tokens.weight, std=0.3)
    tok = tokenizer()
    tok.add_tokens([f"<new {number}>" for number in range(47)])
    settings = {"modules_to_save": ["embed_tokens", "score"]}
    expected = logits(trained_adapter(tmp_path / "adapter", base, model, tok, **settings))
    np.testing.assert_allclose(rewards(tmp_path / "adapter"), expected, rtol=0, atol=5e-6)


def test_the_tokenizer_of_the_base_serves_an_adapter_without_one(base, tmp_path):
    expected = logits(trained_adapter(tmp_path / "adapter", base))
    for file in tmp_path.glob("adapter/*token*"):
        file.unlink()
    np.testing.assert_allclose(rewards(tmp_path / "adapter"), expected, rtol=0, atol=5e-6)


def test_layers_without_factors_stay_as_in_the_base_which_is_said(base, tmp_path, caplog):
    adapted = trained_adapter(tmp_path / "adapter", base)
    edit_tensors(tmp_path / "adapter", lambda tensors: [tensors.pop(k) for k in list(tensors) if "layers.1." in k])
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "layers.1." in name and "lora_B" in name:
                parameter.zero_()
    with caplog.at_level(logging.WARNING, "qbrm"):
        np.testing.assert_allclose(rewards(tmp_path / "adapter"), logits(adapted), rtol=0, atol=5e-6)
    assert "factors for 2 of the 4 layers" in caplog.text


def test_identity_changes_with_the_adapter_and_with_its_base(base, tmp_path):
    trained_adapter(tmp_path / "adapter", base)
    identities = [load_reward_model(str(tmp_path / "adapter")).identity]
    edit_tensors(tmp_path / "adapter", lambda tensors: tensors["base_model.model.score.weight"].add_(1))
    identities.append(load_reward_model(str(tmp_path / "adapter")).identity)
    edit_config(base, rms_norm_eps=1e-3)
    identities.append(load_reward_model(str(tmp_path / "adapter")).identity)
    assert len(set(identities)) == 3
    assert identities[1].revision == identities[2].revision
    assert identities[1].base != identities[2].base


def test_adapter_and_base_come_from_the_hub_at_their_commits(tmp_path):
    expected = logits(trained_adapter(tmp_path / "adapter", "org/base"))
    with running(tmp_path) as hub:
        first = hub.commit_folder("org/base", save(tmp_path / "base"))
        hub.commit_folder("org/base", save(tmp_path / "other", classifier(seed=1)))
        edit_adapter(tmp_path / "adapter", revision=first)
        commit = hub.commit_folder("org/adapter", tmp_path / "adapter")
        made = load_reward_model("org/adapter")
    assert (made.identity.revision, made.identity.base) == (commit, first)
    np.testing.assert_allclose(made.embed(PROMPTS, RESPONSES).reward, expected, rtol=0, atol=5e-6)


@pytest.mark.parametrize("saved", ["modules_to_save", "modules_to_save.default"])
def test_whole_layers_may_be_named_as_earlier_versions_of_peft_did(saved, base, tmp_path):
    expected = logits(trained_adapter(tmp_path / "adapter", base))
    head = "base_model.model.score."
    edit_tensors(tmp_path / "adapter", lambda t: t.update({f"{head}{saved}.weight": t.pop(f"{head}weight")}))
    np.testing.assert_allclose(rewards(tmp_path / "adapter"), expected, rtol=0, atol=5e-6)


# Faults


def test_without_peft_an_adapter_says_what_it_is_and_what_to_install(base, tmp_path, monkeypatch):
    trained_adapter(tmp_path / "adapter", base)
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    message = refused(load_reward_model, str(tmp_path / "adapter"))
    assert f"is an adapter (LORA) of {base}" in message
    assert "pip install 'qbrm[hf]'" in message


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: [t.pop(k) for k in list(t) if "lora_B" in k], "lacks base_model.model.model.layers.0"),
        (lambda t: t.pop("base_model.model.score.weight"), "lacks score, "),
        (lambda t: t.update({"base_model.model.model.layers.7.lora_A.weight": torch.zeros(2, 16)}), "has no place for"),
        (lambda t: t.update({"base_model.model.score.weight": torch.zeros(1, 8)}), "cannot be merged"),
    ],
    ids=["half a layer", "no head", "another layer", "misshapen"],
)
def test_an_adapter_that_does_not_fit_is_refused(change, named, base, tmp_path):
    trained_adapter(tmp_path / "adapter", base)
    edit_tensors(tmp_path / "adapter", change)
    assert named in refused(load_reward_model, str(tmp_path / "adapter"))


def test_an_adapter_of_a_language_model_is_no_reward_model(tmp_path):
    language_model = LlamaForCausalLM(classifier().config)
    base = save(tmp_path / "lm", language_model)
    trained_adapter(tmp_path / "adapter", base, language_model, task_type="CAUSAL_LM")
    assert "is a language model (LlamaForCausalLM)" in refused(load_reward_model, str(tmp_path / "adapter"))


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda adapter: edit_adapter(adapter, base_model_name_or_path="/data/gone"), "/data/gone, which is no folder"),
        (lambda adapter: edit_adapter(adapter, base_model_name_or_path=None), "base_model_name_or_path"),
        (lambda adapter: (adapter / "adapter_config.json").write_text("{"), "damaged adapter_config.json"),
        (
            lambda adapter: (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin"),
            "without adapter_model.safetensors",
        ),
        (lambda adapter: (adapter / "adapter_model.safetensors").write_bytes(b"short"), "damaged adapter_model"),
        (lambda adapter: save(adapter), "beside the weights of a whole model"),
    ],
    ids=["no base", "unnamed base", "damaged settings", "pickled", "damaged weights", "whole model too"],
)
def test_an_adapter_that_cannot_be_read_is_one_line(spoil, named, base, tmp_path):
    trained_adapter(tmp_path / "adapter", base)
    spoil(tmp_path / "adapter")
    assert named in refused(load_reward_model, str(tmp_path / "adapter"))


def test_an_adapter_of_an_adapter_is_refused(base, tmp_path):
    trained_adapter(tmp_path / "first", base)
    trained_adapter(tmp_path / "adapter", tmp_path / "first")
    assert "which is an adapter too" in refused(load_reward_model, str(tmp_path / "adapter"))


def test_a_learned_prompt_cannot_be_merged(base, tmp_path):
    adapted = peft.get_peft_model(classifier(), peft.PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=2))
    adapted.save_pretrained(tmp_path / "adapter")
    tokenizer().save_pretrained(tmp_path / "adapter")
    edit_adapter(tmp_path / "adapter", base_model_name_or_path=str(base))
    assert "learned a prompt" in refused(load_reward_model, str(tmp_path / "adapter"))
