"""Put measured tables into the README, from the results that commands left in runs/.

    python scripts/update_tables.py demo=runs/demo rmb-fresh=runs/rmb rmb-same=runs/rmb-same

Each argument is MARKER=RUN; the text between ``<!-- MARKER -->`` and ``<!-- /MARKER -->`` is replaced.
"""

from __future__ import annotations

import sys
from pathlib import Path

from qbrm.report import Results, markdown_table, read_results, update_markdown

README = Path(__file__).parent.parent / "README.md"


def main(arguments: list[str]) -> None:
    """Update every marker named on the command line."""
    for argument in arguments:
        marker, run = argument.split("=", 1)
        results = read_results(Path(run))
        update_markdown(README, marker, f"{markdown_table(results)}\n{_origin(results)}")


def _origin(results: Results) -> str:
    environment = results["environment"]
    notes = "; ".join(note for note in results["notes"] if note.startswith("whole run"))
    return (
        f"\n`{results['command']}` · {notes} · {environment['cores']} cores, {environment['processor']}, "
        f"torch {environment['torch']}, qbrm {environment['qbrm']}\n"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
