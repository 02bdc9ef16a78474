"""Every block of Python in the READMEs and the documentation runs, and both READMEs say the same."""

import re
import socket
import sys
from pathlib import Path
from types import ModuleType

import pytest
from fixtures.hashing_model import HashingModel
from markdown_it import MarkdownIt
from markdown_it.token import Token

from qbrm.reward_models import REWARD_MODELS
from qbrm.reward_models.sentence_encoder import SentenceEncoder

ROOT = Path(__file__).parents[2]
ENGLISH, CHINESE = "README.md", "README.zh-CN.md"
PAGES = sorted(
    str(path.relative_to(ROOT)) for path in (*ROOT.glob("README*.md"), ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md"))
)
MARKER = re.compile(r"<!-- (/?)([\w-]+) -->")
NOT_RUN = re.compile(r"<!-- not run: (.+) -->")


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def tokens(text: str) -> list[Token]:
    """All tokens, those inside of a paragraph after the paragraph."""
    parsed = MarkdownIt("commonmark").enable("table").parse(text)
    return [inner for token in parsed for inner in (token, *(token.children or []))]


def python_blocks(name: str) -> tuple[list[str], list[str]]:
    """The blocks of a page that run, each behind blank lines that make its line numbers the page's; reasons of others."""
    run, reasons, before = [], [], None
    for token in tokens(text_of(name)):
        if token.type == "fence" and token.info == "python":
            reason = NOT_RUN.search(before.content) if before is not None else None
            if reason:
                reasons.append(reason[1])
            else:
                run.append("\n" * (token.map[0] + 1) + token.content)
        before = token
    return run, reasons


class QuickEncoder(HashingModel):
    """Stands in for the embedded encoder, whose half minute per page would be the encoder's and not the page's."""

    identity = SentenceEncoder().identity

    def embed(self, prompts, responses):
        return super().embed(prompts, responses)._replace(reward=None)


@pytest.fixture
def quick_encoder(monkeypatch):
    monkeypatch.setitem(REWARD_MODELS, "all-MiniLM-L6-v2", QuickEncoder)


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*address):
        raise OSError("a page must not need the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.usefixtures("one_thread", "quick_encoder", "no_network")
@pytest.mark.parametrize("page", [page for page in PAGES if "```python" in text_of(page)])
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks, reasons = python_blocks(page)
    for reason in reasons:
        print(f"{page}: a block is not run: {reason}")
    module = ModuleType(f"page_{Path(page).stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in blocks:
        exec(compile(block, str(ROOT / page), "exec"), vars(module))


def test_a_block_is_left_out_only_with_a_reason(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    page = "<!-- not run: slow -->\n```python\nlong()\n```\n\ntext\n\n```python\nshort()\n```\n"
    (tmp_path / "page.md").write_text(page)
    assert python_blocks("page.md") == (["\n" * 8 + "short()\n"], ["slow"])
