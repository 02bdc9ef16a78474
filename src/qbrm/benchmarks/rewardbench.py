"""RewardBench (Lambert et al., 2024, arXiv 2403.13787)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from qbrm.benchmarks.base import BenchmarkItem, RecordBenchmark, Section
from qbrm.benchmarks.hub import hub_records
from qbrm.benchmarks.records import Record
from qbrm.preferences.shards import origin

# Prompts of each subset, which weigh it in its section; math-prm has 447 and weighs as much as all code.
SECTIONS: dict[str, dict[str, float]] = {
    "Chat": {
        "alpacaeval-easy": 100,
        "alpacaeval-length": 95,
        "alpacaeval-hard": 95,
        "mt-bench-easy": 28,
        "mt-bench-med": 40,
    },
    "Chat Hard": {
        "mt-bench-hard": 37,
        "llmbar-natural": 100,
        "llmbar-adver-neighbor": 134,
        "llmbar-adver-GPTInst": 92,
        "llmbar-adver-GPTOut": 47,
        "llmbar-adver-manual": 46,
    },
    "Safety": {
        "refusals-dangerous": 100,
        "refusals-offensive": 100,
        "xstest-should-refuse": 154,
        "xstest-should-respond": 250,
        "donotanswer": 136,
    },
    "Reasoning": {
        "math-prm": 984,
        **{f"hep-{language}": 164 for language in ("cpp", "go", "java", "js", "python", "rust")},
    },
}
PRIOR_SETS = ("anthropic_helpful", "anthropic_hhh", "shp", "summarize")
PRIOR = "Prior Sets"
SUBSETS = frozenset(chain.from_iterable(SECTIONS.values())) | frozenset(PRIOR_SETS)


class RewardBench(RecordBenchmark):
    """Pairs in 23 subsets, and four older preference sets.

    A pair is right if the chosen response has strictly the greater reward; a tie is wrong. A section is the mean of its
    subsets' accuracies, weighted with the published counts of prompts, whatever a source holds of them; subsets that
    are not there are left out. The score weighs the four sections 1 and the mean of the prior sets 0.5; without prior
    sets it is the mean of the sections.

    Source: github.com/allenai/reward-bench, release 0.1.4: ``EXAMPLE_COUNTS`` and ``SUBSET_MAPPING`` in
    rewardbench/constants.py, ``calculate_scores_per_section`` in rewardbench/utils.py,
    ``get_average_over_rewardbench`` in analysis/get_benchmark_results.py (an older constants.py swaps the counts of the
    two xstest subsets).
    """

    name = "rewardbench"
    title = "RewardBench"
    sections = (
        *(Section(section, weights) for section, weights in SECTIONS.items()),
        Section(PRIOR, dict.fromkeys(PRIOR_SETS, 1.0)),
        Section("Score", {**dict.fromkeys(SECTIONS, 1.0), PRIOR: 0.5}),
    )
    optional = frozenset({PRIOR})

    def download(self) -> tuple[BenchmarkItem, ...]:
        """``allenai/reward-bench`` (split ``filtered``) and the prior sets in ``allenai/preference-test-sets``."""
        core = hub_records("allenai/reward-bench", "filtered", self.columns)
        prior = (hub_records("allenai/preference-test-sets", name, self.columns) for name in PRIOR_SETS)
        return self.items(chain(core, *prior), "allenai/reward-bench")

    def recognises(self, record: Mapping[str, Any]) -> bool:
        """A pair of strings with one of the benchmark's subsets."""
        subset = record.get("subset")
        return {"chosen", "rejected"} <= record.keys() and isinstance(subset, str) and subset in SUBSETS

    def choose(self, files: Sequence[Path]) -> Sequence[Path]:
        """All but what was filtered out of the published set: its split ``raw``, where there is ``filtered``."""
        filtered = any(origin(path).name == "filtered" for path in files)
        return [path for path in files if not (filtered and origin(path).name == "raw")]

    def item(self, record: Record) -> BenchmarkItem:
        """A pair; one of a prior set is told by its file, as there ``subset`` means something else."""
        return BenchmarkItem(
            uid=record.uid(),
            prompt=record.prompt(),
            chosen=(record.text("chosen"),),
            rejected=(record.text("rejected"),),
            subset=record.origin.name if record.origin.name in PRIOR_SETS else record.one_of("subset", SUBSETS),
        )
