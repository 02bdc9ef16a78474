"""What a comparison found: results.json, the table, the plots and the page that shows them."""

from qbrm_lab.report.markdown import markdown_table, update_markdown
from qbrm_lab.report.results import Results, read_results, write_results
from qbrm_lab.report.terminal import print_results
from qbrm_lab.report.write import write_report

__all__ = [
    "Results",
    "markdown_table",
    "print_results",
    "read_results",
    "update_markdown",
    "write_report",
    "write_results",
]
