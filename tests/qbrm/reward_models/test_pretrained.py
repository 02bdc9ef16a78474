"""Reward models from folders and the Hub: the weights that were meant, all of them, and no code that was not."""

import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fixtures.conversations import PROMPTS, RESPONSES, own_logits, refused
from fixtures.fake_hub import running
from fixtures.own_code import edit_config, remote
from fixtures.tiny_models import EOS, PAD, classifier, save, tokenizer
from qbrm.reward_models import load_reward_model


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with running(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture
def folder(tmp_path):
    return save(tmp_path / "model")


def edit_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma2", "gpt-neox", "deberta-v2", "gemma3, composite"])
def test_a_folder_gives_the_rewards_of_the_model_saved_there(kind, tmp_path):
    folder = save(tmp_path / "model", classifier(kind))
    found = load_reward_model(str(folder)).embed(PROMPTS, RESPONSES)
    np.testing.assert_allclose(found.reward, own_logits(classifier(kind)), rtol=0, atol=2e-6)


def test_a_folders_revision_changes_with_weights_and_tokenizer_only(folder):
    first = load_reward_model(str(folder)).identity
    (folder / "README.md").write_text("Hello.")
    assert load_reward_model(str(folder)).identity == first
    tokenizer("{{ messages[-1]['content'] }}").save_pretrained(folder)
    second = load_reward_model(str(folder)).identity
    edit_tensors(folder, lambda tensors: tensors["score.weight"].add_(1e-3))
    third = load_reward_model(str(folder)).identity
    assert len({first.revision, second.revision, third.revision}) == 3
    assert load_reward_model(str(folder), revision=third.revision).identity == third
    assert first.revision in refused(load_reward_model, str(folder), revision=first.revision)


def without_labels(folder):
    """A configuration as OpenRLHF writes it; transformers takes it for one of two labels."""
    config = json.loads((folder / "config.json").read_text())
    kept = {key: value for key, value in config.items() if key not in ("id2label", "label2id", "num_labels")}
    (folder / "config.json").write_text(json.dumps(kept | {"value_head_prefix": "score", "mean": 0.2, "std": 1.7}))
    return folder


def test_labels_that_transformers_made_up_say_nothing_of_the_outputs(folder):
    edit_config(folder, id2label={"0": "LABEL_0", "1": "LABEL_1"})
    found = load_reward_model(str(folder)).embed(PROMPTS, RESPONSES)
    np.testing.assert_allclose(found.reward, own_logits(classifier()), rtol=0, atol=2e-6)
    edit_config(folder, id2label={"0": "bad", "1": "good"})
    assert "has another shape for score.weight" in refused(load_reward_model, str(folder))


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "deberta-v2", "roberta", "gemma3, composite"])
def test_the_score_tensor_says_how_many_outputs_there_are(kind, tmp_path):
    folder = without_labels(save(tmp_path / "model", classifier(kind)))
    found = load_reward_model(str(folder)).embed(PROMPTS, RESPONSES)
    np.testing.assert_allclose(found.reward, own_logits(classifier(kind)), rtol=0, atol=2e-6)


@pytest.mark.parametrize(("pad", "warned"), [(EOS, True), (PAD, False), (None, False)])
def test_a_model_of_openrlhf_that_pads_with_its_end_token_is_warned_of(pad, warned, tmp_path, caplog):
    """OpenRLHF reads the last attended token, transformers the last that is not padding."""
    model = classifier(pad=pad)
    model.config.eos_token_id = EOS
    load_reward_model(str(without_labels(save(tmp_path / "model", model))))
    assert ("pads with its end token" in caplog.text) == warned


def test_two_outputs_are_not_taken_for_one(tmp_path):
    folder = without_labels(save(tmp_path / "model", classifier(num_labels=2)))
    assert "2 outputs" in refused(load_reward_model, str(folder))


