"""Data types that all packages share: preference pairs over features, and their units."""
