"""Refined rewards inside RLHF training."""
