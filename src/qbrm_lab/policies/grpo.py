"""Training a policy on rewards, with TRL's `GRPOTrainer`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from qbrm.durable import write_atomically
from qbrm.preferences import Prompt
from qbrm.reward_models.quiet import quiet_transformers
from qbrm_lab.policies.completions import NotedRewards, Written, read_completions
from qbrm_lab.policies.rewards import Rewards
from qbrm_lab.reward_models.preference_training import CHECKPOINTS, Advance, Follower, fast_bfloat16
from qbrm_lab.reward_models.resuming import check_asked, last_checkpoint

ASKED, COMPLETIONS, LOG = "asked.json", "completions.jsonl", "log.json"  # the log is written last
PROMPTS_AT_ONCE = 16  # held-out ones


@dataclass(frozen=True)
class PolicyTraining:
    """How a policy is trained: GRPO (Shao et al., 2024, arXiv 2402.03300) with low-rank adapters.

    Attributes:
        steps: updates.
        group: completions of a prompt, whose rewards are compared.
        prompts_per_step: prompts of an update.
        completion_tokens: most tokens of a completion.
        temperature: of sampling, in training and measuring: at 1, a model of this size strays from the question.
        learning_rate: of the adapters, constant after a tenth of the steps.
        rank: of the adapters (LoRA; Hu et al., 2021, arXiv 2106.09685), on every linear layer.
        kl_weight: of the divergence from the start in the loss: so little that it is only measured, as the study asks
            what rewards alone lead to.
        measurements: how often the policy answers the held-out prompts, first and last step included.
        held_out_completions: answers to each of them.
        checkpoint_steps: steps after which the state is saved.
    """

    steps: int = 100
    group: int = 8
    prompts_per_step: int = 1
    completion_tokens: int = 96
    temperature: float = 0.7
    learning_rate: float = 5e-4
    rank: int = 16
    kl_weight: float = 1e-6
    measurements: int = 6
    held_out_completions: int = 2
    checkpoint_steps: int = 5

    @property
    def measured_steps(self) -> list[int]:
        """The numbers of updates after which the policy answers the held-out prompts."""
        parts = self.measurements - 1
        return sorted({round(self.steps * part / parts) for part in range(parts + 1)})


class PolicyPrompts(NamedTuple):
    """Prompts to train on, and others on which the policy is measured."""

    training: Sequence[Prompt]
    held_out: Sequence[Prompt]


class Update(NamedTuple):
    """What the trainer logged of one update: its number from 1, and the divergence from the start in nats per token."""

    step: int
    kl: float


class TrainedPolicy(NamedTuple):
    """All that a policy wrote, and the log of its training."""

    completions: list[Written]
    updates: list[Update]


def train_policy(
    base: Path,
    prompts: PolicyPrompts,
    rewards: Rewards,
    out: Path,
    settings: PolicyTraining,
    seed: int,
    *,
    about: str = "",
    advance: Advance = lambda done, total: None,
) -> TrainedPolicy:
    """Train a language model as a policy; before, between and after, it answers the held-out prompts.

    The same call continues after the last checkpoint, and only reads what a finished training left. Matrix products
    are in bfloat16 where the processor multiplies such numbers in hardware.

    Args:
        base: folder of a language model with a chat template.
        prompts: see :class:`PolicyPrompts`.
        rewards: of prompts and completions.
        out: folder of the completions, the log and the checkpoints.
        settings: of the training.
        seed: seeds adapters, sampling and the order of prompts.
        about: whatever else the outcome depends on, such as the identity of the rewards.
        advance: called with steps done and steps in all.

    Raises:
        InputError: if the folder has a training that was asked for in another way, or cannot be written.
    """
    check_asked(
        out, {"base": str(base.resolve()), "about": about, "seed": seed, "prompts": prompts, **asdict(settings)}
    )
    if not (out / LOG).is_file():
        trainer = _train(base, prompts, rewards, out, settings, seed, advance)
        updates = [Update(row["step"], row["kl"]) for row in trainer.state.log_history if "kl" in row]
        write_atomically(out / LOG, json.dumps(updates).encode())
    log = [Update(*row) for row in json.loads((out / LOG).read_bytes())]
    return TrainedPolicy(read_completions(out / COMPLETIONS), log)


def _train(
    base: Path,
    prompts: PolicyPrompts,
    rewards: Rewards,
    out: Path,
    settings: PolicyTraining,
    seed: int,
    advance: Callable[[int, int], None],
) -> Any:
    checkpoints = out / CHECKPOINTS
    updates, last = last_checkpoint(checkpoints)
    bfloat16 = torch.cuda.is_available() or fast_bfloat16()
    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(base, padding_side="left")
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16 if bfloat16 else torch.float32)
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=NotedRewards(rewards, out / COMPLETIONS, updates),
            args=_config(checkpoints, settings, seed, fresh=last is None, bfloat16=bfloat16),
            train_dataset=_dataset(prompts.training, held_out=False),
            eval_dataset=_dataset(prompts.held_out, held_out=True),
            processing_class=tokenizer,
            callbacks=[Follower(advance), _Measured(settings.measured_steps)],
            peft_config=LoraConfig(
                task_type="CAUSAL_LM", r=settings.rank, lora_alpha=2 * settings.rank, target_modules="all-linear"
            ),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=last)
    return trainer


def _dataset(prompts: Sequence[Prompt], *, held_out: bool) -> Dataset:
    return Dataset.from_list(
        [
            {"prompt": [message.to_dict() for message in prompt], "held_out": held_out, "number": number}
            for number, prompt in enumerate(prompts)
        ]
    )


def _config(out: Path, settings: PolicyTraining, seed: int, *, fresh: bool, bfloat16: bool) -> GRPOConfig:
    return GRPOConfig(
        output_dir=str(out),
        seed=seed,
        max_steps=settings.steps,
        per_device_train_batch_size=settings.group * settings.prompts_per_step,
        num_generations=settings.group,
        per_device_eval_batch_size=PROMPTS_AT_ONCE * settings.held_out_completions,
        num_generations_eval=settings.held_out_completions,
        max_completion_length=settings.completion_tokens,
        temperature=settings.temperature,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=math.ceil(settings.steps / 10),
        beta=settings.kl_weight,
        bf16=bfloat16,
        use_cpu=not torch.cuda.is_available(),
        activation_checkpointing=False,
        eval_on_start=fresh,
        save_steps=settings.checkpoint_steps,
        save_total_limit=1,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


class _Measured(TrainerCallback):  # type: ignore[misc]
    """Has the held-out prompts answered after some updates."""

    def __init__(self, steps: Sequence[int]) -> None:
        self._steps = frozenset(steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        control.should_evaluate = state.global_step in self._steps
