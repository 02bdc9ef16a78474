"""The hidden layer of a trained `qbm`, one example at a time, as an Ising problem that other packages take."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.energies.qbm import CoupledBoltzmannMachine
from qbrm.errors import InputError
from qbrm.interop.ising import Ising, check_problem


@torch.no_grad()
def hidden_ising(score: CoupledBoltzmannMachine, embedding: Float[Tensor, " dim"], base_reward: float) -> Ising:
    r"""The problem over a score's hidden spins, the embedding clamped and the reward integrated out.

    .. math:: h = W e + c + m u, \qquad J' = J + u u^\top / L \text{ without its diagonal},
              \qquad m = \mu / (\tau^2 L),\quad L = 1 / \tau^2 + |u|^2

    As u couples all hidden spins through the reward, they are not two layers even if J = 0; see
    :func:`~qbrm.interop.ising.with_pair_spins` for a restricted machine.

    Args:
        score: the machine.
        embedding: e.
        base_reward: r0, in the reward model's units.

    Raises:
        InputError: if the embedding has another size than the score's, or something is not finite.
    """
    if embedding.shape != (score.dim,):
        raise InputError(f"embedding has shape {tuple(embedding.shape)}; expected {(score.dim,)}.")
    fields, couplings = score.hidden_problem(score.clamp(embedding[None], embedding.new_tensor([base_reward])))
    check_problem(fields, couplings)
    return Ising(fields[0].clone(), couplings.clone())


@torch.no_grad()
def load_hidden_ising(
    score: CoupledBoltzmannMachine, problem: Ising, embedding: Float[Tensor, " dim"], base_reward: float
) -> None:
    r"""Set a score's c and J so that one example has a given hidden problem; the inverse of :func:`hidden_ising`.

    The problem has M fields and M (M - 1) / 2 couplings, as many numbers as c and J, so nothing else can come back from
    it: W, u, a, tau and the units of reward and embedding stay as they are in the score. For p(r | e) to come back as
    well, they must equal those of the score that the problem came from. The problems of other examples change too,
    since c and J are shared.

    Args:
        score: changed in place.
        problem: of as many spins as the score has hidden ones.
        embedding: e of the example.
        base_reward: r0 of the example, in the reward model's units.

    Raises:
        InputError: if the problem is not one or has another number of spins, the embedding does not fit, or the score's
            gate is closed to this embedding, so that no c has an effect.
    """
    check_problem(problem.fields[None], problem.couplings)
    if len(problem.fields) != score.hidden:
        raise InputError(f"problem of {len(problem.fields)} spins; expected {score.hidden}, the score's hidden spins.")
    fields, couplings = hidden_ising(score, embedding, base_reward)
    if len(fields) != score.hidden:
        raise InputError(f"hidden qubits with a path integral over {len(fields)} spins; expected a machine of spins.")
    bias = score.c[0] + (problem.fields.to(fields) - fields) / score.familiarity(embedding[None])
    if not torch.isfinite(bias).all():
        raise InputError("the score's gate is closed to this embedding; expected one like those it was trained on.")
    rows, columns = torch.triu_indices(score.hidden, score.hidden, 1, device=fields.device)
    score.c.copy_(bias[None])
    score.upper_couplings.add_((problem.couplings.to(couplings) - couplings)[rows, columns])
