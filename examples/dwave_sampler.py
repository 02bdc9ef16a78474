"""A Boltzmann machine of dwave-pytorch-plugin in the place of EBRM's energy score, with any dimod sampler."""

from __future__ import annotations

import itertools
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from dwave.plugins.torch.models import GraphRestrictedBoltzmannMachine
from dwave.samplers import SimulatedAnnealingSampler

from qbrm import CoupledBoltzmannMachine, DimodSampler
from qbrm.cli.console import Reporter
from qbrm.energies import ENERGY_SCORES, Clamped
from qbrm_lab.comparison import ComparisonSettings, compare
from qbrm_lab.methods.catalogue import METHODS
from qbrm_lab.report import write_report


class DWaveScore(CoupledBoltzmannMachine):
    """f(e, r) with hidden spins whose biases and couplings are those of the plugin's machine, and learn in it."""

    def __init__(self, dim: int, hidden: int = 8, sampler: Any = None, **settings: Any) -> None:
        super().__init__(dim, hidden, sampler=sampler, **settings)
        pairs = [*itertools.combinations(range(hidden), 2)]  # or the edges of a device
        self.machine = GraphRestrictedBoltzmannMachine(range(hidden), pairs, quadratic=dict.fromkeys(pairs, 0.0))

    @property
    def couplings(self) -> torch.Tensor:
        """J among the hidden spins: minus the machine's, whose energies are minus our log-weights."""
        places = self.machine.edge_idx_i, self.machine.edge_idx_j
        upper = self.u.new_zeros(self.hidden, self.hidden).index_put(places, -self.machine.quadratic)
        return upper + upper.T

    def clamp(self, embedding: torch.Tensor, base_reward: torch.Tensor) -> Clamped:
        """Clamp the embedding, which adds its fields to the machine's own."""
        clamped = super().clamp(embedding, base_reward)
        return clamped._replace(field=clamped.field - self.machine.linear)


ENERGY_SCORES["dwave"] = DWaveScore
METHODS["dwave"] = replace(METHODS["qbm"], name="dwave", words="a Boltzmann machine of dwave-pytorch-plugin")


def main(source: str, out: str, sampler: DimodSampler | None = None, **settings: Any) -> list[Any]:
    """Compare with base rewards and EBRM, on best-of-n and pairwise; draw accuracy.png and training.png."""
    os.environ.setdefault("WANDB_MODE", "offline")
    asked = {"methods": ("base", "ebrm", "dwave"), "epochs": 5, "seeds": 1, "hidden": 8, "wandb": True, **settings}
    asked["sampler"] = sampler or DimodSampler(SimulatedAnnealingSampler(), {"beta_range": (0.1, 1.0)})
    write_report(results := compare(ComparisonSettings(Path(source), Path(out), **asked), Reporter()), Path(out))
    return results.rows


if __name__ == "__main__":
    main(*sys.argv[1:])
