"""Every block of Python in the README and the documentation runs: a page's blocks in order, in one namespace."""

import re
from functools import partial
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import qbrm
from fixtures.preference_files import write_preferences
from fixtures.tiny_models import BOS, DECODER, EOS, PAD, save

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"]
BLOCK = re.compile(r"(?:<!-- not run: (?P<reason>.+?) -->\n)?```python\n(?P<code>.*?)```", re.DOTALL)

# Blocks that need what a test has not: how many on each page.
NOT_RUN = {
    "choose.md": 1,  # candidates of the reader's
    "embed-and-train.md": 1,  # the reader's reward model and preferences
    "fit.md": 1,  # the same
    "kaiwu.md": 1,  # Kaiwu's SDK and a licence
    "kaiwu.zh-CN.md": 1,
    "mathematics.md": 2,  # minutes of sampling and of training
    "merge-models.md": 1,  # two models of the reader's
    "reward-models.md": 2,  # a model of the Hub; the Hub
    "trl.md": 1,  # a running server
}


# Pages whose code begins with a policy, prompts and a refined model of the reader's.
BEGIN_WITH_MODELS = ("choose.md", "export.md", "trl.md")


def blocks(page):
    """Code and, if it is not run, the reason."""
    return [(match["code"], match["reason"]) for match in BLOCK.finditer(page.read_text(encoding="utf-8"))]


def make_models(folder):
    """What a reader has: `my-policy`, `prompts.jsonl`, and a refined reward model in `runs/model`."""
    torch.manual_seed(0)
    policy = LlamaForCausalLM(LlamaConfig(**DECODER, pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS))
    save(folder / "my-policy", policy)
    (folder / "prompts.jsonl").write_text('{"prompt": [{"role": "user", "content": "How do I boil an egg?"}]}\n')
    reward_model = qbrm.load_reward_model(str(save(folder / "my-reward-model")))
    score = qbrm.SemiQuantumRBM(reward_model.dim, hidden=4)
    torch.nn.init.normal_(score.W)
    qbrm.EnergyRewardModel(reward_model, score).save_pretrained(folder / "runs" / "model")


PAGES_WITH_CODE = [page for page in PAGES if any(reason is None for _, reason in blocks(page))]


def test_blocks_that_are_not_run_are_counted_and_say_why():
    assert {page.name: count for page in PAGES if (count := sum(bool(why) for _, why in blocks(page)))} == NOT_RUN


def test_every_block_that_is_not_run_is_at_least_python():
    for page in PAGES:
        for code, reason in blocks(page):
            if reason:
                compile(code, page.name, "exec")


@pytest.mark.parametrize("page", PAGES_WITH_CODE, ids=lambda page: page.name)
def test_code_blocks_run_in_order(page, tmp_path, monkeypatch, one_thread):
    if page.name.startswith("kaiwu"):
        pytest.importorskip("kaiwu.torch_plugin", reason="kaiwu-torch-plugin is not installed; see docs/kaiwu.md")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # Shorter trainings on fewer prompts, as what they learn is not asked.
    monkeypatch.setattr("qbrm.selection.candidates.LEAST_STEPS", 1)
    monkeypatch.setattr(qbrm, "sample_source", lambda: write_preferences(tmp_path / "sample.jsonl", 0, 24))
    if page.name in BEGIN_WITH_MODELS:
        make_models(tmp_path)
        trl = pytest.importorskip("trl")
        monkeypatch.setattr(trl, "GRPOConfig", partial(trl.GRPOConfig, use_cpu=True, bf16=False, report_to="none"))
    names = {"__name__": "page"}
    for number, (code, reason) in enumerate(blocks(page), start=1):
        if not reason:
            exec(compile(code, f"{page.name}, block {number}", "exec"), names)


def test_the_reference_has_every_public_name_once():
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    documented = re.findall(r"^::: qbrm\.(\w+)$", pages, re.MULTILINE)
    assert sorted(documented) == sorted(set(qbrm.__all__) - {"__version__"})
