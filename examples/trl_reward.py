"""Train a policy on refined rewards with TRL.

    python examples/trl_reward.py refined                                       # asks for a few rewards, as TRL would
    python examples/trl_reward.py refined --policy Qwen/Qwen2.5-0.5B-Instruct   # trains the policy with GRPO

``refined`` is a folder that `EnergyRewardModel.save_pretrained`, `qbrm train` or `qbrm compare` wrote.
"""

import argparse

from qbrm import EnergyRewardModel, RewardFunction

PROMPTS = ["How do I boil an egg?", "Name a prime number above ten.", "Why is the sky blue?", "What is a noun?"]


def train(policy: str, reward: RewardFunction, steps: int, out: str) -> None:
    """Train with group relative policy optimisation; any trainer that takes `reward_funcs` will do."""
    import torch
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    settings = GRPOConfig(
        out,
        max_steps=steps,
        per_device_train_batch_size=2,
        num_generations=2,
        max_completion_length=32,
        bf16=torch.cuda.is_available(),
        report_to="none",
    )
    prompts = Dataset.from_dict({"prompt": PROMPTS})
    GRPOTrainer(model=policy, reward_funcs=reward, args=settings, train_dataset=prompts).train()


def main() -> None:
    """Print rewards, and train if there is a policy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or Hub id of a refined reward model")
    parser.add_argument("--policy", help="folder or Hub id of the language model to train")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--out", default="runs/policy")
    options = parser.parse_args()

    reward = RewardFunction(EnergyRewardModel.from_pretrained(options.model))
    answers = ["Boil it for eight minutes.", "Eleven.", "Air scatters blue light most.", "A word that names something."]
    for prompt, value in zip(PROMPTS, reward(prompts=PROMPTS, completions=answers), strict=True):
        print(f"{value:+.3f}  {prompt}")
    if options.policy:
        train(options.policy, reward, options.steps, options.out)


if __name__ == "__main__":
    main()
