"""Write the sample set's Pairwise_set from its BoN_set: the best answer against each worse one.

The order of the worse answers is shuffled by a hash, so that their place tells nothing. Run it after editing BoN_set:

    python scripts/make_sample_pairs.py
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

SAMPLE = Path(__file__).parent.parent / "src" / "qbrm" / "sample"
AUTHOR = "written-for-qbrm"


def main() -> None:
    """Rewrite every BoN file in canonical form and its pairwise twin."""
    for path in sorted((SAMPLE / "BoN_set").rglob("*.json")):
        items = [_canonical(item) for item in json.loads(path.read_text())]
        _write(path, items)
        twin = SAMPLE / "Pairwise_set" / path.relative_to(SAMPLE / "BoN_set")
        _write(twin, [pair for item in items for pair in _pairs(item)])


def _canonical(item: dict[str, Any]) -> dict[str, Any]:
    losers = sorted(item["loser_list"], key=lambda loser: hashlib.sha256(loser["answer"].encode()).digest())
    authored = [{**loser, "llm_name": AUTHOR} for loser in losers]
    return {**item, "bon_best": {**item["bon_best"], "llm_name": AUTHOR}, "loser_list": authored}


def _pairs(item: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "pair_uid": f"{item['bon_uid']}-{chr(ord('a') + index)}",
            "category_path": item["category_path"].replace("BoN_set", "Pairwise_set", 1),
            "conversation_input": item["conversation_input"],
            "chosen": item["bon_best"],
            "reject": loser,
        }
        for index, loser in enumerate(item["loser_list"])
    ]


def _write(path: Path, items: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(items, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
