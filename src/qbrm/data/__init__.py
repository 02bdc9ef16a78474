"""Data types that every room shares: preference pairs over features, and their units."""
