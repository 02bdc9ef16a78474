"""Published benchmarks of reward models: their layouts, and their official scores."""

from __future__ import annotations

from qbrm.benchmarks.base import Benchmark, BenchmarkItem, ItemRewards, Judgement, Section, as_preferences
from qbrm.benchmarks.hh_rlhf import HHRLHF
from qbrm.benchmarks.llmbar import LLMBar
from qbrm.benchmarks.preferences import Preferences
from qbrm.benchmarks.rewardbench import RewardBench
from qbrm.benchmarks.rewardbench2 import RewardBench2
from qbrm.benchmarks.rm_bench import RMBench
from qbrm.benchmarks.rmb import RMB

# A source without a name is taken for the first benchmark that recognises it, so the most general one comes last.
BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (RMB(), RewardBench(), RewardBench2(), RMBench(), HHRLHF(), LLMBar(), Preferences())
}

__all__ = ["BENCHMARKS", "Benchmark", "BenchmarkItem", "ItemRewards", "Judgement", "Section", "as_preferences"]
