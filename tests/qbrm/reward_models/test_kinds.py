"""What people have that is no sequence classifier is told apart before its weights are read."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, LlamaForCausalLM, LlamaForTokenClassification

from fixtures.conversations import refused
from fixtures.own_code import edit_config
from fixtures.tiny_models import ENCODER, classifier, save
from qbrm.reward_models import load_reward_model

OTHERS = {
    "language model": (lambda: LlamaForCausalLM(classifier().config), "is a language model (LlamaForCausalLM)"),
    "token classifier": (lambda: LlamaForTokenClassification(classifier().config), "process reward model"),
    "encoder": (lambda: BertModel(BertConfig(**ENCODER)), "(BertModel) has no score head"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_another_kind_of_model_is_named(kind, tmp_path, monkeypatch):
    build, named = OTHERS[kind]
    folder = save(tmp_path / "model", build())
    monkeypatch.setattr("transformers.modeling_utils.PreTrainedModel.from_pretrained", pytest.fail)
    assert named in refused(load_reward_model, str(folder))


def test_a_value_head_of_trl_is_named_with_what_to_make_of_it(tmp_path):
    folder = save(tmp_path / "model", LlamaForCausalLM(classifier().config))
    tensors = load_file(folder / "model.safetensors")
    tensors |= {"v_head.summary.weight": torch.zeros(1, 16), "v_head.summary.bias": torch.zeros(1)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    message = refused(load_reward_model, str(folder))
    assert "value-head model of TRL" in message
    assert "AutoModelForSequenceClassification" in message


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("model-q4.gguf", "llama.cpp"),
        ("pytorch_model.bin", "pickled"),
        ("pytorch_model-00001-of-00002.bin", "pickled"),
        ("tf_model.h5", "TensorFlow"),
        ("flax_model.msgpack", "Flax"),
        ("model.onnx", "ONNX"),
        ("weights.npz", "MLX"),
        ("consolidated.safetensors", "model.safetensors.index.json"),
    ],
)
def test_weights_of_another_format_are_named(file, named, tmp_path):
    folder = save(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / file)
    message = refused(load_reward_model, str(folder))
    assert file in message
    assert named in message
    (folder / "config.json").unlink()
    assert ("has no config.json" in refused(load_reward_model, str(folder))) == file.endswith(".safetensors")


def test_a_file_in_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    assert "is a file (weights of llama.cpp)" in refused(load_reward_model, str(tmp_path / "model.gguf"))


@pytest.mark.parametrize("method", ["gptq", "bitsandbytes"])
def test_quantised_weights_say_what_they_need(method, tmp_path):
    folder = save(tmp_path / "model")
    edit_config(folder, quantization_config={"quant_method": method, "bits": 4, "load_in_4bit": True})
    assert f"what {method} needs" in refused(load_reward_model, str(folder))


def test_a_pointer_of_git_lfs_says_how_to_get_the_file(tmp_path):
    folder = save(tmp_path / "model")
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 5\n")
    assert "git lfs pull" in refused(load_reward_model, str(folder))


def test_a_missing_shard_is_named(tmp_path):
    folder = tmp_path / "model"
    classifier().save_pretrained(folder, max_shard_size="20KB")
    next(folder.glob("model-00002*")).unlink()
    assert "lacks model-00002-of-00003.safetensors" in refused(load_reward_model, str(folder))


@pytest.mark.parametrize("content", ["{}", '{"weight_map": []}', "[]", "{"])
def test_an_index_that_lists_nothing_is_refused(content, tmp_path):
    folder = save(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(content)
    assert "model.safetensors.index.json" in refused(load_reward_model, str(folder))
