"""Samplers of hidden spins, by name. They know nothing of rewards."""
