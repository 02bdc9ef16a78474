"""A quantum Boltzmann machine of kaiwu-torch-plugin in the place of EBRM's energy score."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from kaiwu.torch_plugin import BoltzmannMachine

from qbrm import CoupledBoltzmannMachine, GibbsSampler, KaiwuSampler
from qbrm.cli.console import Reporter
from qbrm.energies import ENERGY_SCORES, Clamped
from qbrm.interop.ising import from_units
from qbrm.samplers.kaiwu import KaiwuOptimizer, as_kaiwu_optimizer
from qbrm_lab.comparison import ComparisonSettings, compare
from qbrm_lab.methods.catalogue import METHODS
from qbrm_lab.report import write_report


class KaiwuScore(CoupledBoltzmannMachine):
    """f(e, r) with hidden units whose biases and couplings are those of the plugin's machine, and learn in it."""

    def __init__(self, dim: int, hidden: int = 8, sampler: Any = None, **settings: Any) -> None:
        super().__init__(dim, hidden, sampler=sampler, **settings)
        self.machine = BoltzmannMachine(hidden, device=torch.device("cpu"))

    @property
    def couplings(self) -> torch.Tensor:
        """J among the hidden spins; the machine's units are 0 and 1."""
        return from_units(self.machine.linear_bias, self.machine.symmetrized_quadratic_coef()).couplings

    def clamp(self, embedding: torch.Tensor, base_reward: torch.Tensor) -> Clamped:
        """Clamp the embedding, which adds its fields to the machine's own."""
        own = from_units(self.machine.linear_bias, self.machine.symmetrized_quadratic_coef()).fields
        clamped = super().clamp(embedding, base_reward)
        return clamped._replace(field=clamped.field + own)


ENERGY_SCORES["kaiwu"] = KaiwuScore
METHODS["kaiwu"] = replace(METHODS["qbm"], name="kaiwu", words="a Boltzmann machine of kaiwu-torch-plugin")


def main(source: str, out: str, optimizer: KaiwuOptimizer | None = None, **settings: Any) -> list[Any]:
    """Compare with base rewards and EBRM, on best-of-n and pairwise; draw accuracy.png and training.png."""
    os.environ.setdefault("WANDB_MODE", "offline")
    optimizer = optimizer or as_kaiwu_optimizer(GibbsSampler(), 256, torch.Generator().manual_seed(0))
    asked = {"methods": ("base", "ebrm", "kaiwu"), "epochs": 5, "seeds": 1, "hidden": 8, "wandb": True, **settings}
    asked["sampler"] = KaiwuSampler(optimizer, bits=8)
    write_report(results := compare(ComparisonSettings(Path(source), Path(out), **asked), Reporter()), Path(out))
    return results.rows


if __name__ == "__main__":
    main(*sys.argv[1:])
