"""Reward models that the laboratory trains."""
