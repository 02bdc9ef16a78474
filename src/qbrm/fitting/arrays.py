"""From arrays to what a score is fitted to: checked, on one device, some prompts held out."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from qbrm.data.pairs import PairData
from qbrm.errors import InputError
from qbrm.fitting.committee import Fold, shuffled_prompts

Array: TypeAlias = Tensor | np.ndarray

VALIDATION_SHARE = 0.125


def fold_of_arrays(
    embedding: Float[Array, "responses dim"],
    reward: Float[Array, " responses"],
    chosen: Int[Array, " pairs"],
    rejected: Int[Array, " pairs"],
    prompt: Int[Array, " responses"] | None,
    share: float,
    seed: int,
    like: Float[Tensor, ""],
) -> Fold:
    """Check arrays as of :meth:`qbrm.energies.EnergyScore.fit`, and hold out a share of the prompts.

    Features get the dtype and the device of `like`.

    Raises:
        InputError: if shapes disagree, a value is not finite, a row does not exist, or there is only one prompt.
    """
    e, r0 = (_floats(name, values, like) for name, values in (("embedding", embedding), ("reward", reward)))
    if e.ndim != 2 or r0.shape != e.shape[:1]:
        raise InputError(
            f"embedding has shape {tuple(e.shape)}, reward {tuple(r0.shape)}; expected (responses, dim), (responses,)."
        )
    sides = [_rows(name, rows, len(e), like.device) for name, rows in (("chosen", chosen), ("rejected", rejected))]
    if len(sides[0]) != len(sides[1]):
        raise InputError(f"{len(sides[0])} chosen and {len(sides[1])} rejected rows; expected as many of each.")
    data = PairData(e, r0, *sides)
    number = _connected(data) if prompt is None else _rows("prompt", prompt, None, like.device)
    if len(number) != len(e):
        raise InputError(f"prompt has {len(number)} values for {len(e)} responses; expected one for each response.")
    of_pair = number[data.chosen]
    prompts = len(torch.unique(of_pair))
    if prompts < 2:
        raise InputError(f"pairs on {prompts} prompt(s); expected two or more, one to validate with.")
    held_out = shuffled_prompts(of_pair, seed) < min(max(round(share * prompts), 1), prompts - 1)
    return Fold(data.only(~held_out), data.only(held_out), seed, prompt=number)


def _floats(name: str, values: Float[Array, "*shape"], like: Float[Tensor, ""]) -> Float[Tensor, "*shape"]:
    tensor = torch.as_tensor(values, device=like.device).to(like.dtype)
    if not torch.isfinite(tensor).all():
        raise InputError(f"{name} holds {int((~torch.isfinite(tensor)).sum())} values that are NaN or infinite.")
    return tensor


def _rows(name: str, values: Int[Array, " n"], limit: int | None, device: torch.device) -> Int[Tensor, " n"]:
    tensor = torch.as_tensor(values, device=device)
    if tensor.is_floating_point() or tensor.dtype == torch.bool or tensor.ndim != 1:
        raise InputError(f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}; expected whole numbers in a row.")
    if limit is not None and tensor.numel() and not (int(tensor.min()) >= 0 and int(tensor.max()) < limit):
        raise InputError(
            f"{name} goes from {int(tensor.min())} to {int(tensor.max())}; expected rows from 0 to {limit - 1}."
        )
    return tensor.long()


def _connected(data: PairData) -> Int[Tensor, " responses"]:
    """A number for each response, the same for those that pairs connect."""
    chosen, rejected = (side.cpu().numpy() for side in (data.chosen, data.rejected))
    size = len(data.reward)
    graph = coo_array((np.ones(len(chosen), np.int8), (chosen, rejected)), shape=(size, size))
    _, component = connected_components(graph, directed=False)
    return torch.as_tensor(component, device=data.chosen.device).long()
