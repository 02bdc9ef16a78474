"""Train a policy in TRL on refined rewards.

    python examples/trl_reward.py my-policy runs/model prompts.jsonl

prompts.jsonl has a line {"prompt": ...} per prompt, text or chat messages. runs/model is what `save_pretrained` or
`qbrm train` wrote; the address of a running `qbrm serve` may stand in its place.
"""

from __future__ import annotations

import sys
from typing import Any

from datasets import load_dataset
from trl import GRPOConfig, GRPOTrainer

from qbrm import EnergyRewardModel, RewardClient, RewardFunction


def main(policy: str, refined: str, prompts: str, out: str = "runs/grpo", **settings: Any) -> GRPOTrainer:
    """Train, and return the trainer; `settings` go to TRL's `GRPOConfig`."""
    served = refined.startswith("http")
    reward = RewardClient(refined) if served else RewardFunction(EnergyRewardModel.from_pretrained(refined))
    trainer = GRPOTrainer(
        model=policy,
        reward_funcs=reward,
        args=GRPOConfig(output_dir=out, report_to="none", **settings),
        train_dataset=load_dataset("json", data_files=prompts, split="train"),
    )
    trainer.train()
    return trainer


if __name__ == "__main__":
    main(*sys.argv[1:])
