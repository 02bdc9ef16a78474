"""What shows results to people: the table, the plots and the page that has both."""

from qbrm_lab.report.markdown import markdown_table, update_markdown
from qbrm_lab.report.terminal import print_results
from qbrm_lab.report.write import write_report

__all__ = ["markdown_table", "print_results", "update_markdown", "write_report"]