def test_the_outputs_are_counted_in_the_shard_that_has_the_score_tensor(tmp_path):
    classifier().save_pretrained(tmp_path / "model", max_shard_size="20KB")
    tokenizer().save_pretrained(tmp_path / "model")
    assert len(list(tmp_path.glob("model/*.safetensors"))) == 3
    found = load_reward_model(str(without_labels(tmp_path / "model"))).embed(PROMPTS, RESPONSES)
    np.testing.assert_allclose(found.reward, own_logits(classifier()), rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", ["value_head", "reward_head", "v_head"])
def test_a_score_layer_under_another_trainers_name_is_the_decoders(name, folder):
    edit_tensors(folder, lambda tensors: tensors.update({f"{name}.weight": tensors.pop("score.weight")}))
    found = load_reward_model(str(without_labels(folder))).embed(PROMPTS, RESPONSES)
    np.testing.assert_allclose(found.reward, own_logits(classifier()), rtol=0, atol=2e-6)


@pytest.mark.parametrize("stated", [False, True])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma3, composite"])
def test_a_padding_token_beyond_the_embedding_table_moves_no_reward(kind, side, stated, tmp_path):
    """People add a padding token to the tokenizer and do not resize the model."""
    tok = tokenizer(pad=False)
    tok.add_tokens([f"<new {number}>" for number in range(40)])
    tok.add_special_tokens({"pad_token": "[PAD]"})
    assert tok.pad_token_id >= 300
    folder = save(tmp_path / "model", classifier(kind, pad=None), tok)
    if stated:
        config = json.loads((folder / "config.json").read_text())
        config.get("text_config", config)["pad_token_id"] = tok.pad_token_id
        (folder / "config.json").write_text(json.dumps(config))
    found = load_reward_model(str(folder), padding_side=side).embed(PROMPTS, RESPONSES)
    np.testing.assert_allclose(found.reward, own_logits(classifier(kind, pad=None)), rtol=0, atol=2e-6)


def test_loading_prints_nothing(folder, capfd):
    load_reward_model(str(folder))
    assert capfd.readouterr() == ("", "")


def test_a_pinned_revision_is_loaded_though_the_hub_has_moved_on(hub, tmp_path):
    old = hub.commit_folder("org/rm", save(tmp_path / "old", classifier(seed=0)))
    new = hub.commit_folder("org/rm", save(tmp_path / "new", classifier(seed=1)))
    for revision, commit, seed in [(old, old, 0), (None, new, 1), ("main", new, 1)]:
        made = load_reward_model("org/rm", revision=revision)
        assert made.identity.revision == commit
        assert str(made.identity) == f"org/rm@{commit[:7]}"
        expected = own_logits(classifier(seed=seed))
        np.testing.assert_allclose(made.embed(PROMPTS, RESPONSES).reward, expected, rtol=0, atol=2e-6)


def test_a_pinned_revision_once_fetched_needs_no_network(hub, tmp_path, monkeypatch):
    commit = hub.commit_folder("org/kept", save(tmp_path / "model"))
    load_reward_model("org/kept", revision=commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    asked = len(hub.asked)
    assert load_reward_model("org/kept", revision=commit).identity.revision == commit
    assert len(hub.asked) == asked


@pytest.mark.parametrize(("name", "revision"), [("org/none", None), ("org/there", "0" * 40)])
def test_what_the_hub_does_not_have_is_named(hub, tmp_path, name, revision):
    hub.commit_folder("org/there", save(tmp_path / "model"))
    message = refused(load_reward_model, name, revision=revision)
    assert name in message
    assert (revision or "") in message


@pytest.mark.parametrize("name", ["all-MiniLM-L6-v3", "nowhere"])
def test_an_unknown_name_is_refused_with_what_is_known(name):
    message = refused(load_reward_model, name)
    assert "all-MiniLM-L6-v2" in message
    assert ("did you mean" in message) == name.startswith("all")


def test_a_path_that_does_not_exist_is_named(tmp_path):
    assert str(tmp_path / "gone") in refused(load_reward_model, str(tmp_path / "gone"))


def test_the_embedded_default_takes_no_options():
    assert "takes no dtype or head" in refused(load_reward_model, "all-MiniLM-L6-v2", dtype="float32", head="linear")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_are_in_the_number_format_asked_for_or_as_stored(folder, dtype):
    assert load_reward_model(str(folder)).identity.dtype == "float32"
    assert load_reward_model(str(folder), dtype=dtype).identity.dtype == dtype
    stored = save(folder.parent / "half", classifier().to(torch.bfloat16))
    assert load_reward_model(str(stored)).identity.dtype == "bfloat16"


def test_an_unknown_dtype_is_refused(folder):
    assert "auto, float32" in refused(load_reward_model, str(folder), dtype="int3")


def test_a_device_map_needs_accelerate_and_says_so(folder, monkeypatch):
    monkeypatch.setattr("qbrm.reward_models.pretrained.is_accelerate_available", lambda: False)
    assert "pip install 'qbrm[hf]'" in refused(load_reward_model, str(folder), device_map="auto")


def test_a_device_map_places_the_model(folder):
    pytest.importorskip("accelerate", reason="device maps are an extra")
    found = load_reward_model(str(folder), device_map="auto").embed(PROMPTS, RESPONSES)
    np.testing.assert_allclose(found.reward, own_logits(classifier()), rtol=0, atol=2e-6)


# Faults


def test_a_folder_without_a_configuration_is_refused(folder):
    (folder / "config.json").unlink()
    assert "no config.json" in refused(load_reward_model, str(folder))


def test_pickled_weights_are_not_read(folder):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was loaded",))

    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    assert "no *.safetensors file" in refused(load_reward_model, str(folder))


def test_a_head_that_was_never_trained_is_not_made_up(folder):
    """Transformers fills a missing head with random numbers and a warning."""
    edit_tensors(folder, lambda tensors: tensors.pop("score.weight"))
    assert "lacks score.weight" in refused(load_reward_model, str(folder))


def test_missing_tensors_are_named_but_not_all_of_them(folder):
    edit_tensors(folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if "mlp" in name])
    message = refused(load_reward_model, str(folder))
    assert "lacks model.layers.0.mlp" in message
    assert "and 3 more" in message


def test_an_extra_tensor_is_named(folder):
    edit_tensors(folder, lambda tensors: tensors.update({"v_head.weight": torch.zeros(1, 16)}))
    assert "has no place for v_head.weight" in refused(load_reward_model, str(folder))


def test_the_head_of_the_language_model_may_be_left_over(folder):
    edit_tensors(folder, lambda tensors: tensors.update({"lm_head.weight": torch.zeros(300, 16)}))
    found = load_reward_model(str(folder)).embed(PROMPTS, RESPONSES)
    np.testing.assert_allclose(found.reward, own_logits(classifier()), rtol=0, atol=2e-6)


def test_a_tensor_of_another_shape_is_named_with_what_to_write(folder):
    edit_config(folder, num_labels=2)
    message = refused(load_reward_model, str(folder))
    assert "has another shape for score.weight" in message
    assert '"num_labels": 1 in config.json' in message


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_damaged_file_is_one_line(folder, file):
    (folder / file).write_bytes((folder / file).read_bytes()[:100])
    assert str(folder) in refused(load_reward_model, str(folder))


def test_an_architecture_unknown_to_transformers_is_one_line(folder):
    edit_config(folder, model_type="abacus", architectures=["AbacusForSequenceClassification"])
    assert "abacus" in refused(load_reward_model, str(folder))


def ran(folder):
    """Whether the model's code ran; transformers copies it elsewhere before it runs it."""
    return any(folder.parent.rglob("ran"))


def test_code_of_the_model_runs_only_if_asked(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    remote(folder)
    load_reward_model(str(folder))  # the class of transformers itself serves
    assert not ran(folder)
    found = load_reward_model(str(folder), trust_remote_code=True)
    assert ran(folder)
    np.testing.assert_allclose(found.embed(PROMPTS, RESPONSES).reward, own_logits(classifier()), rtol=0, atol=2e-6)


def test_a_head_that_only_the_models_own_code_knows_is_refused(folder):
    remote(folder)
    edit_tensors(folder, lambda tensors: tensors.update({"regression_layer.weight": tensors.pop("score.weight")}))
    message = refused(load_reward_model, str(folder))
    assert "lacks score.weight and has no place for regression_layer.weight" in message
    assert "--trust-remote-code" in message


def test_a_model_that_is_nothing_without_its_code_says_how_to_allow_it(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    remote(folder)
    edit_config(folder, model_type="odd", auto_map={"AutoConfig": "modeling_odd.OddConfig"})
    assert "--trust-remote-code" in refused(load_reward_model, str(folder))
    assert not ran(folder)
