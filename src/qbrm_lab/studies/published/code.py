"""The published code, run as it stands from a folder that has a checkout of it; nothing of it is in this project.

Its files train or load models when they are imported, so their functions and classes are run without the rest. What
they would write to disk, print or send to Weights & Biases is dropped; nothing else is changed.
"""

from __future__ import annotations

import ast
import hashlib
import random
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn, optim
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from qbrm.data.pairs import PairData
from qbrm.energies import EBRM
from qbrm.errors import InputError
from qbrm.fitting.objectives import NCEPlus

REPOSITORY = "github.com/AnamikaLochab/EBRM"
TRAINING_FILE = Path("src/reward_modeling/ebm_training/ebm_nce_plus.py")
ASCENT_FILE = Path("src/reward_modeling/scoring/score.py")
TRAINING_NAMES = (
    *("EBM_DNN", "compute_log_Z_batch", "build_distributions", "batch_loss_function"),
    *("infer_rewards_batch", "validation", "validation_true", "train_ebm"),
)
ASCENT_NAMES = ("infer_rewards_batch_dramatic", "infer_rewards_batch")
# What its scripts are called with.
SIGMA, BETA, PENALTY = 3.5, 0.1, 0.05
BATCH, LEARNING_RATE, WEIGHT_DECAY = 256, 9e-5, 1e-2
STEPS, STEP_SIZE, SHRINK, RESTART_WITHIN, ASCENT_BATCH = 50, 0.5, 0.1, [-4.0, 4.0], 1024
LOOKED_AT = 4


class PublishedCode:
    """Training and ascent of Lochab & Zhang (2025), arXiv 2504.13134, by their own functions.

    Args:
        folder: of a checkout of the repository.

    Raises:
        InputError: if the folder lacks a file, or a file one of the functions.
    """

    def __init__(self, folder: Path) -> None:
        self._training = _definitions(folder, TRAINING_FILE, TRAINING_NAMES)
        self._ascent = _definitions(folder, ASCENT_FILE, ASCENT_NAMES)

    def train(self, pairs: PairData, noise_samples: int, epochs: int, seed: int) -> nn.Module:
        """Its network after its training on pairs whose rewards are in the units that the network is to see.

        The responses of each pair follow each other, in the order of the pairs, as its files have them.
        """
        torch.manual_seed(seed)
        model: nn.Module = self._training["EBM_DNN"](embedding_size=pairs.dim)
        rows = torch.stack([pairs.chosen, pairs.rejected], 1).flatten()
        data = TensorDataset(pairs.embedding[rows], pairs.reward[rows])
        # It shows the accuracy on validation pairs after every epoch, which chooses nothing: a few will do.
        shown = TensorDataset(*(part[:LOOKED_AT] for part in data.tensors))
        self._training |= {"model": model, "device": torch.device("cpu")}
        noise = {"beta": BETA, "M": noise_samples, "std_devs": [SIGMA], "lambda_reg": PENALTY}
        optimiser = {"batch_size": BATCH, "learning_rate": LEARNING_RATE, "weight_decay": WEIGHT_DECAY}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            self._training["train_ebm"](model, data, shown, epochs=epochs, **noise, **optimiser)
        return model.eval()

    def refined(
        self, model: nn.Module, embedding: Float[Tensor, "n dim"], reward: Float[Tensor, " n"], hybrid: bool, seed: int
    ) -> Float[Tensor, " n"]:
        """Its ascent from r0, or with `hybrid` from a random reward where r0 is beyond 2."""
        torch.manual_seed(seed)
        told: dict[str, Any] = {"T": STEPS, "lambda_init": STEP_SIZE, "eta": SHRINK, "batch_size": ASCENT_BATCH}
        name = "infer_rewards_batch_dramatic" if hybrid else "infer_rewards_batch"
        refined: Tensor = self._ascent[name](model, embedding, y_init=reward, init_range=RESTART_WITHIN, **told)
        return refined

    @torch.no_grad()
    def value(
        self, model: nn.Module, embedding: Float[Tensor, "n dim"], reward: Float[Tensor, " n"]
    ) -> Float[Tensor, " n"]:
        """Its f(e, r)."""
        value: Tensor = model(embedding, reward)
        return value[:, 0]

    @torch.no_grad()
    def loss(
        self, model: nn.Module, embedding: Float[Tensor, "n dim"], reward: Float[Tensor, " n"], samples: int, seed: int
    ) -> tuple[float, GivenNoise]:
        """Its loss of these examples, and our objective with the noise that it drew for it."""
        torch.manual_seed(seed)
        drawn: list[Tensor] = []
        build = self._training["build_distributions"]

        def recorded(*given: Any) -> Any:
            both = build(*given)
            for distribution in both:
                distribution.sample = _keeping(distribution.sample, drawn)
            return both

        changed = {"build_distributions": recorded}
        loss = _with_globals(self._training["batch_loss_function"], changed)
        value = float(loss(model, embedding, reward, [SIGMA], beta=BETA, M=samples, l_reg=PENALTY))
        positive, negatives = drawn
        given = positive[:, None] / BETA, (negatives - reward).T
        return value, GivenNoise(samples, (SIGMA,), BETA, PENALTY, given=given)


