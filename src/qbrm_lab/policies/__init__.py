"""Policies that the laboratory trains on rewards, to see what they make of them."""
