"""The README is the same in both languages: what it runs, links to, measures and is divided into."""

import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
ENGLISH, CHINESE = "README.md", "README.zh-CN.md"
MARKER = re.compile(r"<!-- (/?)([\w-]+) -->")


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def tokens(text: str) -> list[Token]:
    """All tokens, those inside of paragraphs after the paragraph."""
    found = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        found += [token, *(token.children or [])]
    return found


def markers(text: str) -> list[tuple[str, str]]:
    return MARKER.findall(text)


def generated(text: str) -> dict[str, str]:
    """The text between each pair of markers."""
    return {name: text.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0] for slash, name in markers(text)}


def code(text: str) -> list[list[str]]:
    """The lines of every block of code, indented or fenced, without comments."""
    blocks = [token.content for token in tokens(text) if token.type in ("code_block", "fence")]
    return [[re.sub(r"(^|\s+)#\s.*", "", line).rstrip() for line in block.splitlines()] for block in blocks]


def links(text: str) -> list[str]:
    """Where every link and image leads, in order."""
    targets = [token.attrGet("href") or token.attrGet("src") for token in tokens(text)]
    return [str(target) for target in targets if target]


def relative(text: str) -> list[str]:
    return [link.split("#")[0] for link in links(text) if not re.match(r"[a-z]+:|#", link)]


def headings(text: str) -> list[str]:
    return [token.tag for token in tokens(text) if token.type == "heading_open"]


def linked_files() -> list[str]:
    return sorted({*relative(text_of(ENGLISH)), *relative(text_of(CHINESE))})


@pytest.mark.parametrize("name", [ENGLISH, CHINESE])
def test_every_marker_is_opened_and_closed_once(name):
    found = markers(text_of(name))
    names = [marker for slash, marker in found if not slash]
    assert len(names) == len(set(names)) > 0
    assert found == [(slash, marker) for marker in names for slash in ("", "/")]


def test_both_have_the_same_markers_around_the_same_text():
    assert markers(text_of(CHINESE)) == markers(text_of(ENGLISH))
    assert generated(text_of(CHINESE)) == generated(text_of(ENGLISH))


def test_both_have_the_same_code_but_for_comments():
    assert code(text_of(CHINESE)) == code(text_of(ENGLISH))
    assert ["make demo", "make test"] in code(text_of(ENGLISH))


def test_both_readmes_link_to_one_another_and_to_the_same_places():
    (to_chinese, *english), (to_english, *chinese) = links(text_of(ENGLISH)), links(text_of(CHINESE))
    assert (to_chinese, to_english) == (CHINESE, ENGLISH)
    assert sorted(chinese) == sorted(english)
    assert "docs/mathematics.md" in english


@pytest.mark.parametrize("link", linked_files())
def test_what_is_linked_exists(link):
    assert (ROOT / link).is_file()


def test_both_have_the_same_headings():
    assert headings(text_of(CHINESE)) == headings(text_of(ENGLISH))
    assert len(headings(text_of(ENGLISH))) > 1


def test_comments_are_the_only_part_of_code_that_may_differ():
    assert code("    a  # one\n    # two\n    b '#3'\n") == code("    a # eins\n    # zwei\n    b '#3'\n")
    assert code("    a\n") != code("    b\n")
    assert code("```\na\n```\n") == [["a"]]
