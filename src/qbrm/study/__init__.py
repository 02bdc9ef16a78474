"""What a comparison leaves open about robustness, measured."""
