"""Files of candidates: prompts, several responses to each, and what a judge thinks of every response."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from qbrm.errors import InputError
from qbrm.preferences import Preference, PreferenceSet, split_by_prompt
from qbrm.preferences.candidate_lists import as_preferences, read_candidates
from qbrm.preferences.quoting import one_line


class Pool(NamedTuple):
    """The candidates of one prompt.

    Attributes:
        responses: prompt and candidates; that the first stands as the chosen one means nothing.
        gold: of each candidate, in order.
    """

    responses: Preference
    gold: tuple[float, ...]

    @property
    def prompt_id(self) -> str:
        """Content hash of the prompt."""
        return self.responses.prompt_id


@dataclass(frozen=True)
class Candidates:
    """The pools of one file, in file order, and the file's name."""

    name: str
    pools: tuple[Pool, ...]

    @property
    def preferences(self) -> PreferenceSet:
        """Prompts and candidates without gold, as what embeds and splits takes them."""
        return PreferenceSet(self.name, tuple(pool.responses for pool in self.pools))

    @property
    def largest(self) -> int:
        """Candidates of the prompt that has most."""
        return max(len(pool.gold) for pool in self.pools)

    @property
    def count(self) -> int:
        """Candidates of all prompts."""
        return sum(len(pool.gold) for pool in self.pools)

    def of_prompts(self, prompt_ids: Collection[str]) -> Candidates:
        """The pools whose prompt is among `prompt_ids`."""
        return Candidates(self.name, tuple(pool for pool in self.pools if pool.prompt_id in prompt_ids))

    def split(self, share: float, seed: int) -> tuple[Candidates, Candidates]:
        """Hold out a share of the prompts: what is kept, what is held out.

        Raises:
            InputError: if there are fewer than two prompts.
        """
        kept, held_out = split_by_prompt(self.preferences, share, seed)
        return self.of_prompts(set(kept.prompt_ids)), self.of_prompts(set(held_out.prompt_ids))

    def gold_digest(self) -> str:
        """Digest of all gold."""
        return hashlib.sha256(repr([pool.gold for pool in self.pools]).encode()).hexdigest()


def read_candidate_files(paths: Sequence[Path]) -> list[Candidates]:
    """Read files of candidates.

    Raises:
        InputError: as :func:`read_candidate_file`, or if two files have the same name, by which results know them.
    """
    files = [read_candidate_file(path) for path in paths]
    names = [file.name for file in files]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--candidates names two files {one_line(name)}; expected files with different names.")
    return files


def read_candidate_file(path: Path) -> Candidates:
    """Read a file of {"prompt", "candidates": [{"response", "gold"}]}, packed with gzip or not.

    Raises:
        InputError: if the file is missing or empty, or a row has no prompt, fewer than two candidates, or a candidate
            without text or without finite gold; names the place of each such.
    """
    if not path.is_file():
        raise InputError(f"{one_line(path)} is no file; expected candidates, as .jsonl or .jsonl.gz.")
    lists = read_candidates(path, fewest=2)
    responses = as_preferences(lists, path.name)
    pools = (Pool(preference, one.gold) for preference, one in zip(responses, lists, strict=True))
    return Candidates(path.name, tuple(pools))
