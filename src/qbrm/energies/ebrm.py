"""The published energy score: a network over embedding and reward."""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from qbrm.energies.base import Clamped, EnergyScore, Lattice
from qbrm.fitting import FitSettings, TrainingSettings

REWARD_WIDTHS = (16, 32, 64)
JOINT_WIDTHS = (1024, 512)
SUPPORT = 10.0
NODE_STEP = 0.1


class HalfDropout(nn.Module):
    """``nn.Dropout(0.5)`` with single random bits, where that draws 32 for every activation: a third of training."""

    def forward(self, hidden: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Each activation is zero or doubled while training, and left alone in evaluation."""
        if not self.training:
            return hidden
        drawn = torch.empty(-(-hidden.numel() // 8), dtype=torch.uint8, device="cpu").random_(0, 256)
        bits = torch.from_numpy(np.unpackbits(drawn.numpy(), count=hidden.numel())).to(hidden.device)
        return hidden * bits.to(hidden.dtype).mul_(2).view(hidden.shape)


class EBRM(EnergyScore):
    r"""Energy-based reward model: a multilayer perceptron over the embedding and the reward.

    .. math:: f(e, r) = w_3^\top \tanh\bigl(W_2 \tanh(W_e e + W_r h(r) + b_1) + b_2\bigr) + b_3

    h lifts the reward 1 -> 16 -> 32 -> 64 through tanh layers; dropout of 0.5 follows the first two of them and both
    joint layers (1024 and 512 wide). W_e e is computed once per example however many rewards are asked for, which
    changes nothing but the order of a sum. Lochab & Zhang (2025), arXiv 2504.13134, section 4 and published code.

    f is bounded, so exp f has no integral over the whole line; densities are normalised on
    [-10, 10] in standardised units, which holds 2.8 standard deviations of the published noise (sigma 3.5) to either
    side and every reward that refinement can start from.

    Args:
        dim: embedding size D.
        reads: how many coordinates of the embedding it is given, the first ones; None for all. The published e is what
            the reward model's score head reads, and where an embedding has more than that, it stands behind it.
    """

    chunk_rows: ClassVar[int] = 256
    fit_settings: ClassVar[FitSettings] = FitSettings(
        objective="nce",
        filter_conflicts=True,
        training=TrainingSettings(epochs=5, batch_pairs=128, learning_rate=9e-5, weight_decay=1e-2),
    )
    refinement: ClassVar[str] = "ascent"

    def __init__(self, dim: int, reads: int | None = None) -> None:
        super().__init__(dim)
        self.reads = reads
        widths = (1, *REWARD_WIDTHS)
        self.reward_layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.joint = nn.Linear((reads or dim) + REWARD_WIDTHS[-1], JOINT_WIDTHS[0])
        self.hidden = nn.Linear(*JOINT_WIDTHS)
        self.output = nn.Linear(JOINT_WIDTHS[1], 1)
        self.dropout = HalfDropout()

    @override
    def settings(self) -> dict[str, Any]:
        return {"dim": self.dim, "reads": self.reads}

    @override
    def clamp(self, embedding: Float[Tensor, "batch dim"], base_reward: Float[Tensor, " batch"]) -> Clamped:
        weight = self.joint.weight[:, : -REWARD_WIDTHS[-1]]
        field = functional.linear(embedding[:, : self.reads], weight, self.joint.bias)
        standard = self.to_standard(base_reward)
        return Clamped(field, standard, standard)

    @override
    def at(self, clamped: Clamped, reward: Float[Tensor, "#batch n"]) -> Float[Tensor, "batch n"]:
        # Lifting before broadcasting would share one dropout mask among examples, which the published code does not.
        if self.training:
            reward = reward.expand(len(clamped.field), -1)
        lifted = functional.linear(self._lift(reward), self.joint.weight[:, -REWARD_WIDTHS[-1] :])
        hidden = self.dropout(torch.tanh(clamped.field[:, None, :] + lifted))
        hidden = self.dropout(torch.tanh(self.hidden(hidden)))
        out: Tensor = self.output(hidden)
        return out[..., 0]

    def _lift(self, reward: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n 64"]:
        hidden = reward[..., None]
        *others, last = self.reward_layers
        for layer in others:
            hidden = self.dropout(torch.tanh(layer(hidden)))
        return torch.tanh(last(hidden))

    @override
    def lattice(self, clamped: Clamped, spacing: float = 0.8) -> Lattice:
        # Nothing bounds the network's curvature; a tenth of a standard deviation resolves what training produced.
        reach = round(SUPPORT / NODE_STEP * max(1.0, 0.8 / spacing))
        # Nodes are the midpoints of cells that fill the support, at whose ends f does not vanish.
        nodes = 2 * reach + 1
        first = torch.tensor([-reach], device=clamped.mean.device)
        return Lattice(first, 2 * SUPPORT / nodes, nodes, clamped.mean.dtype)
