"""A reward model for the workers of a cluster, which import it by name: quick, and as sensitive as a real one."""

import hashlib
import os
import time
from pathlib import Path

import numpy as np
import torch

from qbrm.reward_models.base import Embedded, Identity

DIM = 5


class HashingModel:
    """Embeds a text as numbers drawn from its hash, moved a little by what it is embedded with: texts and threads.

    Args:
        pids: folder in which each process that holds the model leaves its id.
        delay: seconds that each call takes.
        fails_at: a response at which the model fails.
        how: "dies", "raises" or "nan".
    """

    dim = DIM
    identity = Identity("hashing", "0123456789abcdef", "plain", 16)

    def __init__(self, pids=None, delay=0.0, fails_at=None, how=None):
        self.delay, self.fails_at, self.how = delay, fails_at, how
        if pids is not None:
            Path(pids, str(os.getpid())).touch()

    def embed(self, prompts, responses):
        time.sleep(self.delay)
        texts = list(zip(prompts, responses, strict=True))
        if self.fails_at in responses:
            if self.how == "dies":
                os._exit(1)
            if self.how == "raises":
                raise RuntimeError("out of luck")
            return Embedded(np.full((len(texts), DIM), np.nan, np.float32), None)
        together = 1e-6 * numbers((texts, torch.get_num_threads()))
        rows = np.stack([numbers(text) for text in texts]) + together
        return Embedded(rows[:, :DIM].astype(np.float32), rows[:, DIM].astype(np.float32))


def numbers(value):
    return np.random.default_rng(list(hashlib.sha256(repr(value).encode()).digest())).standard_normal(DIM + 1)
