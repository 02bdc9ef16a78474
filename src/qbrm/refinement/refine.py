"""From embeddings and base rewards to refined rewards, a chunk at a time."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from qbrm.energies.base import Clamped, EnergyScore
from qbrm.energies.density import density
from qbrm.refinement.ascent import Ascent
from qbrm.refinement.pessimistic import Pessimistic

Refinement: TypeAlias = Callable[[EnergyScore, Clamped, torch.Generator], Float[Tensor, " batch"]]


def mode(score: EnergyScore, clamped: Clamped, generator: torch.Generator) -> Float[Tensor, " batch"]:
    """The greatest f: Newton's method where f is concave, else a search over all nodes."""
    return score.mode(clamped)


def mean(score: EnergyScore, clamped: Clamped, generator: torch.Generator) -> Float[Tensor, " batch"]:
    """E[r | e] by exact quadrature."""
    return density(score, clamped).mean


REFINEMENTS: dict[str, Refinement] = {"ascent": Ascent(), "mode": mode, "mean": mean, "pessimistic": Pessimistic()}


@torch.no_grad()
def refine(
    score: EnergyScore,
    embedding: Float[Tensor, "n dim"] | Float32[np.ndarray, "n dim"],
    base_reward: Float[Tensor, " n"] | Float32[np.ndarray, " n"],
    refinement: Refinement = mode,
    *,
    seed: int = 0,
) -> Float[Tensor, " n"]:
    """Refined rewards r*, in the reward model's units.

    Memory beyond the input is some hundred megabytes: a memory-mapped array is read chunk by chunk.

    Args:
        score: the energy score.
        embedding: embeddings e.
        base_reward: base rewards r0.
        refinement: one of `REFINEMENTS`.
        seed: seeds the ascent's random starts.
    """
    generator = torch.Generator().manual_seed(seed)
    refined = score.reward_loc.new_empty(len(base_reward))
    for start in range(0, len(base_reward), score.chunk_rows):
        rows = slice(start, start + score.chunk_rows)
        clamped = score.clamp(*(_tensor(part[rows]).to(score.reward_loc) for part in (embedding, base_reward)))
        refined[rows] = score.from_standard(refinement(score, clamped, generator))
    return refined


def _tensor(part: Float[Tensor, "*shape"] | Float32[np.ndarray, "*shape"]) -> Float[Tensor, "*shape"]:
    """View the data as a tensor; a read-only map too, which is safe because clamping only reads."""
    if isinstance(part, Tensor):
        return part
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(part)
