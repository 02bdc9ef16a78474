"""Gibbs sampling: many Markov chains at once, one spin at a time."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import torch
from jaxtyping import Float, Int8
from torch import Tensor

from qbrm.errors import InputError
from qbrm.samplers.base import check_problem

PIECES_PER_THREAD = 4
LEAST_CHAINS = 8


class GibbsSampler:
    r"""Sweeps over the spins in a fixed order and draws each given all others.

    .. math:: P(s_j = +1 \mid s_{k \ne j}) = \frac{1}{1 + e^{-2 b_j}}, \qquad b_j = h_j + \sum_k J_{jk} s_k

    Every such update is in detailed balance with p(s), so p(s) is stationary under a sweep. The local fields b are kept
    and, when s_j flips, changed by 2 s_j times column j of J. The chains of all problems run in compiled code
    (`gibbs_kernel`) on as many threads as `torch.get_num_threads()`. Every chain has its own random stream, seeded by
    the generator, so that states depend neither on the number of threads nor on each other's problems.

    A new chain starts without spins: its first sweep draws each given those before it. With `persistent`, the chains of
    a call go on where those of the last call with the same key and sizes stopped (persistent contrastive divergence,
    Tieleman, 2008). That is meant for problems that change little from call to call.

    Args:
        sweeps: sweeps of a new chain before its first recorded state.
        chains: chains per problem; fewer if fewer states are asked for.
        thin: sweeps between two recorded states of a chain, and before the first one of a chain that goes on.
        persistent: keep chains between calls.

    Raises:
        InputError: if a number is below 1.
    """

    def __init__(self, sweeps: int = 100, chains: int = 16, thin: int = 5, persistent: bool = False) -> None:
        for name, value in (("sweeps", sweeps), ("chains", chains), ("thin", thin)):
            if value < 1:
                raise InputError(f"gibbs: {name} is {value}; expected at least 1.")
        self.sweeps = sweeps
        self.chains = chains
        self.thin = thin
        self.persistent = persistent
        self._kept: dict[str, Int8[Tensor, "batch chains spins"]] = {}

    def sample(
        self,
        fields: Float[Tensor, "batch spins"],
        couplings: Float[Tensor, "*batch spins spins"],
        samples: int,
        generator: torch.Generator,
        key: str = "",
    ) -> Float[Tensor, "batch samples spins"]:
        """Draw `samples` states of every problem; see `Sampler.sample`.

        State i of a problem is number i // chains of chain i % chains: states of different chains are independent,
        those of one chain are not quite.

        Args:
            fields: h, one row per problem.
            couplings: J, one matrix for all problems or one per problem.
            samples: how many states of each.
            generator: seeds the chains.
            key: names the chains to go on with, where `persistent`.

        Returns:
            States with values -1 and +1, in the fields' dtype.

        Raises:
            InputError: if `check_problem` refuses the problem.
        """
        check_problem(fields, couplings)
        batch, spins = fields.shape
        chains = max(1, min(self.chains, samples))
        name = f"{key}:{batch}x{chains}x{spins}"
        bias = fields.detach().float().cpu()[:, None].expand(-1, chains, -1).contiguous()
        kept = self._kept.get(name)
        state = torch.zeros_like(bias) if kept is None else kept.float()
        states = torch.empty(batch, chains, -(-samples // chains), spins)
        first = self.sweeps if kept is None else self.thin
        _run(bias, couplings.detach().float().cpu(), state, _keys(batch, chains, generator), first, self.thin, states)
        if self.persistent:
            self._kept[name] = state.to(torch.int8)
        return states.transpose(1, 2).flatten(1, 2)[:, :samples].to(fields)

    def state_dict(self) -> dict[str, Int8[Tensor, "batch chains spins"]]:
        """The kept chains by name, as tensors to save with a model."""
        return dict(self._kept)

    def load_state_dict(self, state: Mapping[str, Int8[Tensor, "batch chains spins"]]) -> None:
        """Go on from saved chains instead of those kept now.

        Raises:
            InputError: if a value is not what `state_dict` gives.
        """
        for name, chains in state.items():
            if chains.ndim != 3 or not (chains.abs() == 1).all():
                raise InputError(
                    f"gibbs: chains {name!r} have shape {tuple(chains.shape)} and values from {chains.min():g} to "
                    f"{chains.max():g}; expected (batch, chains, spins) and -1 or +1."
                )
        self._kept = {name: chains.to("cpu", torch.int8, copy=True) for name, chains in state.items()}


def _keys(batch: int, chains: int, generator: torch.Generator) -> Tensor:
    limits = torch.iinfo(torch.int64)
    device = generator.device
    return torch.randint(limits.min, limits.max, (batch, chains), generator=generator, device=device).cpu()


def _run(
    bias: Float[Tensor, "batch chains spins"],
    couplings: Float[Tensor, "*batch spins spins"],
    state: Float[Tensor, "batch chains spins"],
    keys: Tensor,
    first: int,
    thin: int,
    states: Float[Tensor, "batch chains rounds spins"],
) -> None:
    """Run the kernel on pieces of the chains; `state` and `states` are overwritten."""
    from qbrm.samplers.gibbs_kernel import LANES, run_chains  # starting numba takes half a second

    matrices = torch.nn.functional.pad(couplings, (0, -couplings.shape[-1] % LANES))
    if couplings.ndim == 2:
        matrices = matrices[None]
        bias, state, keys, states = (values.flatten(0, 1)[None] for values in (bias, state, keys, states))
    threads = torch.get_num_threads()

    def run(piece: slice) -> None:
        problems, chains = (slice(None), piece) if couplings.ndim == 2 else (piece, slice(None))
        run_chains(
            bias[problems, chains].numpy(),
            matrices[problems].numpy(),
            state[problems, chains].numpy(),
            keys[problems, chains].numpy().view("uint64"),
            first,
            thin,
            states[problems, chains].numpy(),
        )

    count, least = (keys.shape[1], LEAST_CHAINS) if couplings.ndim == 2 else (keys.shape[0], 1)
    size = max(least, -(-count // (threads * PIECES_PER_THREAD)))
    pieces = [slice(start, start + size) for start in range(0, count, size)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, pieces))
