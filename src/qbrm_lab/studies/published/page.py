"""The page of the study: what the two codes do differently, whether they agree, and what EBRM gains near chance."""

from __future__ import annotations

from collections.abc import Sequence

from qbrm.tables.numbers import count, percent, percent_interval, points_interval, three_decimals
from qbrm_lab.studies.published.code import REPOSITORY
from qbrm_lab.studies.published.rows import (
    OURS,
    PUBLISHED,
    RESTARTS,
    AgreementRow,
    DifferenceRow,
    PublishedResults,
    SameWeights,
    SituationRow,
)
from qbrm_lab.studies.published.scaled import FROM_BASE, HYBRID
from qbrm_lab.studies.published.situation import BASE, SAME, TARGET

CHANCE = (0.45, 0.55)
STARTS_IN_WORDS = {HYBRID: "r0 up to 2, else random", FROM_BASE: "always r0"}
# Found by reading; what is not named here is the same in both: layers and dropout, the loss and its penalty, the noise,
# filtering (a tie is a conflict), optimiser, rate, decay and batch, and the steps of the ascent.
DIFFERENT = (
    ("units of r0", "as the reward model gives it; for Skywork's model, scaled to a deviation of 4", "deviation of 1"),
    ("order of training", "as in the file, the same in every epoch", "shuffled in every epoch"),
    ("epoch that is kept", "the last", "the one with the least NCE+ loss on validation pairs, also filtered"),
    ("noise samples", "768", "64; `ebrm:published` has 768"),
    ("shrinking of a step", "0.2 on RMB's pairs and RewardBench, 0.1 on RMB's best-of-n and by default", "0.1"),
    ("steps", "50; 100 on RMB's best-of-n", "50"),
    (
        "layers",
        "16, 32, 64 of r0, then 1024, 512; in the scripts for the 1.3B model 64, 128, 256, then 8192, 4096, 2048",
        "16, 32, 64, then 1024, 512",
    ),
    ("accuracy on RMB", "mean over categories", "over all, and mean over categories"),
)


