"""The laboratory that measured QBRM: compared methods, scenarios, comparisons, studies, benchmarks of speed, reports."""
