"""A simulated world, where the true reward of every response is known: it stands in for people."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.data.pairs import PairData
from qbrm.data.units import location_and_scale

WIDTH = 1024
# Of 1, 2 and 4, the gain with which a reward model trained on gold labels ranks held-out pairs of RMB about as well as
# one trained on RMB's own labels: 68% and 66%. The other gains give 76% and 64%.
GAIN = 2.0


class SimulatedGold:
    r"""A fixed random function of an encoder's vector x, taken for the true reward.

    .. math:: g(x) = v^\top \tanh(A_2 \tanh(A_1 \hat x + b_1) + b_2)

    x^ is the vector, standardised per dimension. All weights are normal, those of A_1 and A_2 with variance
    `GAIN`^2 over their number of inputs, so that most units saturate and g bends along every direction. g has mean zero
    and deviation one over the vectors given. The vector holds the prompt too: what is good depends on what was asked.

    Args:
        vector: real vectors, which set the units.
        seed: seeds the weights; another seed is another world.
    """

    def __init__(self, vector: Float[Tensor, "n dim"], seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        self._loc, self._scale = location_and_scale(vector)
        self._layers = [
            (GAIN / math.sqrt(inputs) * normal(WIDTH, inputs), normal(WIDTH)) for inputs in (vector.shape[1], WIDTH)
        ]
        self._out = normal(WIDTH)
        self._mean, self._deviation = torch.zeros(()), torch.ones(())
        reward = self(vector)
        self._mean, self._deviation = reward.mean(), reward.std()

    def __call__(self, vector: Float[Tensor, "n dim"]) -> Float[Tensor, " n"]:
        """Gold rewards."""
        hidden = (vector - self._loc) / self._scale
        for weight, bias in self._layers:
            hidden = torch.tanh(hidden @ weight.T + bias)
        return (hidden @ self._out - self._mean) / self._deviation


def labelled(pairs: PairData, gold: Float[Tensor, " responses"]) -> PairData:
    """The same pairs; the response with the greater gold reward is the chosen one."""
    right = gold[pairs.chosen] >= gold[pairs.rejected]
    chosen = torch.where(right, pairs.chosen, pairs.rejected)
    return pairs._replace(chosen=chosen, rejected=pairs.chosen + pairs.rejected - chosen)