def published_markdown(results: PublishedResults) -> str:
    """The page, generated from the results alone."""
    parts = [
        _asked(results),
        _differences(),
        _same_weights(results.same_weights),
        _agreement(results),
        _situation(results),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _asked(results: PublishedResults) -> list[str]:
    trained = "came trained" if results.trained else "is trained by each seed"
    return [
        "# Like for like with the published EBRM",
        "",
        f"`{results.command}` wrote this page.",
        "",
        "Does our EBRM do what the published code does, and does EBRM gain where its paper found a gain: with a base",
        "near chance? The published code (Lochab & Zhang, 2025, arXiv 2504.13134;",
        f"[{REPOSITORY}](https://{REPOSITORY})) is run by its own functions, from a checkout that `--published` names.",
        "",
        f"Reward model: {results.reward_model}, which {trained}.",
        f"{count(results.train_prompts)} training prompts with {count(results.train_pairs)} pairs,",
        f"{count(results.test_prompts)} test prompts with {count(results.test_pairs)} pairs; {_seeds(results.seeds)};",
        f"{results.epochs} epochs and {results.noise_samples} noise samples in both codes; 95% intervals by prompt.",
    ]


def _differences() -> list[str]:
    return [
        "## What the codes do differently",
        "",
        "| | published | here |",
        "| :-- | :-- | :-- |",
        *(f"| {what} | {there} | {here} |" for what, there, here in DIFFERENT),
        "",
        "All else is the same, line by line: layers and dropout, NCE+ and its penalty, noise, filtering, optimiser,",
        "rate, decay and batch, and each step of the ascent.",
    ]


def _same_weights(rows: Sequence[SameWeights]) -> list[str]:
    if not rows:
        return []
    return [
        "Numbers say so too. The weights of the published network after its training, put into ours: differences",
        "of f, of the loss (16 noise samples, the same in both) and of rewards refined from r0, on the test responses",
        "of the first seed.",
        "",
        "| deviation of r0 | greatest difference of f | greatest f | loss, published | loss, ours less published "
        "| refined rewards within 0.001 | greatest difference |",
        "| --: | --: | --: | --: | --: | --: | --: |",
        *(
            f"| {row.deviation:g} | {row.value:.0e} | {row.value_size:.2f} | {row.loss:.4f} "
            f"| {row.loss_difference:+.0e} | {percent(row.refined)}% | {row.refined_difference:.0e} |"
            for row in rows
        ),
    ]


def _agreement(results: PublishedResults) -> list[str]:
    accuracy = {(row.deviation, row.start, row.code): row for row in results.agreement}
    differences = {(row.deviation, row.start): row for row in results.differences}
    lines = [
        "## The same accuracies?",
        "",
        "Scenario `same`, as published: reward model and EBRM see the same preferences",
        f"({count(results.agreed_pairs)} pairs after filtering). Both codes train on the same features and split. The",
        "ascent has constants in the units of r0, so its deviation matters: beyond 2, the published start is a random",
        "reward. *Restarts alone* is the base with those random rewards, and no energy at all.",
        "",
        f"The base is right in {percent_interval(*results.base)}% of the pairs. {agreed(results.differences)}",
        explained(results.agreement),
        "",
        "| deviation of r0 | start | restarted | restarts alone | published | ours | ours less published |",
        "| --: | :-- | --: | --: | --: | --: | --: |",
    ]
    for (deviation, start, code), row in accuracy.items():
        if code != OURS:
            continue
        known = differences.get((deviation, start))
        shown = [
            f"{deviation:g}",
            STARTS_IN_WORDS[start],
            f"{percent(row.restarted)}%",
            *(_accuracy(accuracy.get((deviation, start, other))) for other in (RESTARTS, PUBLISHED)),
            percent_interval(*row.accuracy),
            points_interval(*known.difference) if known else "-",
        ]
        lines.append(f"| {' | '.join(shown)} |")
    return lines


def agreed(rows: Sequence[DifferenceRow]) -> str:
    """Whether the two codes agree, in a sentence."""
    if not rows:
        return "The published code was left out: `--published DIR` names a checkout of it."
    apart = [row for row in rows if not row.difference[1] <= 0 <= row.difference[2]]
    greatest = max(rows, key=lambda row: abs(row.difference[0]))
    where = ", ".join(f"deviation {row.deviation:g} from {row.start}" for row in apart)
    agree = f"They agree within the interval in {len(rows) - len(apart)} of {len(rows)} cases"
    return (
        f"{agree}{f' (not at {where})' if apart else ''}; the greatest difference is "
        f"{points_interval(*greatest.difference)} points."
    )


def explained(rows: Sequence[AgreementRow]) -> str:
    """What the start does to the base, and what the energy does, in a sentence each."""
    restarts = {row.deviation: row.accuracy[0] for row in rows if row.code == RESTARTS}
    energies = [row for row in rows if row.code != RESTARTS]
    beside = max(abs(row.accuracy[0] - restarts[row.deviation]) for row in energies if row.start == HYBRID)
    kept = max((row.over_base for row in energies if row.start == FROM_BASE), key=lambda over: abs(over[0]))
    return (
        f"From the published start, EBRM is within {100 * beside:.1f} points of restarts alone at every deviation, by "
        f"either code. Started at r0, its greatest difference from the base is {points_interval(*kept)} points."
    )


def _accuracy(row: AgreementRow | None) -> str:
    return percent_interval(*row.accuracy) if row else "-"


def _situation(results: PublishedResults) -> list[str]:
    rows = results.situation
    base = next(row for row in rows if row.method == BASE)
    known, *others = results.domains
    trained = f"taken to have learned {known}" if results.trained else f"trained on {known} alone"
    target = f"{' and '.join(others)} ({count(results.target_prompts)} prompts, {count(results.target_pairs)} pairs)"
    return [
        "## Where the base is near chance",
        "",
        "The paper's gain starts from a reward model that is right in 48.7% of RewardBench. Here the reward model is",
        f"{trained}, and all is tested on {target}, where it is right",
        f"in {percent_interval(*base.accuracy)}%: {_near(base.accuracy[0])}. Methods are refined on the same",
        "preferences that the reward model learned, as published, or on preferences of the target domain. Random",
        "rewards pull every accuracy towards 50%: restarts alone cost a base above chance, and would help one below.",
        "",
        *(f"- {gained(row)}" for row in rows if row.method.startswith("ebrm")),
        "",
        "| refined on | method | accuracy | over the base | log-loss |",
        "| :-- | :-- | --: | --: | --: |",
        *(_line(row) for row in rows),
    ]


def _near(accuracy: float) -> str:
    return "the paper's situation" if CHANCE[0] <= accuracy <= CHANCE[1] else "not the paper's situation"


def gained(row: SituationRow) -> str:
    """What a method is worth over the base, in a sentence."""
    _, low, high = row.over_base
    verdict = "gains" if low > 0 else "loses" if high < 0 else "neither gains nor loses beyond the interval"
    return f"`{row.method}`, refined on {_domain(row)}, {verdict}: {points_interval(*row.over_base)} points."


def _line(row: SituationRow) -> str:
    accuracy, over = percent_interval(*row.accuracy), points_interval(*row.over_base)
    return f"| {_domain(row)} | {row.method} | {accuracy} | {over} | {three_decimals(row.nll)} |"


def _domain(row: SituationRow) -> str:
    return {SAME: "the same preferences", TARGET: "the target domain"}[row.refined_on]


def _seeds(seeds: int) -> str:
    return f"means over {seeds} seeds" if seeds > 1 else "one seed"
