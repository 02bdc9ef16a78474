"""The rows of the study of policies that are trained on rewards."""

from __future__ import annotations

from dataclasses import dataclass

Measured = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class PolicyRow:
    """One measure of what a policy writes to the held-out prompts; `seed` is None for the mean over seeds.

    `step` is the number of updates. Means and changes since step 0 have their 95% intervals by prompt; changes are
    paired by prompt. `in_deviations` is the change in standard deviations of single completions at step 0, which makes
    rewards of different scales comparable; None where these completions do not differ.
    """

    rewarded_by: str
    seed: int | None
    step: int
    measure: str
    mean: Measured
    change: Measured
    in_deviations: float | None = None


@dataclass(frozen=True, kw_only=True)
class ComparedRow:
    """Change of one measure from first to last step, less that of policies rewarded `against`; means over seeds."""

    rewarded_by: str
    against: str
    measure: str
    difference: Measured


@dataclass(frozen=True, kw_only=True)
class UpdateRow:
    """One update's completions: their mean reward as trained on, measures of their texts, and the divergence.

    `kl` is the trainer's estimate of the divergence from the start, in nats per token. `gold` is the mean gold reward,
    if there is a gold reward model.
    """

    rewarded_by: str
    seed: int
    step: int
    reward: float
    tokens: float
    repetition: float
    probe_like: float
    kl: float
    gold: float | None = None


@dataclass(frozen=True, kw_only=True)
class HeldOutAccuracy:
    """How often a reward model, and the longer response, is right in pairs that it has not seen."""

    pairs: int
    accuracy: float
    length_accuracy: float


@dataclass(frozen=True, kw_only=True)
class PolicyResults:
    """Content of grpo.json.

    Attributes:
        command: the command line.
        rewards: what policies were rewarded with: names, and the models they stand for.
        gold: the gold reward model; None without one.
        policy: the language model that is trained.
        seeds: trainings with each of the rewards.
        prompts: that trained.
        held_out: prompts that trained nothing, on which policies are measured.
        most_prompt_tokens: longer prompts were left out.
        steps: updates.
        group: completions of a prompt that are compared.
        prompts_per_step: prompts of an update.
        completion_tokens: most tokens of a completion.
        held_out_completions: answers to each held-out prompt.
        rows: measures of what was written to the held-out prompts.
        compared: the first kind of rewards against the others.
        updates: measures of what was trained on.
        gold_accuracy: of the gold reward model, where its verdict tells.
    """

    command: str
    rewards: list[tuple[str, ...]]
    gold: str | None
    policy: str
    seeds: int
    prompts: int
    held_out: int
    most_prompt_tokens: int
    steps: int
    group: int
    prompts_per_step: int
    completion_tokens: int
    held_out_completions: int
    rows: list[PolicyRow]
    compared: list[ComparedRow]
    updates: list[UpdateRow]
    gold_accuracy: HeldOutAccuracy | None = None
