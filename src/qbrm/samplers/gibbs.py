"""Gibbs sampling: many Markov chains at once, one spin at a time."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import torch
from jaxtyping import Float, Int, Int8, Int64
from torch import Tensor

from qbrm.errors import InputError
from qbrm.interop.ising import check_problem
from qbrm.samplers.base import Couplings, Fields, Spins

PIECES_PER_THREAD = 4
LEAST_CHAINS = 8
# Starting threads takes as long as some hundred thousand spin updates.
WORTH_THREADS = 200_000


class GibbsSampler:
    r"""Sweeps over the spins in a fixed order and draws each given all others.

    .. math:: P(s_j = +1 \mid s_{k \ne j}) = \frac{1}{1 + e^{-2 b_j}}, \qquad b_j = h_j + \sum_k J_{jk} s_k

    Every such update is in detailed balance with p(s), so p(s) is stationary under a sweep. The local fields b are kept
    and, when s_j flips, changed by 2 s_j times column j of J. The chains of all problems run in compiled code
    (`gibbs_kernel`) on as many threads as `torch.get_num_threads()`. Every chain has its own random stream, seeded by
    the generator, so that states depend neither on the number of threads nor on each other's problems.

    A new chain starts without spins: its first sweep draws each given those before it. `go_on` keeps the chains of each
    example from call to call (persistent contrastive divergence; Tieleman, 2008), which is meant for problems that
    change little in between, as they do from one epoch of training to the next.

    Args:
        sweeps: sweeps of a new chain before its first recorded state.
        chains: chains per problem; fewer if fewer states are asked for.
        thin: sweeps between two recorded states of a chain, and before the first one of a continued chain.

    Raises:
        InputError: if a number is below 1, or numba is not installed.
    """

    def __init__(self, sweeps: int = 100, chains: int = 16, thin: int = 5) -> None:
        for name, value in (("sweeps", sweeps), ("chains", chains), ("thin", thin)):
            if value < 1:
                raise InputError(f"gibbs: {name} is {value}; expected at least 1.")
        if find_spec("numba") is None:
            raise InputError("sampler gibbs: the package numba is not installed; pip install 'qbrm[gibbs]'.")
        self.sweeps, self.chains, self.thin = sweeps, chains, thin
        self._kept: dict[str, Int8[Tensor, "examples chains spins"]] = {}

    def __repr__(self) -> str:
        return f"GibbsSampler(sweeps={self.sweeps}, chains={self.chains}, thin={self.thin})"

    def sample(self, fields: Fields, couplings: Couplings, samples: int, generator: torch.Generator) -> Spins:
        """Draw `samples` states of every problem with new chains; see `Sampler.sample`.

        State i is number i // chains of chain i % chains: only states of different chains are quite independent.

        Raises:
            InputError: if `check_problem` refuses the problem.
        """
        check_problem(fields, couplings)
        start = torch.zeros(len(fields), max(1, min(self.chains, samples)), fields.shape[1], device="cpu")
        return self._draw(fields, couplings, samples, generator, start, self.sweeps)

    def go_on(
        self,
        fields: Fields,
        couplings: Couplings,
        samples: int,
        generator: torch.Generator,
        example: Int[Tensor, " batch"],
    ) -> Spins:
        """Draw like `sample`, continuing the chains of each example; see `PersistentSampler.go_on`.

        If any example of a call is new, all chains of that call make the sweeps of a new chain. Where an example occurs
        twice in a call, the chains of its last occurrence are kept.

        Raises:
            InputError: if `check_problem` refuses the problem.
        """
        check_problem(fields, couplings)
        if not len(fields):
            return fields.new_empty(0, samples, fields.shape[1])
        chains = max(1, min(self.chains, samples))
        kept = self._room(f"{chains}x{fields.shape[1]}", int(example.max()) + 1, chains, fields.shape[1])
        example = example.cpu()
        start = kept[example].float()
        is_new = (start[:, 0, 0] == 0).any()
        states = self._draw(fields, couplings, samples, generator, start, self.sweeps if is_new else self.thin)
        kept.numpy()[example.numpy()] = start.to(torch.int8).numpy()  # of equal indices numpy keeps the last
        return states

    def _room(self, name: str, examples: int, chains: int, spins: int) -> Int8[Tensor, "examples chains spins"]:
        """Kept chains of at least `examples` examples; zeros where there is no chain yet."""
        kept = self._kept.get(name, torch.zeros(0, chains, spins, dtype=torch.int8, device="cpu"))
        if len(kept) < examples:
            more = max(examples, 2 * len(kept)) - len(kept)
            kept = self._kept[name] = torch.cat([kept, kept.new_zeros(more, chains, spins)])
        return kept

    def _draw(
        self,
        fields: Fields,
        couplings: Couplings,
        samples: int,
        generator: torch.Generator,
        state: Float[Tensor, "batch chains spins"],
        first: int,
    ) -> Spins:
        """Run the chains from `state`, which is overwritten with where they end."""
        batch, chains, spins = state.shape
        bias = fields.detach().float().cpu()[:, None].expand(-1, chains, -1).contiguous()
        states = torch.empty(batch, chains, -(-samples // chains), spins, device="cpu")
        whole = torch.iinfo(torch.int64)
        drawn_on = generator.device
        keys = torch.randint(whole.min, whole.max, (batch, chains), generator=generator, device=drawn_on).cpu()
        _run(bias, couplings.detach().float().cpu(), state, keys, first, self.thin, states)
        return states.transpose(1, 2).flatten(1, 2)[:, :samples].to(fields)

    def state_dict(self) -> dict[str, Int8[Tensor, "examples chains spins"]]:
        """The kept chains by name, as tensors to save with a model."""
        return dict(self._kept)

    def load_state_dict(self, state: Mapping[str, Int8[Tensor, "examples chains spins"]]) -> None:
        """Go on from saved chains. Raises InputError if a value is not what `state_dict` gives."""
        for name, chains in state.items():
            if chains.ndim != 3 or name != f"{chains.shape[1]}x{chains.shape[2]}" or not (chains.abs() <= 1).all():
                raise InputError(
                    f"gibbs: chains {name!r} have shape {tuple(chains.shape)} and values from {chains.min():g} to "
                    f"{chains.max():g}; expected (examples, chains, spins) and -1, +1, or 0 for no chain yet."
                )
        self._kept = {name: chains.to("cpu", torch.int8, copy=True) for name, chains in state.items()}


def _run(
    bias: Float[Tensor, "batch chains spins"],
    couplings: Couplings,
    state: Float[Tensor, "batch chains spins"],
    keys: Int64[Tensor, "batch chains"],
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
    updates = bias.numel() * (first + thin * (states.shape[2] - 1))
    if updates < WORTH_THREADS:
        run(slice(None))
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, pieces))
