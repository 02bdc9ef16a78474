"""What a policy wrote in training, step by step, in a file that survives a kill."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qbrm.durable import make_folder, read_checked, write_atomically
from qbrm.model.conversation import PromptLike
from qbrm.rlhf.trl import Completions, turns_of
from qbrm_lab.policies.rewards import Rewards


@dataclass(frozen=True)
class Written:
    """One completion.

    Attributes:
        step: updates that the policy had seen.
        held_out: whether the prompt is one of those that train nothing.
        prompt: number of the prompt among those of its kind.
        text: the completion.
        tokens: its length, the end of text included.
        reward: what it was rewarded with.
    """

    step: int
    held_out: bool
    prompt: int
    text: str
    tokens: int
    reward: float


class NotedRewards:
    """A reward function of TRL that notes every completion in a file.

    A policy that goes on from a checkpoint writes once more what came after it: that is taken out of the file first.

    Args:
        rewards: gives the rewards.
        path: a JSONL file of :class:`Written`, read if it is there.
        updates: that the policy has seen; what it wrote after them is dropped.
    """

    __name__ = "reward"

    def __init__(self, rewards: Rewards, path: Path, updates: int) -> None:
        self._rewards, self._path = rewards, path
        known = read_completions(path) if path.is_file() and updates else []
        # The policy is measured after an update and before the checkpoint, and trains on the next batch behind both.
        self._lines = [_line(row) for row in known if row.step < updates or (row.held_out and row.step == updates)]

    def __call__(
        self,
        prompts: Sequence[PromptLike],
        completions: Completions,
        completion_ids: Sequence[Sequence[int]],
        held_out: Sequence[bool],
        number: Sequence[int],
        trainer_state: Any,
        **batch: Any,
    ) -> list[float]:
        """The reward of each completion; columns are those of TRL and of the data set."""
        asked, texts = turns_of(prompts, completions)
        rewards = self._rewards(asked, texts)
        rows = zip(held_out, number, texts, map(len, completion_ids), rewards, strict=True)
        self._lines += [_line(Written(trainer_state.global_step, *row)) for row in rows]
        make_folder(self._path.parent)
        write_atomically(self._path, "".join(self._lines).encode("utf-8", "surrogatepass"))
        return rewards


def read_completions(path: Path) -> list[Written]:
    """What :class:`NotedRewards` noted, in the order of writing."""
    return [Written(**json.loads(line)) for line in read_checked(path).decode("utf-8", "surrogatepass").splitlines()]


def _line(row: Written) -> str:
    return json.dumps(asdict(row)) + "\n"
