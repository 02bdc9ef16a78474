"""The README says the same in both languages, fits on one page, and its numbers are those of the results page."""

import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
ENGLISH, CHINESE = "README.md", "README.zh-CN.md"
MARKED = re.compile(r"<!-- ([\w-]+) -->\n(.*?)<!-- /\1 -->", re.DOTALL)


def text_of(name):
    return (ROOT / name).read_text(encoding="utf-8")


def tokens(text):
    """All tokens, those inside of paragraphs after the paragraph."""
    parsed = MarkdownIt("commonmark").enable("table").parse(text)
    return [part for token in parsed for part in (token, *(token.children or []))]


def code(text):
    """The lines of every block of code, indented or fenced, without comments."""
    blocks = [token.content for token in tokens(text) if token.type in ("code_block", "fence")]
    return [[re.sub(r"(^|\s+)#\s.*", "", line).rstrip() for line in block.splitlines()] for block in blocks]


def links(text):
    """Where every link and image leads, in order."""
    targets = [token.attrGet("href") or token.attrGet("src") for token in tokens(text)]
    return [str(target) for target in targets if target]


def headings(text):
    return [token.tag for token in tokens(text) if token.type == "heading_open"]


def rows(table):
    """A Markdown table's cells by row, without its heading and without bold."""
    lines = [line for line in table.replace("**", "").splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def linked_files():
    targets = {link.split("#")[0] for name in (ENGLISH, CHINESE) for link in links(text_of(name))}
    return sorted(target for target in targets if target and not re.match(r"[a-z]+:", target))


@pytest.mark.parametrize("name", [ENGLISH, CHINESE])
def test_the_readme_is_one_page(name):
    assert len(text_of(name).splitlines()) <= 150


def test_both_have_the_same_numbers():
    english, chinese = (dict(MARKED.findall(text_of(name))) for name in (ENGLISH, CHINESE))
    assert english.keys() == chinese.keys()
    assert all(rows(english[name]) == rows(chinese[name]) for name in english)


def test_the_table_is_that_of_the_results_page():
    table = dict(MARKED.findall(text_of(ENGLISH)))["study"].strip()
    assert len(rows(table)) >= 5
    assert f"\n\n{table}\n\n" in text_of("docs/results.md")


def test_both_have_the_same_code_but_for_comments():
    assert code(text_of(CHINESE)) == code(text_of(ENGLISH))
    assert ["make install", "make demo"] in code(text_of(ENGLISH))


def test_both_readmes_link_to_one_another_and_to_the_same_places():
    (to_chinese, *english), (to_english, *chinese) = links(text_of(ENGLISH)), links(text_of(CHINESE))
    assert (to_chinese, to_english) == (CHINESE, ENGLISH)
    assert sorted(link.replace(".zh-CN", "") for link in chinese) == sorted(english)


@pytest.mark.parametrize("link", linked_files())
def test_what_is_linked_exists(link):
    assert (ROOT / link).exists()


def test_both_have_the_same_headings():
    assert headings(text_of(CHINESE)) == headings(text_of(ENGLISH))
    assert len(headings(text_of(ENGLISH))) > 1


def test_comments_are_the_only_part_of_code_that_may_differ():
    assert code("    a  # one\n    # two\n    b '#3'\n") == code("    a # eins\n    # zwei\n    b '#3'\n")
    assert code("    a\n") != code("    b\n")
