"""Best-of-n with gold: what the candidate that a reward chooses among n is worth to a judge."""