@dataclass(frozen=True, kw_only=True)
class GivenNoise(NCEPlus):
    """NCE+ with noise that was drawn elsewhere: `given` are the positives', before beta, and the negatives'."""

    given: tuple[Float[Tensor, "rows 1"], Float[Tensor, "rows samples"]]

    def noise(self, rows: int, columns: int, generator: torch.Generator) -> Float[Tensor, "rows columns"]:
        """What was drawn for so many columns."""
        positive, negatives = self.given
        return positive if columns == 1 else negatives


def same_weights(model: nn.Module, reads: int) -> EBRM:
    """Our network with the weights of the published one: both have the same layers in the same order."""
    score = EBRM(reads)
    with torch.no_grad():
        for ours, published in zip(score.parameters(), model.parameters(), strict=True):
            ours.copy_(published)
    return score.eval()


def code_digest(folder: Path) -> str:
    """Digest of the files that are run. Raises InputError if one is missing."""
    digest = hashlib.sha256()
    for file in (TRAINING_FILE, ASCENT_FILE):
        digest.update(_source(folder, file).encode())
    return digest.hexdigest()


def _definitions(folder: Path, file: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """Run some functions and classes of a file, with what they use of other packages."""
    try:
        tree = ast.parse(_source(folder, file))
    except SyntaxError as error:
        raise InputError(f"{folder / file} is not Python: {error}.") from error
    kinds = (ast.FunctionDef, ast.ClassDef)
    tree.body = [node for node in tree.body if isinstance(node, kinds) and node.name in names]
    missing = sorted(set(names) - {node.name for node in tree.body if isinstance(node, kinds)})
    if missing:
        raise InputError(f"{folder / file} has no {missing[0]}; expected the published code, {REPOSITORY}.")
    namespace = _surroundings()
    exec(compile(tree, str(folder / file), "exec"), namespace)
    return namespace


def _source(folder: Path, file: Path) -> str:
    try:
        return (folder / file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"--published {folder} has no readable {file}; expected a checkout of {REPOSITORY}."
        ) from error


def _surroundings() -> dict[str, Any]:
    """The names that the published files import, less what writes."""
    keeps_nothing = SimpleNamespace(**vars(torch) | {"save": _nothing})
    return {
        "__name__": "published_ebrm",
        "torch": keeps_nothing,
        "nn": nn,
        "F": functional,
        "optim": optim,
        "np": np,
        "random": random,
        "time": time,
        "DataLoader": DataLoader,
        "Dataset": Dataset,
        "wandb": SimpleNamespace(init=_nothing, log=_nothing),
        "print": _nothing,
    }


def _nothing(*given: Any, **named: Any) -> None:
    """Do nothing."""


def _keeping(sample: Any, drawn: list[Tensor]) -> Any:
    def keeping(*given: Any) -> Tensor:
        drawn.append(sample(*given))
        return drawn[-1]

    return keeping


def _with_globals(function: Any, changed: Mapping[str, Any]) -> Any:
    """The function with other values for some of the names that it looks up."""
    names = {**function.__globals__, **changed}
    return type(function)(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
