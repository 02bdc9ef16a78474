"""Coupled qubits in a transverse field, exactly: the trace of their Gibbs state, its moments and its derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qbrm.errors import InputError
from qbrm.interop.ising import check_problem

MAX_QUBITS = 10
# Matrix entries that are diagonalised at once: a part of the batch stays in the cache.
CHUNK = 2**20
# Fewer entries than this are not worth a second thread.
WORTH_A_THREAD = 2**17

Fields: TypeAlias = Float[Tensor, "batch qubits"]
Couplings: TypeAlias = Float[Tensor, "qubits qubits"]
Transverse: TypeAlias = Float[Tensor, " qubits"]


class QuantumMoments(NamedTuple):
    """What the Gibbs state of the qubits says: log Tr exp(-H), and expectations of each sigma^z and sigma^x."""

    log_partition: Float[Tensor, " batch"]
    along_z: Float[Tensor, "batch qubits"]
    along_x: Float[Tensor, "batch qubits"]


class Response(NamedTuple):
    """First and second derivative of log Tr exp(-H) as all fields move along one direction."""

    first: Float[Tensor, " batch"]
    second: Float[Tensor, " batch"]


def diagonalise(fields: Fields, couplings: Couplings, transverse: Transverse) -> QuantumMoments:
    r"""Moments of the Gibbs state of a transverse-field Ising model, by diagonalising its Hamiltonian.

    .. math:: \rho \propto e^{-H}, \qquad
              -H = \sum_j h_j \sigma^z_j + \tfrac12 \sum_{jk} J_{jk} \sigma^z_j \sigma^z_k + \sum_j \Gamma_j \sigma^x_j

    Memory and time grow as 4^M and 8^M per example. Computed in float64.

    Args:
        fields: h.
        couplings: J, symmetric with zero diagonal.
        transverse: Gamma.

    Raises:
        InputError: if the problem is not one, has more than ten qubits, or the transverse field has another length or
            is not finite.
    """
    check_problem(fields, couplings)
    qubits = fields.shape[1]
    if transverse.shape != (qubits,):
        raise InputError(f"transverse field has shape {tuple(transverse.shape)}; expected {(qubits,)}.")
    if not torch.isfinite(transverse).all():
        raise InputError(f"transverse field is {transverse.tolist()}; expected finite numbers.")
    log_trace, populations, along_x = _moments(fields.double(), couplings.double(), transverse.double())
    return QuantumMoments(log_trace, populations @ _z_values(qubits, fields.device, torch.float64), along_x)


def log_partition(fields: Fields, couplings: Couplings, transverse: Transverse) -> Float[Tensor, " batch"]:
    """Log Tr exp(-H) of every example, in the fields' dtype; differentiable once.

    The gradient is d log Tr exp(-H) = -Tr(rho dH): expectations in the Gibbs state, which need the eigenvectors but no
    difference of eigenvalues, so degenerate ones do no harm. Every J_jk is taken on its own: its gradient is half the
    expectation of sigma^z_j sigma^z_k.

    Raises:
        InputError: if there are more than ten qubits.
    """
    if torch.is_grad_enabled() and any(part.requires_grad for part in (fields, couplings, transverse)):
        return _LogPartition.apply(fields, couplings, transverse)  # type: ignore[no-any-return, no-untyped-call]
    (log_trace,) = _of_examples(_log_trace, fields, couplings, transverse)
    return log_trace


def response(fields: Fields, couplings: Couplings, transverse: Transverse, direction: Transverse) -> Response:
    r"""Derivatives of log Tr exp(-H) in t as the fields become h + t u, at t = 0, from one diagonalisation.

    .. math:: F' = \langle A \rangle, \qquad
              F'' = \sum_{kl} \frac{p_k - p_l}{\lambda_k - \lambda_l}\, \bigl| \langle k | A - F' | l \rangle \bigr|^2,
              \qquad A = \sum_j u_j \sigma^z_j

    with p_k = exp(lambda_k) / Z over the eigenvalues of -H, and p_k in place of the quotient where eigenvalues are
    equal: the Kubo-Mori variance of A. The quotient is max(p_k, p_l) (1 - exp(-x)) / x in x = |lambda_k - lambda_l|,
    which is stable at any x. Not differentiable.

    Raises:
        InputError: if there are more than ten qubits.
    """
    return Response(*_of_examples(partial(_response, direction.detach()), fields, couplings, transverse))


class _Hamiltonian(NamedTuple):
    """What the examples share of -H: the values of sigma^z, all but the fields, and what each sigma^x exchanges."""

    z: Float[Tensor, "states qubits"]
    shared: Float[Tensor, "states states"]
    flipped: Int[Tensor, "qubits states"]

    def exponent(self, fields: Fields) -> Float[Tensor, "batch states states"]:
        """-H of every example."""
        exponent = self.shared.repeat(len(fields), 1, 1)
        exponent.diagonal(dim1=-2, dim2=-1).add_(fields @ self.z.T)
        return exponent


def _hamiltonian(couplings: Couplings, transverse: Transverse) -> _Hamiltonian:
    qubits = len(transverse)
    if qubits > MAX_QUBITS:
        raise InputError(
            f"exact diagonalisation of {qubits} qubits; expected {MAX_QUBITS} or fewer, or a sampler for their path "
            "integral."
        )
    z, flipped = _z_values(qubits, couplings.device, couplings.dtype), _flipped(qubits, couplings.device)
    shared = torch.diag(((z @ couplings) * z).sum(-1) / 2)
    shared.scatter_(1, flipped.T, transverse.expand(len(z), -1))
    return _Hamiltonian(z, shared, flipped)


@lru_cache(maxsize=32)
def _z_values(qubits: int, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "states qubits"]:
    """Every basis state's sigma^z values."""
    states = torch.arange(2**qubits, device=device)
    return 1 - 2 * (states[:, None] >> torch.arange(qubits, device=device) & 1).to(dtype)


