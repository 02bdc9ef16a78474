"""What policies make of rewards: GRPO on several kinds in turn, each policy judged by all of them and by gold."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64
from transformers import AutoConfig, AutoTokenizer

from qbrm.cli.console import Reporter
from qbrm.durable import sha256, write_atomically
from qbrm.errors import InputError
from qbrm.evaluation import PromptBootstrap
from qbrm.evaluation.bootstrap import TestPairs
from qbrm.preferences import PreferenceSet, Prompt, read_preferences, split_by_prompt
from qbrm.reward_models.quiet import quiet_transformers
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.comparison.side_by_side import each_seed
from qbrm_lab.evaluation.behaviour import flatters, rates_itself, repeated_share, repeats_a_sentence, shared_shares
from qbrm_lab.policies.completions import Written
from qbrm_lab.policies.grpo import COMPLETIONS, PolicyPrompts, PolicyTraining, TrainedPolicy, Update, train_policy
from qbrm_lab.policies.rewards import Judge, load_judge
from qbrm_lab.report.plots.grpo import policy_figure
from qbrm_lab.report.plots.png import png_bytes
from qbrm_lab.results.policy_rows import ComparedRow, HeldOutAccuracy, Measured, PolicyResults, PolicyRow, UpdateRow
from qbrm_lab.reward_models.smollm2 import smollm2_folder
from qbrm_lab.studies.cache import cached
from qbrm_lab.studies.grpo_page import MEASURES_OF_TEXTS, PICTURE, grpo_markdown
from qbrm_lab.studies.json_files import write_json

TABLE, PAGE = "grpo.json", "grpo.md"
LANGUAGE_MODEL, RUNS = "smollm2", "runs"
SMOLLM2 = "SmolLM2-135M-Instruct"
GOLD = "gold"
MEASURES = (GOLD, *MEASURES_OF_TEXTS)
NAME = re.compile(r"[A-Za-z0-9_-]+")
TEST_SHARE = 0.2
MOST_PROMPT_TOKENS = 128
HELD_OUT, QUICK_HELD_OUT = 32, 8
QUICK = PolicyTraining(steps=6, completion_tokens=48, measurements=2, held_out_completions=1)

Values = Float64[np.ndarray, " completions"]


@dataclass(frozen=True)
class PolicyStudy:
    """What the command line says beside the settings that all studies have.

    Attributes:
        rewards: folders or ids of reward models or refined ones, by the names that they have in results; the first is
            what the others are compared with.
        gold: reward model that judges and trains nothing; None for none.
        policy: folder of a language model with a chat template; None for SmolLM2.
        training: of the policies.
        held_out: most prompts on which policies are measured.
    """

    rewards: Mapping[str, str]
    gold: str | None = None
    policy: Path | None = None
    training: PolicyTraining = field(default_factory=PolicyTraining)
    held_out: int = HELD_OUT

    @classmethod
    def asked(
        cls, rewards: Sequence[str], gold: str | None, policy: Path | None, steps: int | None, quick: bool
    ) -> PolicyStudy:
        """As the command line says it, rewards as NAME=MODEL.

        Raises:
            InputError: if one is not of that form, or a name occurs twice or is that of another measure.
        """
        training = QUICK if quick else PolicyTraining()
        return cls(
            named_rewards("--rewards", rewards),
            gold,
            policy,
            training if steps is None else replace(training, steps=steps),
            QUICK_HELD_OUT if quick else HELD_OUT,
        )

    @property
    def judges(self) -> dict[str, str]:
        """All that completions are judged by: every kind of rewards, and gold."""
        return {**self.rewards, **({} if self.gold is None else {GOLD: self.gold})}


def named_rewards(option: str, names: Sequence[str]) -> dict[str, str]:
    """Rewards given as NAME=MODEL.

    Raises:
        InputError: if one is not of that form, or a name occurs twice or is that of another measure.
    """
    rewards: dict[str, str] = {}
    for part in names:
        name, equals, model = part.partition("=")
        if not (NAME.fullmatch(name) and equals and model):
            expected = "NAME=MODEL, such as base=my-reward-model, with a name of letters, digits, _ and -"
            raise InputError(f"{option} {part!r}; expected {expected}.")
        if name in rewards or name in MEASURES:
            raise InputError(
                f"{option} has the name {name!r} twice or for another measure; expected each name once, and none of: "
                f"{', '.join(MEASURES)}."
            )
        rewards[name] = model
    return rewards


def study_grpo(settings: ComparisonSettings, study: PolicyStudy, reporter: Reporter) -> Path:
    """Train policies on every kind of rewards, and measure what they write as they learn.

    Writes grpo.json, grpo.png and grpo.md to `settings.out`, where completions and checkpoints are kept; the same call
    goes on where it stopped.

    Returns:
        The path of grpo.md.

    Raises:
        InputError: if a source or model is not usable, or `settings.out` cannot be written or has other policies.
    """
    if not study.rewards:
        raise InputError("--rewards is missing; expected NAME=MODEL[,NAME=MODEL...], such as base=my-reward-model.")
    verdicts = {name: load_judge(model).verdict for name, model in study.judges.items()}
    base = study.policy or smollm2_folder(settings.out / LANGUAGE_MODEL)
    prompts = _prompts(settings, study, base)
    asked = f"{len(prompts.training):,} prompts", f"{len(prompts.held_out):,} held out"
    reporter.fact("prompts", *asked, f"up to {MOST_PROMPT_TOKENS} tokens")
    seeds = range(settings.seed, settings.seed + settings.seeds)
    train = partial(_of_seed, study, base, prompts, settings.out / RUNS)
    policies: dict[Run, Judged] = {}
    for of_seed in each_seed(train, seeds, settings.workers, reporter, "grpo"):
        policies |= of_seed
        for run, judged in of_seed.items():
            reporter.fact(f"{run.name}, seed {run.seed}", *_summary(judged))
        results = _results(settings, study, prompts, policies, verdicts.get(GOLD))
        write_json(settings.out / TABLE, results)
    write_atomically(settings.out / PICTURE, png_bytes(policy_figure(results)))
    path = settings.out / PAGE
    write_atomically(path, grpo_markdown(results).encode())
    return path


def _prompts(settings: ComparisonSettings, study: PolicyStudy, base: Path) -> PolicyPrompts:
    """Short prompts in a random order, those of a fifth of all prompts held out."""
    kept, held_out = split_by_prompt(
        read_preferences(settings.train, skip_bad=settings.skip_bad), TEST_SHARE, settings.seed
    )
    tokenizer = _chat_tokenizer(base)

    def short(prompt: Prompt) -> bool:
        messages = [message.to_dict() for message in prompt]
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        plain = not any(message.more for message in prompt)
        return plain and len(tokenizer(text, add_special_tokens=False)["input_ids"]) <= MOST_PROMPT_TOKENS

    training = study.training
    wanted = training.steps * training.prompts_per_step
    both = PolicyPrompts(
        _some(kept, short, wanted, settings.seed), _some(held_out, short, study.held_out, settings.seed)
    )
    if not (both.training and both.held_out):
        raise InputError(
            f"{settings.train} has {len(both.training)} and {len(both.held_out)} prompts of at most "
            f"{MOST_PROMPT_TOKENS} tokens to train on and to hold out; expected at least one of each."
        )
    return both


def _chat_tokenizer(base: Path) -> Any:
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(base)
            AutoConfig.from_pretrained(base)
    except (OSError, ValueError) as error:
        raise InputError(f"{base} is no folder of a language model; expected one that transformers wrote.") from error
    if tokenizer.chat_template is None:
        raise InputError(f"{base} has no chat template; expected a language model that answers.")
    return tokenizer


def _some(preferences: PreferenceSet, fits: Callable[[Prompt], bool], most: int, seed: int) -> list[Prompt]:
    prompts = {item.prompt_id: item.prompt for item in preferences}
    order = sorted(prompts)
    random.Random(seed).shuffle(order)
    chosen: list[Prompt] = []
    for name in order:
        if len(chosen) == most:
            break
        if fits(prompts[name]):
            chosen.append(prompts[name])
    return chosen


class Run(NamedTuple):
    """One training: what the policy is rewarded with, and the seed."""

    name: str
    seed: int


@dataclass(frozen=True)
class Judged:
    """A policy's completions, those held out apart, and what each measure says of every one of them.

    Attributes:
        updates: of the training.
        held_out: completions of the held-out prompts.
        trained: completions that were trained on.
        measures: of those held out, by name.
        gold: gold reward of those trained on; None without a gold reward model.
    """

    updates: list[Update]
    held_out: list[Written]
    trained: list[Written]
    measures: dict[str, Values]
    gold: Values | None


def _of_seed(
    study: PolicyStudy, base: Path, prompts: PolicyPrompts, out: Path, seed: int, reporter: Reporter
) -> dict[Run, Judged]:
    judges = {name: load_judge(model) for name, model in study.judges.items()}
    policies = {}
    for name in study.rewards:
        folder, judge = out / name / f"seed-{seed}", judges[name]
        with reporter.progress(f"{name}, seed {seed}") as advance:
            policy = train_policy(
                base, prompts, judge.rewards, folder, study.training, seed, about=judge.identity, advance=advance
            )
        policies[Run(name, seed)] = _judged(folder, policy, prompts, judges)
    return policies


def _judged(folder: Path, policy: TrainedPolicy, prompts: PolicyPrompts, judges: Mapping[str, Judge]) -> Judged:
    held_out = [row for row in policy.completions if row.held_out]
    trained = [row for row in policy.completions if not row.held_out]
    digest = sha256(folder / COMPLETIONS)

    def scored(name: str, rows: Sequence[Written], asked: Sequence[Prompt], part: str) -> Values:
        chat = [[message.to_dict() for message in asked[row.prompt]] for row in rows]
        return np.array(
            cached(
                folder / "judged" / f"{name}-{part}.json",
                {"completions": digest, "judge": judges[name].identity},
                list[float],
                lambda: judges[name].rewards(chat, [row.text for row in rows]),
            )
        )

    measures = {name: scored(name, held_out, prompts.held_out, "held-out") for name in judges}
    measures |= dict(_measures_of_texts(held_out))
    gold = scored(GOLD, trained, prompts.training, "training") if GOLD in judges else None
    return Judged(policy.updates, held_out, trained, measures, gold)


def _measures_of_texts(rows: Sequence[Written]) -> Iterator[tuple[str, Values]]:
    texts = [row.text for row in rows]
    habits = {
        "self_rating": [rates_itself(text) for text in texts],
        "flattery": [flatters(text) for text in texts],
        "repeated_sentence": [repeats_a_sentence(text) for text in texts],
    }
    yield "tokens", np.array([row.tokens for row in rows], float)
    yield "repetition", np.array([repeated_share(text, 4) for text in texts])
    yield "distinct_2", np.array([1 - repeated_share(text, 2) for text in texts])
    yield "shared", _shared(rows)
    yield "probe_like", np.any(list(habits.values()), axis=0).astype(float)
    for habit, found in habits.items():
        yield habit, np.array(found, float)


def _shared(rows: Sequence[Written]) -> Values:
    """How much of every answer the same policy gives at the same step to other prompts too."""
    step = np.array([row.step for row in rows])
    shares = np.zeros(len(rows))
    for at in np.unique(step):
        places = np.flatnonzero(step == at)
        of_step = [rows[int(place)] for place in places]
        shares[places] = shared_shares([row.text for row in of_step], [row.prompt for row in of_step], 4)
    return shares


def _summary(judged: Judged) -> list[str]:
    steps = [row.step for row in judged.held_out]
    first, last = (np.array(steps) == step for step in (min(steps), max(steps)))
    shown = [name for name in judged.measures if name not in ("distinct_2", "self_rating", "flattery")]
    return [
        f"{name} {judged.measures[name][first].mean():.2f} -> {judged.measures[name][last].mean():.2f}"
        for name in shown
    ]


def _results(
    settings: ComparisonSettings,
    study: PolicyStudy,
    prompts: PolicyPrompts,
    policies: Mapping[Run, Judged],
    verdict_on_gold: Mapping[str, Any] | None,
) -> PolicyResults:
    training = study.training
    return PolicyResults(
        command=settings.command,
        rewards=list(study.rewards.items()),
        gold=study.gold,
        policy=SMOLLM2 if study.policy is None else str(study.policy),
        seeds=settings.seeds,
        prompts=len(prompts.training),
        held_out=len(prompts.held_out),
        most_prompt_tokens=MOST_PROMPT_TOKENS,
        steps=training.steps,
        group=training.group,
        prompts_per_step=training.prompts_per_step,
        completion_tokens=training.completion_tokens,
        held_out_completions=training.held_out_completions,
        rows=list(_rows(policies, settings.seed)),
        compared=list(_compared(policies, settings.seed)),
        updates=[row for run, judged in policies.items() for row in _updates(run, judged)],
        gold_accuracy=None if verdict_on_gold is None else _held_out_accuracy(verdict_on_gold),
    )


def _held_out_accuracy(verdict: Mapping[str, Any]) -> HeldOutAccuracy:
    return HeldOutAccuracy(
        pairs=verdict["test"]["pairs"],
        accuracy=verdict["refined"]["accuracy"],
        length_accuracy=verdict["length_accuracy"],
    )


def _rows(policies: Mapping[Run, Judged], seed: int) -> Iterator[PolicyRow]:
    for name in dict.fromkeys(run.name for run in policies):
        of_name = {run.seed: judged for run, judged in policies.items() if run.name == name}
        for number, group in [
            *((run_seed, [judged]) for run_seed, judged in of_name.items()),
            (None, [*of_name.values()]),
        ]:
            for measure in group[0].measures:
                by_step = _by_step(group, measure)
                start = min(by_step)
                deviation = _deviation(group, measure, start)
                for step, values in by_step.items():
                    change = _with_interval(values - by_step[start], seed)
                    yield PolicyRow(
                        rewarded_by=name,
                        seed=number,
                        step=step,
                        measure=measure,
                        mean=_with_interval(values, seed),
                        change=change,
                        in_deviations=change[0] / deviation if deviation else None,
                    )


def _by_step(policies: Sequence[Judged], measure: str) -> dict[int, Float64[np.ndarray, " prompts"]]:
    """Means by prompt over completions and policies, at every step at which the held-out prompts were answered."""
    rows = [row for judged in policies for row in judged.held_out]
    values = np.concatenate([judged.measures[measure] for judged in policies])
    step, prompt = (np.array([getattr(row, name) for row in rows]) for name in ("step", "prompt"))
    return {
        int(at): np.bincount(prompt[step == at], values[step == at]) / np.bincount(prompt[step == at])
        for at in np.unique(step)
    }


def _deviation(policies: Sequence[Judged], measure: str, step: int) -> float:
    at = [judged.measures[measure][[row.step == step for row in judged.held_out]] for judged in policies]
    return float(np.concatenate(at).std())


def _with_interval(values: Float64[np.ndarray, " prompts"], seed: int) -> Measured:
    bootstrap = PromptBootstrap(TestPairs(np.arange(len(values))), seed)
    return float(values.mean()), *bootstrap.intervals(values)["all"]


def _compared(policies: Mapping[Run, Judged], seed: int) -> Iterator[ComparedRow]:
    """Every kind of rewards but the first, against the first, over the seeds that both have."""
    first, *others = dict.fromkeys(run.name for run in policies)
    for name in others:
        seeds = {run.seed for run in policies if run.name == name}
        both = [
            [judged for run, judged in policies.items() if run.name == rewarded and run.seed in seeds]
            for rewarded in (name, first)
        ]
        for measure in both[0][0].measures:
            change, reference = (
                by_step[max(by_step)] - by_step[min(by_step)]
                for by_step in (_by_step(group, measure) for group in both)
            )
            yield ComparedRow(
                rewarded_by=name, against=first, measure=measure, difference=_with_interval(change - reference, seed)
            )


def _updates(run: Run, judged: Judged) -> Iterator[UpdateRow]:
    texts = dict(_measures_of_texts(judged.trained))
    reward = np.array([row.reward for row in judged.trained])
    step = np.array([row.step for row in judged.trained])
    for update in judged.updates:
        at = step == update.step - 1  # an update learns from what the policy wrote before it
        row = UpdateRow(
            rewarded_by=run.name,
            seed=run.seed,
            step=update.step,
            reward=float(reward[at].mean()),
            tokens=float(texts["tokens"][at].mean()),
            repetition=float(texts["repetition"][at].mean()),
            probe_like=float(texts["probe_like"][at].mean()),
            kl=update.kl,
        )
        yield row if judged.gold is None else replace(row, gold=float(judged.gold[at].mean()))
