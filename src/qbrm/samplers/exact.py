"""Every state of a small Ising problem: the reference that all other samplers are measured against."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from qbrm.errors import InputError
from qbrm.interop.ising import check_problem
from qbrm.samplers.base import Couplings, Fields, Spins

LIMIT = 20
CHUNK = 2**22
WIDEST = 600.0


class ExactSampler:
    r"""Enumerates all states of up to 20 spins, split into halves a and b.

    .. math:: Z = \sum_{a, b} x_a\, C_{ab}\, y_b, \qquad
              x_a = e^{h_a \cdot a + \frac12 a^\top J_{aa} a}, \quad
              C_{ab} = e^{a^\top J_{ab} b}, \quad
              y_b = e^{h_b \cdot b + \frac12 b^\top J_{bb} b}

    Couplings that the batch shares give one C, and the rest is matrix products over 2^(M/2) half states. Everything is
    computed in double precision, a part of the batch at a time, and returned in the fields' dtype.

    `log_partition`, `log_probability` and `log_odds` are differentiable in fields and couplings, every J_jk taken on
    its own: the gradient of log Z is the mean of s_j, and half that of s_j s_k.

    Raises:
        InputError: by every method, if there are more than 20 spins or `check_problem` refuses the problem.
    """

    def __repr__(self) -> str:
        return "ExactSampler()"

    def sample(self, fields: Fields, couplings: Couplings, samples: int, generator: torch.Generator) -> Spins:
        """Draw independent states: half a from its marginal, then half b given a. See `Sampler.sample`."""
        _check_size(fields, couplings)
        drawn_on = generator.device
        uniforms = torch.rand((len(fields), samples, 2), generator=generator, device=drawn_on, dtype=torch.float64)
        uniforms = uniforms.to(fields.device)
        with torch.no_grad():
            drawn = [_draw(_weigh(fields[rows], part), uniforms[rows]) for rows, part in _parts(fields, couplings)]
        return torch.cat(drawn).to(fields.dtype)

    def log_partition(self, fields: Fields, couplings: Couplings) -> Float[Tensor, " batch"]:
        """Log of the sum over all states, log Z, of every problem."""
        _check_size(fields, couplings)
        logs = [_log_partition(fields[rows], part) for rows, part in _parts(fields, couplings)]
        return torch.cat(logs).to(fields.dtype)

    def log_probability(self, states: Spins, fields: Fields, couplings: Couplings) -> Float[Tensor, "batch samples"]:
        """Log of p(s) of given states, h.s + s.J s / 2 - log Z."""
        exponent = (states * (fields[:, None] + states @ couplings / 2)).sum(-1)
        return exponent - self.log_partition(fields, couplings)[:, None]

    def log_odds(self, fields: Fields, couplings: Couplings) -> Float[Tensor, "batch spins"]:
        """Log of P(s_j = +1) / P(s_j = -1) of every spin: 2 h_j without couplings."""
        _check_size(fields, couplings)
        odds = [_log_odds(fields[rows], part) for rows, part in _parts(fields, couplings)]
        return torch.cat(odds).to(fields.dtype)

    def moments(
        self, fields: Fields, couplings: Couplings
    ) -> tuple[Float[Tensor, "batch spins"], Float[Tensor, "batch spins spins"]]:
        """Means of s_j and of s_j s_k (1 on the diagonal) of every problem."""
        _check_size(fields, couplings)
        moments = [_moments(_weigh(fields[rows], part)) for rows, part in _parts(fields, couplings)]
        means, correlations = (torch.cat(moment).to(fields.dtype) for moment in zip(*moments, strict=True))
        return means, correlations


class _Halves(NamedTuple):
    """Weights of pairs of half states: e^log_scale left_a cross_ab right_b, no factor above 1."""

    a: Float[Tensor, "lefts half_a"]
    b: Float[Tensor, "rights half_b"]
    left: Float[Tensor, "batch 1 lefts"]
    right: Float[Tensor, "batch 1 rights"]
    cross: Float[Tensor, "*batch lefts rights"]
    log_scale: Float[Tensor, " batch"]

    def total(self) -> Float[Tensor, "batch 1 1"]:
        return (self.left @ self.cross * self.right).sum(-1, keepdim=True)


def _check_size(fields: Fields, couplings: Couplings) -> None:
    check_problem(fields, couplings)
    if fields.shape[1] > LIMIT:
        raise InputError(
            f"sampler exact was given {fields.shape[1]} spins; it enumerates at most {LIMIT}, use gibbs for more."
        )


def _parts(fields: Fields, couplings: Couplings) -> Iterator[tuple[slice, Couplings]]:
    """Rows of the batch that fit into memory together, each with their couplings."""
    batch, spins = fields.shape
    cut = (spins + 1) // 2
    if couplings.ndim == 2 and 2 * float(couplings.detach()[:cut, cut:].abs().sum()) > WIDEST:
        couplings = couplings.expand(batch, -1, -1)  # so wide a C could lose the weights that x and y make large
    size = CHUNK >> (spins if couplings.ndim == 3 else cut + 4)
    for start in range(0, max(batch, 1), size):
        rows = slice(start, start + size)
        yield rows, couplings[rows] if couplings.ndim == 3 else couplings


def _weigh(fields: Fields, couplings: Couplings) -> _Halves:
    """Weights of one part; with couplings per problem, left and right go into cross, so that its largest entry is 1."""
    fields, couplings = fields.double(), couplings.double()
    cut = (fields.shape[1] + 1) // 2
    a, b = _states(cut, fields.device), _states(fields.shape[1] - cut, fields.device)
    left = fields[:, :cut] @ a.T + _quadratic(a, couplings[..., :cut, :cut])
    right = fields[:, cut:] @ b.T + _quadratic(b, couplings[..., cut:, cut:])
    cross = a @ ((couplings[..., :cut, cut:] + couplings[..., cut:, :cut].mT) / 2) @ b.T
    if couplings.ndim == 3:
        cross = cross + left[:, :, None] + right[:, None, :]
        left, right = torch.zeros_like(left), torch.zeros_like(right)
    top_left, top_right = left.detach().amax(-1, keepdim=True), right.detach().amax(-1, keepdim=True)
    top_cross = cross.detach().amax((-2, -1))
    left, right = (left - top_left).exp()[:, None], (right - top_right).exp()[:, None]
    cross = (cross - top_cross[..., None, None]).exp()
    return _Halves(a, b, left, right, cross, (top_left + top_right)[:, 0] + top_cross)


def _log_partition(fields: Fields, couplings: Couplings) -> Float[Tensor, " batch"]:
    def log_total(fields: Fields, couplings: Couplings) -> Float[Tensor, " batch"]:
        halves = _weigh(fields, couplings)
        return halves.total()[:, 0, 0].log() + halves.log_scale

    if couplings.ndim == 2:
        return log_total(fields, couplings)
    # All states of every problem are too many to keep for the backward pass: they are computed again there.
    recomputed: Tensor = checkpoint(log_total, fields, couplings, use_reentrant=False)
    return recomputed


def _log_odds(fields: Fields, couplings: Couplings) -> Float[Tensor, "batch spins"]:
    def odds(fields: Fields, couplings: Couplings) -> Float[Tensor, "batch spins"]:
        a, b, left, right, cross, _ = _weigh(fields, couplings)
        # Sums of positive weights keep their relative precision, where 1 + mean and 1 - mean of a spin would lose it.
        sides = [(left * (right @ cross.mT), a), (right * (left @ cross), b)]
        up, down = (torch.cat([p @ (sign * states > 0).double() for p, states in sides], -1) for sign in (1, -1))
        smallest = torch.finfo(up.dtype).tiny
        return (up.clamp_min(smallest).log() - down.clamp_min(smallest).log())[:, 0]

    # All states of every problem are too many to keep for the backward pass: they are computed again there.
    recomputed: Tensor = checkpoint(odds, fields, couplings, use_reentrant=False)
    return recomputed


def _moments(halves: _Halves) -> tuple[Float[Tensor, "batch spins"], Float[Tensor, "batch spins spins"]]:
    a, b, left, right, cross, _ = halves
    total = halves.total()
    p_left, p_right = left * (right @ cross.mT) / total, right * (left @ cross) / total
    means = torch.cat([p_left @ a, p_right @ b], -1)[:, 0]
    mixed = (a.T * left) @ cross * right @ b / total
    upper = torch.cat([(a.T * p_left) @ a, mixed], -1)
    lower = torch.cat([mixed.mT, (b.T * p_right) @ b], -1)
    return means, torch.cat([upper, lower], -2)


def _draw(halves: _Halves, uniforms: Float[Tensor, "batch samples 2"]) -> Spins:
    a, b, left, right, cross, _ = halves
    first = _invert(left * (right @ cross.mT), uniforms[:, None, :, 0])[:, 0]
    shared = cross.ndim == 2
    problem = torch.arange(len(first), device=first.device)[:, None]
    size = max(1, CHUNK // max(1, len(first) * len(b)))
    second = [
        _invert((cross[some] if shared else cross[problem, some]) * right, uniform)[..., 0]
        for some, uniform in zip(torch.split(first, size, 1), torch.split(uniforms[..., 1:], size, 1), strict=True)
    ]
    return torch.cat([a[first], b[torch.cat(second, 1)]], -1)


def _invert(
    weights: Float[Tensor, "*rows states"], uniforms: Float[Tensor, "*rows samples"]
) -> Float[Tensor, "*rows samples"]:
    """States at which the cumulated weights reach the given parts of their sum."""
    cumulated = weights.cumsum(-1)
    return torch.searchsorted(cumulated, uniforms * cumulated[..., -1:])


def _states(spins: int, device: torch.device) -> Float[Tensor, "states spins"]:
    bits = torch.arange(2**spins, device=device)[:, None] >> torch.arange(spins, device=device) & 1
    return 2 * bits.double() - 1


def _quadratic(states: Float[Tensor, "states spins"], couplings: Couplings) -> Float[Tensor, "*batch states"]:
    """s.J s / 2 of every state."""
    return (states @ couplings * states).sum(-1) / 2
