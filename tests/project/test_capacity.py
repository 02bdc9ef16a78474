"""The capacity page is arithmetic on measured rates."""

import importlib.util
import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "capacity.py"
MEASURED = [
    {"dim": 384, "rows": rows, "disk_bytes_per_row": 4 * 384 + 60.0, "pairs": rows // 2, "cpu_seconds": rows / 50_000}
    for rows in (4_000_000, 1_000_000)
]


@pytest.fixture(scope="module")
def capacity():
    spec = importlib.util.spec_from_file_location("capacity", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cells(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:4] != "| :-"]


def test_a_users_rate_gives_their_hours_disk_and_devices(capacity, tmp_path, capsys):
    file = tmp_path / "scale.json"
    file.write_text(json.dumps(MEASURED))
    capacity.main([str(file), "--rate", "100", "--dim", "1000", "--devices", "4"])
    caption, _, table = capsys.readouterr().out.partition("\n\n")
    assert caption == "100.0 responses/s on each of 4 devices, D = 1000:"
    million, *_, billion = cells(table)[1:]
    # 2e6 responses of 4,060 bytes; 2e6 / 400 s = 5,000 s; a device embeds 8.64e6 a day
    assert million == ["10^6", "2 × 10^6", "8.12 GB", "1.4", "1"]
    assert billion == ["10^9", "2 × 10^9", "8.12 TB", "1,389", "232"]


def test_training_hours_are_pairs_over_the_rate_of_the_largest_table(capacity):
    table = capacity.capacity_table(capacity.read_rates(MEASURED))
    # 25,000 pairs per CPU second: 1e9 pairs take 40,000 s
    assert cells(table)[-1] == ["10^9", "2 × 10^9", "3.19 TB", "11"]


def test_the_page_has_a_place_for_every_table_and_no_empty_one():
    page = (SCRIPT.parent.parent / "docs" / "capacity.md").read_text()
    for marker in ("scale", "rates", "capacity", "encoder"):
        _, _, rest = page.partition(f"<!-- {marker} -->")
        assert rest.partition(f"<!-- /{marker} -->")[0].strip(), marker
