"""Whole studies: many comparisons with one question, their tables and plots. `qbrm study --help` lists them."""
