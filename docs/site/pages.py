"""Pages of the site that are made of files outside docs/: the READMEs, CONTRIBUTING, the changelog and the examples."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.md": "index.md",
    "README.zh-CN.md": "index.zh-CN.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "examples": "examples.md",
}
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and the citation file that they link to."""
    for source, page in PAGES.items():
        text = _examples() if source == "examples" else (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=LINK.sub(_within_docs, text)))
    citation = ROOT / "CITATION.cff"
    files.append(File.generated(config, citation.name, content=citation.read_text(encoding="utf-8")))
    return files


def _within_docs(link: re.Match[str]) -> str:
    """A link from the repository's root as one from docs/."""
    target = PAGES.get(link[1].rstrip("/"), link[1].removeprefix("docs/"))
    if target.startswith("examples/"):  # all examples are on one page
        target = PAGES["examples"]
    return f"]({target}{link[2] or ''})"


def _examples() -> str:
    """Every example: its docstring's first line as the heading, and the program."""
    parts = ["# Examples", "Each is a short program in `examples/`, and a test runs it."]
    for program in sorted((ROOT / "examples").glob("*.py")):
        text = program.read_text(encoding="utf-8")
        heading = text.split('"""')[1].splitlines()[0].rstrip(".")
        parts.append(f"## {heading}\n\n`examples/{program.name}`\n\n```python\n{text.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"
