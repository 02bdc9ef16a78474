"""Every block of Python in the READMEs and the documentation runs, and both READMEs say the same."""

import re
import socket
import sys
from pathlib import Path
from types import ModuleType

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from fixtures.hashing_model import HashingModel
from qbrm.reward_models import REWARD_MODELS
from qbrm.reward_models.sentence_encoder import SentenceEncoder

ROOT = Path(__file__).parents[2]
ENGLISH, CHINESE = "README.md", "README.zh-CN.md"
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in (*ROOT.glob("README*.md"), ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md"))
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
    """The blocks of a page that run, with the page's line numbers, and the reasons of the others."""
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


def generated(text: str) -> dict[str, str]:
    """The text between each pair of markers."""
    names = [name for slash, name in MARKER.findall(text) if not slash]
    return {name: text.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0] for name in names}


def code(text: str) -> list[list[str]]:
    """The lines of every block of code, indented or fenced, without comments."""
    blocks = [token.content for token in tokens(text) if token.type in ("code_block", "fence")]
    return [[re.sub(r"(^|\s+)#\s.*", "", line).rstrip() for line in block.splitlines()] for block in blocks]


def links(text: str) -> list[str]:
    """Where every link and image leads, in order."""
    targets = [token.attrGet("href") or token.attrGet("src") for token in tokens(text)]
    return [str(target) for target in targets if target]


def linked_files() -> list[str]:
    everything = links(text_of(ENGLISH)) + links(text_of(CHINESE))
    return sorted({link.split("#")[0] for link in everything if not re.match(r"[a-z]+:|#", link)})


def test_every_marker_is_opened_and_closed_once():
    for page in PAGES:
        markers = MARKER.findall(text_of(page))
        names = [name for slash, name in markers if not slash]
        assert len(names) == len(set(names))
        assert markers == [(slash, name) for name in names for slash in ("", "/")]


def test_both_readmes_have_the_same_measured_table():
    assert generated(text_of(CHINESE)) == generated(text_of(ENGLISH))
    assert list(generated(text_of(ENGLISH))) == ["study"]


def test_both_readmes_have_the_same_code_but_for_comments():
    assert code(text_of(CHINESE)) == code(text_of(ENGLISH))
    assert ["make install", "make demo"] in code(text_of(ENGLISH))


def test_both_readmes_lead_to_the_same_places():
    (to_chinese, *english), (to_english, *chinese) = links(text_of(ENGLISH)), links(text_of(CHINESE))
    assert (to_chinese, to_english) == (CHINESE, ENGLISH)
    assert sorted(chinese) == sorted(english)


def test_both_readmes_have_the_same_headings_and_fit_a_screen_or_two():
    english, chinese = (text_of(name) for name in (ENGLISH, CHINESE))
    tags = [[token.tag for token in tokens(text) if token.type == "heading_open"] for text in (english, chinese)]
    assert tags[0] == tags[1]
    assert max(len(english.splitlines()), len(chinese.splitlines())) <= 150


@pytest.mark.parametrize("link", linked_files())
def test_what_a_readme_links_to_exists(link):
    assert (ROOT / link).exists()


def test_the_measured_table_has_the_numbers_of_the_results_page():
    results = text_of("docs/results.md")
    renamed = {"sqrbm:gate,members=5": "sqrbm-gate-ensemble", "mlp:gate,members=5": "mlp-gate-ensemble"}
    for row in generated(text_of(ENGLISH))["study"].splitlines()[3:]:
        cells = [cell.strip(" *") for cell in row.split("|")[1:-1]]
        if not cells:
            break
        name, numbers = cells[0], cells[1:]
        for scenario, (accuracy, log_loss) in zip(("fresh", "shift"), (numbers[:2], numbers[2:]), strict=True):
            table = results.split(f"\n**{scenario}: ")[1].split("\n\n")[1]
            (line,) = (one for one in table.splitlines() if one.split("|")[1].strip() in (name, renamed.get(name)))
            measured = [cell.strip(" *") for cell in line.split("|")[1:-1]]
            assert (measured[1], measured[-3]) == (accuracy, log_loss)
