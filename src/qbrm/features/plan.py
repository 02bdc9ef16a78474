"""Which rows are embedded together: blocks, each of which becomes one shard."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from qbrm.preferences.base import Key, Prompt

Texts = dict[Key, tuple[Prompt, str]]


class Block(NamedTuple):
    """Rows that are embedded by one worker, in this order, and written as the shard `file`."""

    file: str
    keys: list[Key]
    prompts: list[Prompt]
    responses: list[str]

    def rows(self, rows: slice) -> Block:
        """A part of the block."""
        return Block(self.file, self.keys[rows], self.prompts[rows], self.responses[rows])


def make_block(file: str, keys: list[Key], texts: Texts) -> Block:
    """Put the texts to the keys of a planned shard."""
    return Block(file, keys, [texts[key][0] for key in keys], [texts[key][1] for key in keys])


def missing_shards(texts: Texts, there: Collection[Key], shard_rows: int) -> list[list[Key]]:
    """Share out the rows that are not there yet, as the keys of each shard.

    What a text is embedded together with moves its embedding by some 1e-6. So whatever shards of this source are there
    already, in whatever order they came, the others are those that a single run would have written. Rows of shards
    that are there in part, after the source has grown, are shared out anew.

    Args:
        texts: everything that is to be in the table.
        there: keys of the rows that it has.
        shard_rows: most rows in a shard.
    """
    whole: list[list[Key]] = []
    rest: Texts = {}
    for keys in shard_plan(texts, shard_rows):
        missing = [key for key in keys if key not in there]
        if len(missing) == len(keys):
            whole.append(keys)
        else:
            rest |= {key: texts[key] for key in missing}
    return [*whole, *shard_plan(rest, shard_rows)]


def shard_plan(texts: Texts, shard_rows: int) -> Iterator[list[Key]]:
    """Share out rows among shards, as the keys of each, the same way whenever it is called.

    Prompts with the longest responses go first, so that batches hold texts of similar length and an estimate of the
    time left errs on the safe side. Responses to one prompt stay together if they fit.
    """
    groups: dict[str, list[Key]] = {}
    for key in sorted(texts, key=lambda key: (-len(texts[key][1]), key)):
        groups.setdefault(key[0], []).append(key)
    shard: list[Key] = []
    for group in groups.values():
        if shard and len(shard) + len(group) > shard_rows:
            yield shard
            shard = []
        shard += group
        while len(shard) > shard_rows:
            yield shard[:shard_rows]
            shard = shard[shard_rows:]
    if shard:
        yield shard
