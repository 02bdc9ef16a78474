"""The page as one HTML file that fetches nothing."""

from __future__ import annotations

import re
from base64 import b64encode
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt

IMAGE = re.compile(r'<img src="([^"]+\.png)"')


def page_html(markdown: str, folder: Path) -> str:
    """The page with the report's looks, its pictures in it, its tables wide enough to scroll.

    Args:
        markdown: the page.
        folder: where its pictures are.
    """
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    body = IMAGE.sub(lambda match: f'<img src="{_data_uri(folder / match[1])}"', body)
    body = body.replace("<table>", '<div class="scroll" role="region" aria-label="table" tabindex="0">\n<table>')
    body = body.replace("</table>", "</table>\n</div>")
    loader = PackageLoader("qbrm_lab.studies", "page"), PackageLoader("qbrm_lab", "report")
    environment = Environment(loader=ChoiceLoader(loader), undefined=StrictUndefined, autoescape=True)
    return environment.get_template("results.html.jinja").render(body=body)


def _data_uri(path: Path) -> str:
    return f"data:image/png;base64,{b64encode(path.read_bytes()).decode()}"
