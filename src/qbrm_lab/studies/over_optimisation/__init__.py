"""Best-of-n against gold: what a score is still worth when one chooses harder and harder by it."""
