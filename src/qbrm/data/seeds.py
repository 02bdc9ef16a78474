"""The seeds that users may give."""

# Seeds of members and epochs are made of it by products of some hundred thousand, and must fit into 63 bits.
MOST_SEED = 2**32 - 1
