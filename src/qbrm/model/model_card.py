"""The model card of a refined reward model: data, settings and measured results, and nothing that was not measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from huggingface_hub import EvalResult, ModelCardData

from qbrm.reward_models.base import Identity
from qbrm.reward_models.hub import HUB_ID

TAGS = ["reward-model", "rlhf", "energy-based-model", "boltzmann-machine", "preference"]
TASK = "text-classification"

Row = Mapping[str, Any]


class Provenance(NamedTuple):
    """Where a refined reward model comes from, as JSON has it.

    Attributes:
        command: what trained it.
        data: a row for each part of the training preferences: name, role, prompts, pairs.
        settings: of the training.
        results: rows of `results.json` over all categories: the model's own, and its base reward model's.
    """

    command: str
    data: Sequence[Row]
    settings: Mapping[str, Any]
    results: Sequence[Row]


def model_card(
    name: str, identity: Identity, score: Mapping[str, Any], refinement: str, provenance: Provenance | None
) -> str:
    """Write the card: YAML front matter for the Hub, then Markdown.

    Args:
        name: what the model is called, such as its id on the Hub.
        identity: of the reward model that is refined.
        score: name and settings of the energy score.
        refinement: how it refines.
        provenance: data, settings and results; None if none are known, which the card then says.
    """
    parts = [
        f"---\n{_front_matter(name, identity, provenance)}\n---",
        f"# {name.rpartition('/')[2]}",
        f"Refines the rewards of `{identity.name}` with the energy score `{score['name']}` (refinement: "
        f"`{refinement}`) and gives a whole distribution p(r | e) with them. Made with QBRM.",
        f"```python\n{_usage(name)}\n```",
        "## Reward model\n\n" + _table(["", ""], [[key, value] for key, value in identity.to_dict().items()]),
        "## Energy score\n\n" + _table(["", ""], [[key, value] for key, value in score.items()]),
        *_measured(provenance),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(name: str, identity: Identity, provenance: Provenance | None) -> str:
    results = [
        EvalResult(
            task_type=TASK,
            task_name="preference",
            dataset_type=str(row["test"]),
            dataset_name=f"{row['test']}, {row['set']}",
            dataset_config=str(row["set"]),
            metric_type="accuracy",
            metric_value=row["accuracy"],
        )
        for row in _own(provenance)
    ]
    data = ModelCardData(
        base_model=identity.name if HUB_ID.fullmatch(identity.name) else None,
        eval_results=results or None,
        library_name="qbrm",
        model_name=name if results else None,
        pipeline_tag=TASK,
        tags=TAGS,
    )
    return data.to_yaml().strip()


def _usage(name: str) -> str:
    return (
        "from qbrm import EnergyRewardModel\n\n"
        f"model = EnergyRewardModel.from_pretrained({name!r})\n"
        'model.prefer("How do I boil an egg?", "Eight minutes in boiling water.", "Ask a chef.")  # P(r_a > r_b)'
    )


def _measured(provenance: Provenance | None) -> list[str]:
    if provenance is None:
        return ["## Data, settings, results\n\nNot recorded: this model was not made by a comparison."]
    data = [[row["role"], row["name"], f"{row['prompts']:,}", f"{row['pairs']:,}"] for row in provenance.data]
    settings = [[key, value] for key, value in provenance.settings.items() if value is not None]
    return [
        "## Data\n\n" + _table(["role", "source", "prompts", "pairs"], data),
        f"## Settings\n\n`{provenance.command}`\n\n" + _table(["", ""], settings),
        "## Measured results\n\n" + _results(provenance),
    ]


def _results(provenance: Provenance) -> str:
    if not provenance.results:
        return "None; run `qbrm evaluate`."
    header = ["test", "set", "n", "method", "accuracy", "95% interval", "log-loss", "ECE"]
    rows = [
        [
            row["test"],
            row["set"],
            f"{row['n']:,}",
            row["method"],
            f"{100 * row['accuracy']:.1f}",
            f"[{100 * row['ci_low']:.1f}, {100 * row['ci_high']:.1f}]",
            _number(row["nll"]),
            _number(row["ece"]),
        ]
        for row in provenance.results
    ]
    note = "Accuracy in percent, a tie counts as wrong; intervals by bootstrap over prompts; this seed alone."
    return f"{_table(header, rows)}\n\n{note}"


def _own(provenance: Provenance | None) -> list[Row]:
    return [row for row in provenance.results if row["method"] != "base"] if provenance else []


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
