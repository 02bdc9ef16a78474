"""What 10^6 to 10^9 pairs take, computed from measured rates.

    qbrm bench scale --out runs/bench/scale.json
    python scripts/capacity.py runs/bench/scale.json
    python scripts/capacity.py runs/bench/scale.json --rate RESPONSES_PER_S --dim 4096 --devices 8

The second line measures this machine's rate of embedding with the embedded encoder and rewrites the tables of
docs/capacity.md. The third prints the table for a rate that you measured: what `qbrm embed` prints behind the number of
responses "embedded now", on one device, with your reward model and some thousand of your own texts.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from qbrm.features import build_features
from qbrm.preferences import PreferenceSet, read_preferences, sample_source, training_pairs
from qbrm.reward_models import DEFAULT_REWARD_MODEL, load_reward_model
from qbrm_lab.comparison.records import environment
from qbrm_lab.report import update_markdown

PAGE = Path(__file__).parent.parent / "docs" / "capacity.md"
PAIRS = (10**6, 10**7, 10**8, 10**9)
HOUR = 3600
FLOAT = 4
DEFAULT_DIM = 770
LISTED_PAIRS = 20_000

Rows = list[dict[str, Any]]


class Rates(NamedTuple):
    """What was measured.

    Attributes:
        overhead: bytes on disk per row beside the embedding: ids, reward, its share of the pairs.
        training: pairs trained on per second of CPU, by embedding size.
    """

    overhead: float
    training: dict[int, float]


def main(arguments: list[str]) -> None:
    """Print the table for the given rate or, without one, measure and rewrite the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scale", type=Path, help="what qbrm bench scale --out wrote")
    parser.add_argument("--rate", type=float, help="responses per second that one device embeds")
    parser.add_argument("--dim", type=int, default=4096, help="embedding size")
    parser.add_argument("--devices", type=int, default=1, help="GPUs or machines that embed")
    given = parser.parse_args(arguments)
    measured: Rows = json.loads(given.scale.read_text())
    rates = read_rates(measured)
    if given.rate is not None:
        print(embedding_table(rates, given.dim, given.rate, given.devices))
        return
    update_markdown(PAGE, "scale", scale_table(measured))
    update_markdown(PAGE, "rates", rates_text(measured))
    update_markdown(PAGE, "capacity", capacity_table(rates))
    update_markdown(PAGE, "encoder", embedding_table(rates, DEFAULT_DIM, encoder_rate(), 1))


def read_rates(measured: Rows) -> Rates:
    """The rates in what `qbrm bench scale` measured; of several sizes of a table the largest."""
    overhead = max(row["disk_bytes_per_row"] - FLOAT * row["dim"] for row in measured)
    return Rates(
        overhead,
        {row["dim"]: row["pairs"] / row["cpu_seconds"] for row in sorted(measured, key=lambda row: row["rows"])},
    )


def bytes_per_row(rates: Rates, dim: int) -> float:
    """Bytes on disk per response."""
    return FLOAT * dim + rates.overhead


def scale_table(measured: Rows) -> str:
    """What was measured, a line per table."""
    header = ["rows", "D", "pairs trained on", "train, s", "CPU, s", "pairs/s", "anonymous memory, MiB", "disk, GB"]
    lines = [
        [
            f"{row['rows']:,}",
            str(row["dim"]),
            f"{row['pairs']:,}",
            f"{row['train_seconds']:.0f}",
            f"{row['cpu_seconds']:.0f}",
            f"{row['pairs_per_s']:,.0f}",
            f"{row['anonymous_mib']:,.0f}",
            f"{row['rows'] * row['disk_bytes_per_row'] / 1e9:.1f}",
        ]
        for row in measured
    ]
    return table(header, lines)


def rates_text(measured: Rows) -> str:
    """Where the rates come from."""
    machine = environment()
    return (
        f"Measured with {torch.get_num_threads()} thread(s) on {machine['cores']} CPU cores shared with other work "
        f"({machine['processor']}, torch {machine['torch']}), score `{measured[0]['score']}`: "
        f"{read_rates(measured).overhead:.0f} bytes on disk per row beside the embedding; a source in memory takes "
        f"{source_bytes():,.0f} bytes per pair beside its text."
    )


def capacity_table(rates: Rates) -> str:
    """Disk, and hours of CPU to train one epoch, for each embedding size that was measured."""
    dims = sorted(rates.training)
    disk, hours = (f"disk, D = {dim}" for dim in dims), (f"train, CPU h/epoch, D = {dim}" for dim in dims)
    header = ["pairs", "rows", *disk, *hours]
    lines = [
        [
            power(pairs),
            power(2 * pairs),
            *(size(2 * pairs * bytes_per_row(rates, dim)) for dim in dims),
            *(number(pairs / rates.training[dim] / HOUR) for dim in dims),
        ]
        for pairs in PAIRS
    ]
    return table(header, lines)


def embedding_table(rates: Rates, dim: int, rate: float, devices: int) -> str:
    """Hours to embed at a measured rate."""
    caption = f"{rate:,.1f} responses/s on each of {devices} device{'s' * (devices > 1)}, D = {dim}"
    header = ["pairs", "rows", "disk", "embed, h", "devices to embed in a day"]
    lines = [
        [
            power(pairs),
            power(2 * pairs),
            size(2 * pairs * bytes_per_row(rates, dim)),
            number(2 * pairs / rate / devices / HOUR),
            f"{-(-2 * pairs // (rate * 24 * HOUR)):,.0f}",
        ]
        for pairs in PAIRS
    ]
    return f"{caption}:\n\n{table(header, lines)}"


def encoder_rate() -> float:
    """Responses per second that this machine embeds with the embedded encoder, on the sample set."""
    sample, model = read_preferences(sample_source()), load_reward_model(DEFAULT_REWARD_MODEL)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        rows = len(build_features(model, sample, folder))
        return rows / (time.perf_counter() - start)


def source_bytes() -> float:
    """Bytes per pair that `qbrm embed` holds of a source beside the text itself."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "pairs.jsonl"
        lines = ({"prompt": f"p{n}", "chosen": f"c{n}", "rejected": f"r{n}"} for n in range(LISTED_PAIRS))
        file.write_text("\n".join(map(json.dumps, lines)))
        text = 3 * len(f"p{LISTED_PAIRS}")
        tracemalloc.start()
        held: list[Any] = [read_preferences(file)]
        held += _planned(held[0])
        size_now, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return size_now / LISTED_PAIRS - text


def _planned(preferences: PreferenceSet) -> list[Any]:
    return [preferences.responses(), training_pairs(preferences)]


def power(value: int) -> str:
    """A number as a multiple of a power of ten."""
    digits = len(str(value)) - 1
    return (f"{value // 10**digits} × " if value != 10**digits else "") + f"10^{digits}"


def size(number_of_bytes: float) -> str:
    """Bytes for people, in powers of 1,000."""
    power_of_1000 = min(max(int(math.log10(number_of_bytes) // 3), 3), 5)
    return f"{number_of_bytes / 1000**power_of_1000:,.3g} {dict(enumerate(('GB', 'TB', 'PB'), 3))[power_of_1000]}"


def number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rule = [":--", *["--:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, rule, *lines])


if __name__ == "__main__":
    main(sys.argv[1:])
