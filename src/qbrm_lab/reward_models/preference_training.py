"""Training a language model as a reward model, with TRL's `RewardTrainer`."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PrinterCallback, TrainerCallback
from trl import RewardConfig, RewardTrainer

from qbrm.durable import write_atomically
from qbrm.preferences.base import Prompt
from qbrm.reward_models.quiet import quiet_transformers
from qbrm.reward_models.template import ChatTemplate
from qbrm_lab.reward_models.resuming import check_asked, last_checkpoint

CHECKPOINTS = "checkpoints"
WHOLE = "training.txt"  # written last: says how many pairs the model was trained on

Advance = Callable[[int, int], None]
Row = dict[str, list[int]]


@dataclass(frozen=True)
class RewardTraining:
    """How a language model becomes a reward model: one pass over pairs, by low-rank adapters that are merged.

    Attributes:
        pairs: most pairs to train on.
        max_length: tokens of prompt and response; pairs with a longer text are left out.
        epochs: passes over the pairs.
        batch_pairs: pairs per step.
        learning_rate: of the adapters and the score layer, rises for a tenth of the steps and then falls linearly.
        rank: of the adapters (LoRA; Hu et al., 2021, arXiv 2106.09685), on every linear layer.
        checkpoint_steps: steps after which the state is saved.
    """

    pairs: int = 1200
    max_length: int = 320
    epochs: int = 1
    batch_pairs: int = 8
    learning_rate: float = 5e-4
    rank: int = 16
    checkpoint_steps: int = 25


class TextPair(NamedTuple):
    """A prompt with two responses, the better one first."""

    prompt: Prompt
    chosen: str
    rejected: str


def train_reward_model(
    base: Path,
    pairs: Sequence[TextPair],
    out: Path,
    settings: RewardTraining,
    seed: int,
    advance: Advance = lambda done, total: None,
) -> Path:
    """Train a language model's folder into a folder of a reward model, with the Bradley-Terry loss.

    The same call continues after the last checkpoint, and leaves a finished folder as it is. Matrix products are in
    bfloat16 where the processor multiplies such numbers in hardware; the merged weights are saved in bfloat16.

    Args:
        base: folder of a language model with a chat template.
        pairs: what to train on, in the order in which they are taken until there are enough.
        out: folder of the reward model.
        settings: of the training.
        seed: seeds the score layer, the adapters and shuffling.
        advance: called with steps done and steps in all.

    Raises:
        InputError: if the folder has a training on other pairs or with other settings, or cannot be written.
    """
    digest = hashlib.sha256(repr(pairs).encode("utf-8", "surrogatepass")).hexdigest()
    check_asked(out, {"base": str(base.resolve()), "texts": digest, "seed": seed, **asdict(settings)})
    if (out / WHOLE).is_file():
        return out
    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(base)
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.bfloat16)
    rows = [tokenised for _, tokenised in _short_enough(pairs, ChatTemplate(tokenizer, str(base)), settings)]
    data = Dataset.from_list(_in_batches(rows, settings.batch_pairs, seed))
    trainer = RewardTrainer(
        model=model,
        args=_config(out, settings, seed),
        train_dataset=data,
        processing_class=tokenizer,
        callbacks=[Follower(advance)],
        peft_config=LoraConfig(
            task_type="SEQ_CLS",
            r=settings.rank,
            lora_alpha=2 * settings.rank,
            target_modules="all-linear",
            modules_to_save=["score"],
        ),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=last_checkpoint(out / CHECKPOINTS)[1])
    merged = trainer.model.merge_and_unload().to(torch.bfloat16)
    merged.save_pretrained(out)
    tokenizer.save_pretrained(out)
    write_atomically(out / WHOLE, f"{len(data)} pairs\n".encode())
    return out


def learned_pairs(base: Path, pairs: Sequence[TextPair], settings: RewardTraining) -> list[TextPair]:
    """The pairs that :func:`train_reward_model` trains on, of those that it is given."""
    with quiet_transformers():
        template = ChatTemplate(AutoTokenizer.from_pretrained(base), str(base))
    return [pair for pair, _ in _short_enough(pairs, template, settings)]


def _short_enough(
    pairs: Sequence[TextPair], template: ChatTemplate, settings: RewardTraining
) -> list[tuple[TextPair, Row]]:
    """Pairs with their token ids, the very ones that the reward model reads where it embeds."""
    rows: list[tuple[TextPair, Row]] = []
    for pair in pairs:
        chosen, rejected = (template.tokens(pair.prompt, text).ids for text in (pair.chosen, pair.rejected))
        if max(len(chosen), len(rejected)) <= settings.max_length:
            rows.append((pair, {"chosen_ids": chosen, "rejected_ids": rejected}))
        if len(rows) == settings.pairs:
            break
    return rows


def _in_batches(rows: list[Row], size: int, seed: int) -> list[Row]:
    """Pairs of similar length side by side, so that little is padded; the batches in a random order.

    The trainer's own grouping by length draws another order after a checkpoint, and would train on some pairs twice.
    """
    by_length = sorted(rows, key=lambda row: max(len(row["chosen_ids"]), len(row["rejected_ids"])))
    batches = [by_length[start : start + size] for start in range(0, len(by_length), size)]
    random.Random(seed).shuffle(batches)
    return [row for batch in batches for row in batch]


def _config(out: Path, settings: RewardTraining, seed: int) -> RewardConfig:
    on_cpu = not torch.cuda.is_available()
    return RewardConfig(
        output_dir=str(out / CHECKPOINTS),
        seed=seed,
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_pairs,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=0.1,
        max_length=None,
        bf16=not on_cpu or fast_bfloat16(),
        use_cpu=on_cpu,
        activation_checkpointing=False,
        train_sampling_strategy="sequential",
        save_steps=settings.checkpoint_steps,
        save_total_limit=1,
        logging_steps=settings.checkpoint_steps,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


def fast_bfloat16() -> bool:
    """Whether the processor multiplies matrices of bfloat16 in hardware."""
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


class Follower(TrainerCallback):  # type: ignore[misc]
    """Tells how far a training is."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Say it."""
        self._advance(state.global_step, state.max_steps)
