"""One training loop for every model that learns from preference pairs."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import nn

from qbrm.data.pairs import Batch, Pairs
from qbrm.errors import InputError, TrainingError
from qbrm.fitting.checkpoint import (
    Best,
    KeepsChains,
    load_checkpoint,
    part_of_checkpoint,
    read_progress,
    save_checkpoint,
)
from qbrm.fitting.objectives import Objective
from qbrm.fitting.settings import TrainingSettings

Model = TypeVar("Model", bound=nn.Module)
Epoch = dict[str, float]

VALIDATION_BATCH = 256


class Within(NamedTuple):
    """A place within an epoch, as JSON has it: batches and pairs done, the sum of their loss, and seconds spent.

    `noise` has the states of PyTorch's own generator and of the epoch's, in hexadecimal.
    """

    batches: int
    pairs: int
    loss: float
    seconds: float
    noise: list[str]

    @classmethod
    def now(cls, batches: int, pairs: int, loss: float, seconds: float, generator: torch.Generator) -> Within:
        """After the latest batch."""
        states = torch.get_rng_state(), generator.get_state()
        return cls(batches, pairs, loss, seconds, [state.numpy().tobytes().hex() for state in states])

    def restore(self, generator: torch.Generator) -> None:
        """Set all random generators to where they were."""
        own, epochs = (torch.frombuffer(bytearray.fromhex(state), dtype=torch.uint8) for state in self.noise)
        torch.set_rng_state(own)
        generator.set_state(epochs)


class Training(NamedTuple):
    """What a training run left behind.

    Attributes:
        epochs: metrics per epoch, from epoch 0 (untrained) on; each has ``epoch``, ``validation_loss`` and, from epoch
            1 on, ``loss``, beside what the caller measured.
        best: number of the epoch whose weights the model now has.
        seconds: time spent training, over all resumptions.
        examples: responses trained on, repetitions counted.
    """

    epochs: list[Epoch]
    best: int
    seconds: float
    examples: int


def train(
    model: Model,
    objective: Objective[Model],
    pairs: Pairs,
    validation: Pairs,
    settings: TrainingSettings,
    seed: int,
    *,
    validation_objective: Objective[Model] | None = None,
    checkpoint: Path | None = None,
    measure: Callable[[Model], Mapping[str, float]] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Training:
    """Minimise `objective` with AdamW and keep the epoch with the lowest validation loss.

    Epoch 0, the untrained model, takes part in the choice unless the settings say otherwise: a refinement that starts
    from the base reward ends no worse than that on validation data. The same seed gives the same weights, also through
    a stop and a resumption.

    Args:
        model: trained in place; ends with the best epoch's weights, in evaluation mode.
        objective: the loss.
        pairs: training pairs.
        validation: held-out pairs that choose the epoch.
        settings: optimiser and schedule.
        seed: seeds shuffling, noise and dropout.
        validation_objective: the loss on validation pairs; None for the same.
        checkpoint: file that keeps the state after every epoch, and within one as often as the settings say; training
            resumes from it if it is there.
        measure: further metrics of the model after an epoch.
        on_epoch: called after every new epoch.

    Raises:
        TrainingError: if a loss is not finite, or a sampler's device fails; the checkpoint keeps the last good epoch.
    """
    started = {
        "model": repr(model),
        "objective": f"{type(objective).__name__} {vars(objective)}",
        "settings": asdict(settings),
        "seed": seed,
        # Hashing the features takes longer than an epoch over them, and only a checkpoint asks for it.
        "data": [pairs.digest(), validation.digest()] if checkpoint is not None else [],
    }
    groups = settings.parameter_groups(model)
    learning_rates = [group["lr"] for group in groups]
    optimiser = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
    history, best, seconds, within = _resume(checkpoint, model, optimiser, started)

    def keep(within: Within | None) -> None:
        if checkpoint is not None:
            progress = {**started, "epochs": history, "seconds": seconds, "within": within and within._asdict()}
            save_checkpoint(checkpoint, model, optimiser, best, progress)

    while not _finished(history, settings):
        start = time.perf_counter()
        epoch: Epoch = {"epoch": len(history)}
        with _sampler_failures(len(history)):
            if history:
                run = _EpochRun(model, objective, pairs, optimiser, learning_rates, settings, seed, len(history))
                start -= within.seconds if within is not None else 0.0
                epoch["loss"] = _train_epoch(run, within, keep)
                within = None
            seconds += time.perf_counter() - start
            validates = validation_objective or objective
            epoch["validation_loss"] = _finite_validation_loss(model, validates, validation, seed, len(history))
            epoch |= measure(model) if measure else {}
        history.append(epoch)
        if _best(history, settings) == len(history) - 1:
            best = {name: value.clone() for name, value in model.state_dict().items()}
        keep(None)
        if on_epoch:
            on_epoch(epoch)
    model.load_state_dict(best)
    model.eval()
    return Training(history, _best(history, settings), seconds, 2 * pairs.n_pairs * (len(history) - 1))


@contextmanager
def _sampler_failures(epoch: int) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        kept = f"epoch {epoch - 1} is kept, and training resumes after it" if epoch else "nothing was trained yet"
        raise TrainingError(f"epoch {epoch}, training cannot go on: {error} Of the training, {kept}.") from error


def _resume(
    checkpoint: Path | None, model: nn.Module, optimiser: torch.optim.Optimizer, started: dict[str, Any]
) -> tuple[list[Epoch], Best, float, Within | None]:
    progress = read_progress(checkpoint) if checkpoint is not None else None
    if checkpoint is None or progress is None or any(progress.get(key) != value for key, value in started.items()):
        if isinstance(model, KeepsChains):
            model.load_chains({})
        return [], {}, 0.0, None
    best, progress = load_checkpoint(checkpoint, model, optimiser)
    with part_of_checkpoint(checkpoint):
        within = Within(**progress["within"]) if progress.get("within") else None
        if within is not None:
            within.restore(torch.Generator())
        history = [{name: float(value) for name, value in epoch.items()} for epoch in progress["epochs"]]
        if (
            not history
            or [epoch["epoch"] for epoch in history] != list(range(len(history)))
            or not all(math.isfinite(epoch["validation_loss"]) for epoch in history)
        ):
            raise ValueError("its epochs are not in order, or have no loss")
        return history, best, float(progress["seconds"]), within


def _best(history: list[Epoch], settings: TrainingSettings) -> int:
    first = min(settings.first_kept, len(history) - 1)
    return min(range(first, len(history)), key=lambda index: history[index]["validation_loss"])


def _finished(history: list[Epoch], settings: TrainingSettings) -> bool:
    if not history:
        return False
    last = len(history) - 1
    return last >= settings.epochs or last - _best(history, settings) >= settings.patience


@dataclass(frozen=True)
class _EpochRun(Generic[Model]):
    model: Model
    objective: Objective[Model]
    pairs: Pairs
    optimiser: torch.optim.Optimizer
    learning_rates: list[float]
    settings: TrainingSettings
    seed: int
    number: int

    def step(self, batch: Batch, generator: torch.Generator, seen: int) -> float:
        share = self.settings.rate((self.number - 1 + seen / self.pairs.n_pairs) / self.settings.epochs)
        for group, learning_rate in zip(self.optimiser.param_groups, self.learning_rates, strict=True):
            group["lr"] = share * learning_rate
        self.optimiser.zero_grad(set_to_none=True)
        try:
            loss = self.objective(self.model, moved(batch, self.model), generator)
        except ArithmeticError:
            value = math.nan
        else:
            loss.backward()  # type: ignore[no-untyped-call]
            value = loss.item()
        if not math.isfinite(value) or not _gradients_finite(self.model):
            raise TrainingError(
                f"loss or gradient of epoch {self.number}, batch {seen // self.settings.batch_pairs} (pairs {seen} to "
                f"{seen + len(batch.chosen) - 1} of the shuffled order) is not finite (loss {value}); "
                "the last good epoch is kept. Try a lower learning rate."
            )
        self.optimiser.step()
        return value


def _train_epoch(run: _EpochRun[Model], within: Within | None, keep: Callable[[Within], None]) -> float:
    """Mean loss of the epoch, from its beginning or from `within`; `keep` saves the place from time to time."""
    run.model.train()
    generator = epoch_generator(run.seed, run.number)
    torch.manual_seed(generator.initial_seed())
    batches = run.pairs.batches(run.settings.batch_pairs, generator)
    done, seen, total, start = 0, 0, 0.0, time.perf_counter()
    if within is not None:
        done, seen, total, start = within.batches, within.pairs, within.loss, start - within.seconds
        deque(islice(batches, done), maxlen=0)
        within.restore(generator)
    kept = time.perf_counter()
    for number, batch in enumerate(batches, done + 1):
        total += run.step(batch, generator, seen) * len(batch.chosen)
        seen += len(batch.chosen)
        now = time.perf_counter()
        if now - kept >= run.settings.checkpoint_seconds and seen < run.pairs.n_pairs:
            keep(Within.now(number, seen, total, now - start, generator))
            kept = now
    return total / run.pairs.n_pairs


def _finite_validation_loss(
    model: Model, objective: Objective[Model], validation: Pairs, seed: int, epoch: int
) -> float:
    try:
        loss = validation_loss(model, objective, validation, seed)
    except ArithmeticError:
        loss = math.nan
    if not math.isfinite(loss):
        raise TrainingError(
            f"validation loss after the last batch of epoch {epoch} is not finite ({loss}); the last good epoch is "
            "kept. Try a lower learning rate."
        )
    return loss


def _gradients_finite(model: nn.Module) -> bool:
    norms = [parameter.grad.norm() for parameter in model.parameters() if parameter.grad is not None]
    return bool(torch.stack(norms).isfinite().all())


@torch.no_grad()
def validation_loss(model: Model, objective: Objective[Model], pairs: Pairs, seed: int) -> float:
    """Mean loss over the pairs in evaluation mode, with the same noise in every call."""
    model.eval()
    generator = epoch_generator(seed, 0)
    batches = (moved(batch, model) for batch in pairs.batches(VALIDATION_BATCH))
    total = sum(float(objective(model, batch, generator)) * len(batch.chosen) for batch in batches)
    return total / pairs.n_pairs


def moved(batch: Batch, model: nn.Module) -> Batch:
    """The batch on the model's device."""
    device = next(model.parameters()).device
    return Batch(*(part if part is None else part.to(device) for part in batch))  # type: ignore[arg-type]


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """The random numbers of an epoch; those of epoch 0 are for validation."""
    return torch.Generator().manual_seed(seed * 100_003 + epoch)
