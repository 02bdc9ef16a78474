"""Log-odds of spins from sampled states, with the gradient that the exact ones have in expectation."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from qbrm.interop.ising import check_problem
from qbrm.samplers.base import Couplings, Fields, Sampler, check_samples, check_varied, identity_of


def sampled_log_odds(
    sampler: Sampler, fields: Fields, couplings: Couplings, samples: int, generator: torch.Generator
) -> Float[Tensor, "batch spins"]:
    r"""Log of P(s_j = +1) / P(s_j = -1) from samples of every problem, one matrix of couplings each.

    .. math:: P(s_j = +1) = \mathbb{E}_s\Bigl[\frac{1}{1 + e^{-2 b_j}}\Bigr], \qquad b_j = h_j + \sum_k J_{jk} s_k

    The mean of the conditional probabilities given all other spins (Rao-Blackwell) is never 0 or 1, and exact without
    couplings. The samples have weights 1 / samples, differentiable as importance weights under changed parameters, so
    that the gradient is the score function's plus that of b.

    Raises:
        InputError: if `check_problem` refuses the problem, or the sampler returns too few samples, other values than -1
            and +1, or one state again and again where others are as likely.
    """
    check_problem(fields, couplings)
    name = identity_of(sampler)
    with torch.no_grad():
        spins = sampler.sample(fields.detach(), couplings.detach(), samples, generator)
        check_samples(spins, fields, samples, name)
        check_varied(spins, fields, couplings, name)
    pull = spins @ couplings
    exponent = (spins * (fields[:, None] + pull / 2)).sum(-1)
    log_weight = torch.log_softmax(exponent - exponent.detach(), 1)[:, :, None]
    local = fields[:, None] + pull
    up, down = (torch.logsumexp(log_weight + functional.logsigmoid(2 * sign * local), 1) for sign in (1, -1))
    return up - down
