"""dimod's binary quadratic models, as D-Wave's and OpenJij's samplers take them."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

import numpy as np
import torch

from qbrm.errors import InputError
from qbrm.interop.ising import Ising

if TYPE_CHECKING:
    from dimod import BinaryQuadraticModel


def to_bqm(problem: Ising) -> BinaryQuadraticModel:
    r"""The model whose energy is minus our log-weight. Its variables are 0 to M - 1; pairs with J = 0 are left out.

    .. math:: E(s) = -\sum_i h_i s_i - \sum_{i<j} J_{ij} s_i s_j

    Raises:
        InputError: if dimod is not installed.
    """
    try:
        from dimod import BinaryQuadraticModel
    except ImportError as error:
        raise InputError("dimod samplers: the package dimod is not installed; pip install 'qbrm[dwave]'.") from error
    fields, couplings = (part.detach().double().cpu().numpy() for part in problem)
    rows, columns = np.nonzero(np.triu(couplings, 1))
    return BinaryQuadraticModel.from_numpy_vectors(
        -fields, (rows, columns, -couplings[rows, columns]), 0.0, "SPIN", variable_order=range(len(fields))
    )


def from_bqm(model: BinaryQuadraticModel) -> tuple[Ising, list[Hashable]]:
    """The problem whose log-weight is minus the model's energy up to a constant, and the variable that each spin is.

    A model in units 0 and 1 is read in spins.
    """
    spins = model.spin
    variables = list(spins.variables)
    place = {variable: index for index, variable in enumerate(variables)}
    linear = [-spins.get_linear(variable) for variable in variables]
    fields = torch.tensor(linear, dtype=torch.float64, device="cpu")
    couplings = fields.new_zeros(len(variables), len(variables))
    for first, second, bias in spins.iter_quadratic():
        couplings[place[first], place[second]] = couplings[place[second], place[first]] = -bias
    return Ising(fields, couplings), variables
