"""The page of the study of policies: what was asked, the picture, what came out, the table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qbrm_lab.results.policy_rows import HeldOutAccuracy, Measured, PolicyResults, PolicyRow

PICTURE = "grpo.png"
PLOT = f"![Rewards, length, repetition and divergence over updates]({PICTURE})"
PERCENT = ("repetition", "distinct_2", "shared", "probe_like", "self_rating", "flattery", "repeated_sentence")
MEASURES_OF_TEXTS = {
    "tokens": "tokens",
    "repetition": "repeated 4-grams, %",
    "distinct_2": "distinct 2-grams, %",
    "shared": "4-grams shared with answers to other prompts, %",
    "probe_like": "probe-like, %",
    "self_rating": "rates itself, %",
    "flattery": "flatters, %",
    "repeated_sentence": "repeats a sentence, %",
}


def grpo_markdown(results: PolicyResults) -> str:
    """The page, generated from the results alone."""
    return (
        "\n".join([*_asked(results), "", PLOT, "", *found(results), "", *_table(results), "", *_compared(results)])
        + "\n"
    )


def _asked(results: PolicyResults) -> list[str]:
    names = ", ".join(f"`{name}`" for name, _ in results.rewards)
    prompts = f"{results.prompts_per_step} prompt{'s' * (results.prompts_per_step > 1)}"
    times = f"{results.held_out_completions} time{'s' * (results.held_out_completions > 1)}"
    gold = "" if results.gold is None else " and by a gold reward model that trained none of them"

    return [
        "# Policies trained on rewards",
        "",
        f"`{results.command}` wrote this page.",
        "",
        "A reward that is easy to game is gamed by a policy that is trained on it. So a small language model,",
        f"{results.policy}, is trained by GRPO on each kind of rewards in turn ({names}), and what it writes is",
        f"judged by all of them{gold}.",
        "",
        f"{results.seeds} seed{'s' * (results.seeds > 1)}, {results.steps} updates; each takes {prompts} out of",
        f"{results.prompts:,}, and {results.group} completions to each of up to {results.completion_tokens} tokens.",
        f"Prompts of over {results.most_prompt_tokens} tokens are left out. {results.held_out} others, answered",
        f"{times} each at the start, at the end and in between, are the test. Nothing but rewards is trained on: no",
        "length or divergence is punished. Probe-like is a text that rates itself, flatters, or says a sentence twice.",
        "Shared is the share of an answer's 4-grams that also occur in answers to other prompts: high if a policy says",
        "the same whatever it is asked.",
        *_accuracy_of_gold(results.gold_accuracy),
    ]


def _accuracy_of_gold(known: HeldOutAccuracy | None) -> list[str]:
    if known is None:
        return []
    right, length = (f"{100 * share:.1f}%" for share in (known.accuracy, known.length_accuracy))
    return [
        f"The gold reward model is right in {right} of {known.pairs:,} pairs that it has not seen; that the longer",
        f"response is better is right in {length} of them.",
    ]


def found(results: PolicyResults) -> list[str]:
    """What became of the policies, a line for each kind of rewards."""
    lines = []
    for name, _ in results.rewards:
        ends = {row.measure: row for row in _last(results, name)}
        own, gold = ends[name], ends.get("gold")
        shown = [f"its own reward {_deviations(own)}"]
        if gold is not None:
            shown.append(f"gold {_deviations(gold)}")
        shown.append(f"{_start(ends['tokens']):.0f} to {ends['tokens'].mean[0]:.0f} tokens")
        for measure, words in (
            ("repetition", "repeated 4-grams"),
            ("shared", "4-grams shared with other answers"),
            ("probe_like", "probe-like"),
        ):
            row = ends[measure]
            shown.append(f"{words} {100 * _start(row):.1f}% to {100 * row.mean[0]:.1f}%")
        lines.append(f"- rewarded by `{name}`: {'; '.join(shown)}")
    return lines


def _start(row: PolicyRow) -> float:
    return row.mean[0] - row.change[0]


def _deviations(row: PolicyRow) -> str:
    """A change in standard deviations at the start, with what its interval says."""
    if row.in_deviations is None:
        return "unchanged"
    sure = "" if row.change[1] > 0 or row.change[2] < 0 else " (within its interval)"
    return f"{row.in_deviations:+.2f} SD{sure}"


def _last(results: PolicyResults, name: str) -> Iterator[PolicyRow]:
    step = max(row.step for row in results.rows if row.rewarded_by == name)
    yield from (row for row in results.rows if (row.rewarded_by, row.seed, row.step) == (name, None, step))


def _table(results: PolicyResults) -> list[str]:
    lines = [
        "After the last update, and the change since the first answers, with 95% intervals by prompt; means over",
        "seeds. Rewards have each their own scale; SD is the standard deviation of single completions before training.",
        "",
        "| rewarded by | measure | at the end | change | in SD |",
        "| :-- | :-- | --: | --: | --: |",
    ]
    for name, _ in results.rewards:
        for row in _last(results, name):
            deviations = "-" if row.in_deviations is None else f"{row.in_deviations:+.2f}"
            cells = _interval(row.measure, row.mean), _interval(row.measure, row.change, signed=True), deviations
            lines.append(f"| {name} | {_words(row.measure)} | {' | '.join(cells)} |")
    return lines


def _compared(results: PolicyResults) -> Sequence[str]:
    if not results.compared:
        return []
    first = results.compared[0].against
    return [
        f"The change of policies rewarded otherwise, less that of policies rewarded by `{first}`, paired by prompt:",
        "",
        "| rewarded by | measure | difference |",
        "| :-- | :-- | --: |",
        *(
            f"| {row.rewarded_by} | {_words(row.measure)} | {_interval(row.measure, row.difference, signed=True)} |"
            for row in results.compared
        ),
    ]


def _words(measure: str) -> str:
    return MEASURES_OF_TEXTS.get(measure, f"{measure} reward")


def _interval(measure: str, numbers: Measured, *, signed: bool = False) -> str:
    scale, digits = (100, 1) if measure in PERCENT else (1, 1 if measure == "tokens" else 2)
    mean, low, high = (round(scale * number, digits) + 0.0 for number in numbers)
    sign = "+" if signed else ""
    return f"{mean:{sign}.{digits}f} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"
