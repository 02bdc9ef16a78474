"""How familiar an embedding is: the marginal density that a machine with visible embedding units has of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import torch
from jaxtyping import Float
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn import functional

RANKS = (8, 16, 32, 64, 128)
FAMILIAR_SHARE = 0.8
# Tables of no more rows or columns than this are decomposed exactly.
EXACT_SIZE = 512
OVERSAMPLING = 16

GateRank: TypeAlias = int | Sequence[int]
"""Rank of a gate's density; of both densities for a gate that knows what is to be kept."""


class Familiarity(nn.Module):
    r"""Gate on what a refinement has seen: near one on embeddings like its own, near zero far from them.

    .. math:: g(e) = \sigma\bigl((\log p(e) - t) / w\bigr), \qquad
              \log p(e) = -\tfrac12 \lVert z \rVert^2 - \tfrac{1}{2 v} \lVert d - P^\top P d \rVert^2 + \mathrm{const},
              \qquad d = \hat e - m, \quad z_k = P_k d / \sqrt{\lambda_k}

    The density is that of Gaussian visible units over the standardised embedding, whitened along the `rank` directions
    of greatest variance and with one variance v in all others: probabilistic principal components (Tipping & Bishop,
    1999, J. R. Statist. Soc. B 61, 611), which is a Boltzmann machine with Gaussian visible and hidden units. Threshold
    t and width w come from held-out embeddings: training ones look too familiar.

    A gate that also knows embeddings at which rewards are to be kept weighs their density against its own:

    .. math:: g(e) = \sigma\bigl((\log p(e) - \log p_\mathrm{kept}(e) - t) / w\bigr)

    with t and w by logistic regression on held-out embeddings of both sides.

    Args:
        dim: embedding size D.
        rank: directions with a variance of their own.
        kept_rank: the same of the density of what is to be kept; None for a gate that knows nothing of it.
    """

    mean: Float[Tensor, " dim"]
    directions: Float[Tensor, "rank dim"]
    variances: Float[Tensor, " rank"]
    rest: Float[Tensor, ""]
    threshold: Float[Tensor, ""]
    width: Float[Tensor, ""]

    def __init__(self, dim: int, rank: int, kept_rank: int | None = None) -> None:
        super().__init__()
        self.own_rank = rank
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("directions", torch.zeros(rank, dim))
        self.register_buffer("variances", torch.ones(rank))
        for name, value in (("rest", 1.0), ("threshold", 0.0), ("width", 1.0)):
            self.register_buffer(name, torch.tensor(value))
        self.kept = None if kept_rank is None else Familiarity(dim, kept_rank)

    @classmethod
    def of_rank(cls, dim: int, rank: GateRank) -> Familiarity:
        """A gate of one rank or of two, as :attr:`rank` says it."""
        return cls(dim, rank) if isinstance(rank, int) else cls(dim, *rank)

    @property
    def rank(self) -> GateRank:
        """Rank of the density, or of both densities."""
        return self.own_rank if self.kept is None else [self.own_rank, self.kept.own_rank]

    def log_density(self, embedding: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
        """Log p(e) of standardised embeddings, normalised."""
        centred = embedding - self.mean
        along = centred @ self.directions.T
        outside = (centred.square().sum(1) - along.square().sum(1)).clamp_min(0)
        dims = embedding.shape[1]
        volume = self.variances.log().sum() + (dims - self.own_rank) * self.rest.log() + dims * math.log(2 * math.pi)
        return -(along.square() @ self.variances.reciprocal() + outside / self.rest + volume) / 2

    def forward(self, embedding: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
        """The gate g(e)."""
        return torch.sigmoid((self.evidence(embedding) - self.threshold) / self.width)

    def evidence(self, embedding: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
        """What opens the gate: log p(e), less the log-density of what is to be kept if that is known."""
        own = self.log_density(embedding)
        return own if self.kept is None else own - self.kept.log_density(embedding)

    @torch.no_grad()
    def set_threshold(self, held_out: Float[Tensor, "n dim"]) -> None:
        """Set t so that four in five held-out embeddings lie above it; w is a quarter of the way to their median."""
        low, middle = self.log_density(held_out).quantile(held_out.new_tensor([1 - FAMILIAR_SHARE, 0.5]))
        self.threshold.copy_(low)
        self.width.copy_(((middle - low) / 4).clamp_min(1e-3))

    @torch.no_grad()
    def tell_apart(self, held_out: Float[Tensor, "n dim"], kept: Float[Tensor, "m dim"]) -> None:
        """Set t and w by logistic regression of the side on the evidence, both sides together weighing as much.

        Sides that the evidence tells apart without error would make w zero; Platt's targets, which are not quite zero
        and one, keep it finite (1999, Advances in Large Margin Classifiers, 61).
        """
        evidence = [self.evidence(side).double() for side in (held_out, kept)]
        location, scale = torch.cat(evidence).mean(), torch.cat(evidence).std().clamp_min(1e-6)
        new, old = ((side - location) / scale for side in evidence)
        sure = [(len(side) + 1) / (len(side) + 2) for side in (new, old)]

        def loss(parameters: Sequence[float]) -> float:
            opened, closed = (parameters[0] * side + parameters[1] for side in (new, old))
            of_new = sure[0] * functional.softplus(-opened) + (1 - sure[0]) * functional.softplus(opened)
            of_old = sure[1] * functional.softplus(closed) + (1 - sure[1]) * functional.softplus(-closed)
            return float(of_new.mean() + of_old.mean())

        # A slope of zero, the least allowed but for rounding, is a gate half open everywhere.
        slope, constant = minimize(loss, (1.0, 0.0), bounds=((1e-3, None), (None, None))).x
        self.width.copy_(scale / slope)
        self.threshold.copy_(location - scale * constant / slope)


@torch.no_grad()
def fit_familiarity(train: Float[Tensor, "n dim"], held_out: Float[Tensor, "m dim"]) -> Familiarity:
    """Fit the density to standardised training embeddings; those of other prompts choose its rank and its threshold.

    The rank is the one at which the held-out embeddings are likeliest.
    """
    mean = train.mean(0)
    centred = train - mean
    total, least = centred.square().sum() / len(train), min(train.shape)
    variances, directions = _principal(centred)
    ranks = [rank for rank in RANKS if rank < least] or [max(least - 1, 0)]
    fitted = [_of_rank(rank, mean, variances, directions, total) for rank in ranks]
    best = max(fitted, key=lambda familiarity: float(familiarity.log_density(held_out).mean()))
    best.set_threshold(held_out)
    return best


@torch.no_grad()
def fit_contrast(
    train: Float[Tensor, "n dim"],
    held_out: Float[Tensor, "m dim"],
    kept: Float[Tensor, "k dim"],
    kept_held_out: Float[Tensor, "l dim"],
) -> Familiarity:
    """Fit a gate to both sides: open to standardised embeddings like `train`, closed to those like `kept`.

    The held-out embeddings of each side choose the rank of its density, and together the threshold.
    """
    new, old = fit_familiarity(train, held_out), fit_familiarity(kept, kept_held_out)
    gate = Familiarity(train.shape[1], new.own_rank, old.own_rank).to(train)
    own = new.state_dict()
    gate.load_state_dict(own | {f"kept.{name}": value for name, value in old.state_dict().items()})
    gate.tell_apart(held_out, kept_held_out)
    return gate


def _principal(centred: Float[Tensor, "n dim"]) -> tuple[Float[Tensor, " some"], Float[Tensor, "some dim"]]:
    """Variances and directions of the largest principal components, all that a rank may ask for.

    Large tables by randomised subspace iteration (Halko et al., 2011, SIAM Review 53, 217), at the cost of some passes
    over them, where an exact decomposition would take longer than training does.
    """
    if min(centred.shape) <= EXACT_SIZE:
        _, singular, directions = torch.linalg.svd(centred, full_matrices=False)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            _, singular, columns = torch.svd_lowrank(centred, q=max(RANKS) + OVERSAMPLING, niter=2)
        directions = columns.T
    return singular.square() / len(centred), directions


def _of_rank(
    rank: int,
    mean: Float[Tensor, " dim"],
    variances: Float[Tensor, " some"],
    directions: Float[Tensor, "some dim"],
    total: Float[Tensor, ""],
) -> Familiarity:
    """The density whose `rank` largest variances are its own; the rest of the total is shared evenly."""
    dim = len(mean)
    familiarity = Familiarity(dim, rank).to(mean)
    familiarity.mean.copy_(mean)
    familiarity.directions.copy_(directions[:rank])
    familiarity.variances.copy_(variances[:rank].clamp_min(1e-6))
    familiarity.rest.copy_(((total - variances[:rank].sum()) / max(dim - rank, 1)).clamp_min(1e-6))
    return familiarity
