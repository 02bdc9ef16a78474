"""What a comparison measured, as typed values: rows, facts, and the file that has them."""

from qbrm_lab.results.facts import Fact
from qbrm_lab.results.results import RESULTS_FILE, Results, Tables, read_results, write_results
from qbrm_lab.results.rows import ResultRow, SetName
from qbrm_lab.results.schema import as_json, parsed

__all__ = [
    "RESULTS_FILE",
    "Fact",
    "ResultRow",
    "Results",
    "SetName",
    "Tables",
    "as_json",
    "parsed",
    "read_results",
    "write_results",
]
