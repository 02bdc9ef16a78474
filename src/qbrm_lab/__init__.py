"""The laboratory that measured QBRM: methods, scenarios, comparisons, studies, benchmarks of speed, reports."""
