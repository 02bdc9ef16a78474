"""Like for like: our EBRM against the published code, and in the situation that its paper starts from."""

from qbrm_lab.studies.published.study import study_published

__all__ = ["study_published"]
