"""The page of the study."""

from __future__ import annotations

from qbrm_lab.studies.published.rows import PublishedResults


def published_markdown(results: PublishedResults) -> str:
    """The page, generated from the results alone."""
    return "".join(f"{row}\n" for row in [*results.agreement, *results.differences, *results.same_weights, *results.situation])