@lru_cache(maxsize=32)
def _flipped(qubits: int, device: torch.device) -> Int[Tensor, "qubits states"]:
    """The basis state into which the sigma^x of each qubit turns each."""
    return torch.arange(2**qubits, device=device) ^ (1 << torch.arange(qubits, device=device))[:, None]


class _LogPartition(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, fields: Fields, couplings: Couplings, transverse: Transverse) -> Float[Tensor, " batch"]:
        log_trace, populations, along_x = _moments(fields, couplings, transverse)
        ctx.save_for_backward(populations, along_x)
        return log_trace

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grad: Float[Tensor, " batch"]) -> tuple[Fields, Couplings, Transverse]:
        populations, along_x = ctx.saved_tensors
        z = _z_values(along_x.shape[1], along_x.device, along_x.dtype)
        correlations = z.T @ ((grad[0] @ populations)[:, None] * z)
        return grad[0][:, None] * (populations @ z), correlations / 2, grad[0] @ along_x


def _moments(
    fields: Fields, couplings: Couplings, transverse: Transverse
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch states"], Float[Tensor, "batch qubits"]]:
    """Log Tr exp(-H), the probability of each basis state, and the expectation of each sigma^x."""
    log_trace, populations, along_x = _of_examples(_moments_of, fields, couplings, transverse)
    return log_trace, populations, along_x


def _of_examples(
    work: Callable[[_Hamiltonian, Fields], tuple[Tensor, ...]],
    fields: Fields,
    couplings: Couplings,
    transverse: Transverse,
) -> tuple[Tensor, ...]:
    """The results of `work` on all examples; FloatingPointError where something is not finite."""
    for name, part in (("hidden fields", fields), ("couplings", couplings), ("transverse field", transverse)):
        if not torch.isfinite(part).all():
            raise FloatingPointError(f"{name} are not finite")
    hamiltonian = _hamiltonian(couplings.detach(), transverse.detach())
    return in_parts(partial(work, hamiltonian), fields, len(hamiltonian.z))


def _moments_of(hamiltonian: _Hamiltonian, fields: Fields) -> tuple[Tensor, ...]:
    values, vectors = torch.linalg.eigh(hamiltonian.exponent(fields))
    state = (vectors * torch.softmax(values, -1)[:, None]) @ vectors.mT
    along_x = state[:, torch.arange(len(hamiltonian.z), device=state.device), hamiltonian.flipped].sum(-1)
    return torch.logsumexp(values, -1), state.diagonal(dim1=-2, dim2=-1), along_x


def _log_trace(hamiltonian: _Hamiltonian, fields: Fields) -> tuple[Tensor, ...]:
    return (torch.logsumexp(torch.linalg.eigvalsh(hamiltonian.exponent(fields)), -1),)


def _response(direction: Transverse, hamiltonian: _Hamiltonian, fields: Fields) -> tuple[Tensor, ...]:
    values, vectors = torch.linalg.eigh(hamiltonian.exponent(fields))
    probability = torch.softmax(values, -1)
    operator = hamiltonian.z @ direction
    first = (vectors.square() @ probability[..., None])[..., 0] @ operator
    centred = vectors.mT @ ((operator - first[:, None])[..., None] * vectors)
    gap = (values[:, :, None] - values[:, None, :]).abs_().clamp_min_(1e-12)
    larger = torch.maximum(probability[:, :, None], probability[:, None, :])
    quotient = torch.expm1(-gap).neg_().div_(gap).mul_(larger)
    return first, quotient.mul_(centred.square_()).sum((-2, -1))


def in_parts(work: Callable[[Tensor], tuple[Tensor, ...]], batch: Tensor, states: int) -> tuple[Tensor, ...]:
    """The results of `work` on parts of a batch, put together; every thread takes parts of its own.

    LAPACK gains nothing from a second thread on matrices this small, but the examples of a batch are independent.

    Args:
        work: from some rows of the batch to as many rows of results; not differentiated.
        batch: one row per example.
        states: N; each example has a matrix of N x N.
    """
    threads = torch.get_num_threads()
    workers = threads if batch.device.type == "cpu" and len(batch) * states**2 >= WORTH_A_THREAD else 1
    size = max(1, min(CHUNK // states**2, math.ceil(len(batch) / workers)))
    parts = torch.split(batch.detach(), size)
    results = _on_threads(torch.no_grad()(work), parts, min(workers, len(parts)), threads)
    return tuple(torch.cat(result) for result in zip(*results, strict=True))


def _on_threads(
    work: Callable[[Tensor], tuple[Tensor, ...]], parts: tuple[Tensor, ...], workers: int, threads: int
) -> list[tuple[Tensor, ...]]:
    """The results of all parts from some workers that use one thread each; this process has `threads`."""
    torch.set_num_threads(1)
    try:
        if workers == 1:
            return [work(part) for part in parts]
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, parts))
    finally:
        torch.set_num_threads(threads)
