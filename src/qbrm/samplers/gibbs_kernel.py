"""The compiled loop of Gibbs sampling: chains in groups, one random stream and one row of local fields per chain.

Per update it costs a random threshold, a comparison and, if the spin flips, a row of couplings added to the fields.
The chains of a group visit the same spin in turn: first all compare, then those that flipped add the row, which by then
is in cache. That order leaves no branch to mispredict. Arithmetic is in single precision; no result depends on which
chains share a group or a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from jaxtyping import Float32, Int64, UInt64

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

GROUP = 16
THRESHOLDS = 256
REFRESH = 1024
LANES = 32
"""Rows of fields and couplings are padded to a multiple of this many numbers, which the vectorised loops take whole."""


def _compiled(function: Kernel) -> Kernel:
    kernel: Kernel = numba.njit(cache=True, nogil=True, fastmath={"contract", "nsz"}, error_model="numpy")(function)
    return kernel


@_compiled
def mix(word: np.uint64) -> np.uint64:
    """Scramble a counter: the output function of splitmix64 (Steele, Lea & Flood, 2014)."""
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


@_compiled
def draw_thresholds(
    key: np.uint64, counter: np.uint64, words: UInt64[np.ndarray, " half"], thresholds: Float32[np.ndarray, " count"]
) -> None:
    r"""Draw logistic thresholds, of which a field h exceeds one with the probability of an up spin.

    .. math:: t = \tfrac12 \log\frac{u}{1 - u}, \qquad P(t < h) = \frac{1}{1 + e^{-2h}}

    u is one of 2^31 equally spaced numbers between 0 and 1, so |t| stays below 11.1. The logarithm is Cephes' logf
    (Moshier), written out because only so it is vectorised; its error is below 3e-7.

    Args:
        key: of the random stream.
        counter: place in the stream to start from; `words.size` places are used.
        words: scratch.
        thresholds: twice as many numbers as `words`; overwritten.
    """
    for i in range(words.size):
        words[i] = mix(key + (counter + np.uint64(i)) * np.uint64(0x9E3779B97F4A7C15))
    bits = words.view(np.uint32)
    for i in range(thresholds.size):
        u = np.int32(bits[i] >> np.uint32(1))
        thresholds[i] = (np.float32(u) + np.float32(0.5)) / (np.float32(np.int32(0x7FFFFFFF - u)) + np.float32(0.5))
    raw = thresholds.view(np.int32)
    for i in range(thresholds.size):
        exponent = np.int32(np.int32(raw[i] - 0x3F3504F3) >> 23)
        raw[i] -= exponent << 23
        x = thresholds[i] - np.float32(1)
        y = np.float32(7.0376836292e-2)
        y = y * x - np.float32(1.1514610310e-1)
        y = y * x + np.float32(1.1676998740e-1)
        y = y * x - np.float32(1.2420140846e-1)
        y = y * x + np.float32(1.4249322787e-1)
        y = y * x - np.float32(1.6668057665e-1)
        y = y * x + np.float32(2.0000714765e-1)
        y = y * x - np.float32(2.4999993993e-1)
        y = y * x + np.float32(3.3333331174e-1)
        log = x + x * x * (x * y - np.float32(0.5)) + np.float32(exponent) * np.float32(0.69314718056)
        thresholds[i] = np.float32(0.5) * log


@_compiled
def set_fields(
    bias: Float32[np.ndarray, "chains spins"],
    couplings: Float32[np.ndarray, "spins padded"],
    spins: Float32[np.ndarray, "chains spins"],
    fields: Float32[np.ndarray, "chains padded"],
) -> None:
    """Compute the local fields h + J s of every chain anew."""
    count = spins.shape[1]
    for chain in range(spins.shape[0]):
        field = fields[chain]
        for k in range(field.size):
            field[k] = bias[chain, k] if k < count else 0
        for j in range(count):
            row, spin = couplings[j], spins[chain, j]
            if spin == 0:
                continue
            for k in range(field.size):
                field[k] += spin * row[k]


@_compiled
def update_spin(
    j: int,
    row: Float32[np.ndarray, " padded"],
    thresholds: Float32[np.ndarray, " chains"],
    spins: Float32[np.ndarray, "chains spins"],
    fields: Float32[np.ndarray, "chains padded"],
    flipped: Int64[np.ndarray, " chains"],
    change: Float32[np.ndarray, " chains"],
) -> None:
    r"""Draw spin j of every chain given all its others: up with probability 1 / (1 + exp(-2 field)).

    Args:
        j: the spin.
        row: its couplings.
        thresholds: one per chain, from `draw_thresholds`.
        spins: states; column j is overwritten.
        fields: local fields; kept up to date.
        flipped: scratch.
        change: scratch.
    """
    flips = 0
    for chain in range(spins.shape[0]):
        spin = np.float32(1) if fields[chain, j] > thresholds[chain] else np.float32(-1)
        difference = spin - spins[chain, j]
        spins[chain, j] = spin
        flipped[flips] = chain
        change[flips] = difference
        flips += difference != 0
    for i in range(flips):
        field, difference = fields[flipped[i]], change[i]
        for k in range(field.size):
            field[k] += difference * row[k]


@_compiled
def record(
    spins: Float32[np.ndarray, "chains spins"], states: Float32[np.ndarray, "chains rounds spins"], turn: int
) -> None:
    """Copy current states; a slice assignment would take seconds more to compile."""
    for chain in range(spins.shape[0]):
        for j in range(spins.shape[1]):
            states[chain, turn, j] = spins[chain, j]


@_compiled
def run_group(
    bias: Float32[np.ndarray, "chains spins"],
    couplings: Float32[np.ndarray, "spins padded"],
    spins: Float32[np.ndarray, "chains spins"],
    keys: UInt64[np.ndarray, " chains"],
    first: int,
    thin: int,
    states: Float32[np.ndarray, "chains rounds spins"],
) -> None:
    """Sweep a few chains of one problem in a fixed order of spins; see `run_chains`."""
    chains, count = spins.shape
    sweeps_per_draw = max(1, THRESHOLDS // count)
    words = np.empty((sweeps_per_draw * count + LANES - 1) // LANES * (LANES // 2), np.uint64)
    thresholds = np.empty((chains, 2 * words.size), np.float32)
    fields = np.empty((chains, couplings.shape[1]), np.float32)
    flipped, change = np.empty(chains, np.int64), np.empty(chains, np.float32)
    for sweep in range(first + (states.shape[1] - 1) * thin):
        if sweep % REFRESH == 0:
            set_fields(bias, couplings, spins, fields)
        draw, place = divmod(sweep, sweeps_per_draw)
        if place == 0:
            for chain in range(chains):
                draw_thresholds(keys[chain], np.uint64(draw * words.size), words, thresholds[chain])
        for j in range(count):
            update_spin(j, couplings[j], thresholds[:, place * count + j], spins, fields, flipped, change)
        after = sweep + 1 - first
        if after >= 0 and after % thin == 0:
            record(spins, states, after // thin)


@_compiled
def run_chains(
    bias: Float32[np.ndarray, "problems chains spins"],
    couplings: Float32[np.ndarray, "problems spins padded"],
    spins: Float32[np.ndarray, "problems chains spins"],
    keys: UInt64[np.ndarray, "problems chains"],
    first: int,
    thin: int,
    states: Float32[np.ndarray, "problems chains rounds spins"],
) -> None:
    """Advance Markov chains and record their states.

    Args:
        bias: h of every chain.
        couplings: J of every problem, rows padded with zeros to a multiple of `LANES`.
        spins: current states, -1 or +1, or zeros for new chains; overwritten with the last ones.
        keys: of the chains' random streams.
        first: sweeps before the first recorded state.
        thin: sweeps between recorded states.
        states: overwritten with the recorded states.
    """
    for problem in range(spins.shape[0]):
        for start in range(0, spins.shape[1], GROUP):
            group = slice(start, start + GROUP)
            run_group(
                bias[problem, group],
                couplings[problem],
                spins[problem, group],
                keys[problem, group],
                first,
                thin,
                states[problem, group],
            )
