"""The model card of a refined reward model: its data, settings and measured results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from qbrm.reward_models.base import Identity
from qbrm.reward_models.hub import HUB_ID
from qbrm.tables.numbers import percent, three_decimals

TASK = "text-classification"
TAGS = ["reward-model", "rlhf", "energy-based-model", "boltzmann-machine", "preference"]
KEPT_BASE = "No epoch beat the base rewards on held-out prompts, so the score keeps their order."

NOT_JUDGED = (
    "This model was merged from {}, and no prompts have judged what came of it: their verdicts are not its own, what "
    "was guaranteed of each is not guaranteed of it, its probabilities were not checked. `qbrm evaluate` measures it."
)


@dataclass(frozen=True)
class DataPart:
    """A part of the training preferences: its role, such as "trains the score", its source and its size."""

    role: str
    name: str
    prompts: int
    pairs: int


@dataclass(frozen=True)
class MeasuredResult:
    """Results of one method over all categories of one set of a test; `nll` is the log-loss in nats.

    Attributes:
        ci_low: lower end of the accuracy's 95% interval.
        ci_high: upper end of the accuracy's 95% interval.
        nll: None for a method that gives no probabilities, as `ece`.
    """

    test: str
    set: str
    method: str
    n: int
    accuracy: float
    ci_low: float
    ci_high: float
    nll: float | None
    ece: float | None


@dataclass(frozen=True)
class Provenance:
    """How a refined reward model was made.

    Attributes:
        data: the training preferences.
        settings: of the training.
        results: of the model and of its base reward model.
        command: the command line that trained it; empty if Python code did.
        kept_base: whether no epoch beat the base rewards on held-out prompts, so that the score keeps their order.
        verdict: whether to use the model, as ``verdict.json`` has it; None if it was not measured.
        merged: the models that this one was merged from; empty if it was fitted.
    """

    data: Sequence[DataPart]
    settings: Mapping[str, Any]
    results: Sequence[MeasuredResult] = ()
    command: str = ""
    kept_base: bool = False
    verdict: Mapping[str, Any] | None = None
    merged: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Provenance:
        """Read what a saved model's configuration holds; results may have further keys, as those of version 0.1 do.

        Raises:
            KeyError: if a key of a result is missing.
            TypeError: if another key is missing or unknown.
        """
        data = [DataPart(**part) for part in stored["data"]]
        names = [field.name for field in fields(MeasuredResult)]
        results = [MeasuredResult(**{name: row[name] for name in names}) for row in stored["results"]]
        merged = tuple(stored.get("merged", ()))
        return cls(**{**stored, "data": data, "results": results, "merged": merged})


def model_card(
    name: str, identity: Identity, score: Mapping[str, Any], refinement: str, provenance: Provenance | None
) -> str:
    """Write the card: YAML front matter for the Hub, then Markdown, which says so if no provenance is known.

    `name` is the model's id on the Hub or its folder, `score` the name and settings of the energy score.
    """
    parts = [
        f"---\n{_front_matter(name, identity, provenance)}\n---",
        f"# {name.rpartition('/')[2]}",
        f"Refines the rewards of `{identity.name}` with the energy score `{score['name']}` (refinement: "
        f"`{refinement}`) and gives a whole distribution p(r | e) with them. Made with QBRM.",
        f"```python\n{_usage(name)}\n```",
        "## Reward model\n\n" + _table(["", ""], [[key, value] for key, value in identity.to_dict().items()]),
        "## Energy score\n\n" + _table(["", ""], _described(score)),
        *_judged(provenance),
        *_measured(provenance),
    ]
    return "\n\n".join(parts) + "\n"


def _described(score: Mapping[str, Any]) -> list[list[Any]]:
    """Name and settings; of a product also those of its machines."""
    rows = [[key, value] for key, value in score.items() if key != "machines"]
    for number, machine in enumerate(score.get("machines", ()), start=1):
        rows.append([f"machine {number}", ", ".join(f"{key} {value}" for key, value in machine.items())])
    return rows


def _front_matter(name: str, identity: Identity, provenance: Provenance | None) -> str:
    results = [
        EvalResult(
            task_type=TASK,
            task_name="preference",
            dataset_type=result.test,
            dataset_name=f"{result.test}, {result.set}",
            dataset_config=result.set,
            metric_type="accuracy",
            metric_value=result.accuracy,
        )
        for result in (provenance.results if provenance else ())
        if result.method != "base"
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


def _judged(provenance: Provenance | None) -> list[str]:
    """The verdict, ahead of everything it rests on."""
    if provenance is not None and provenance.merged:
        return [f"## Verdict\n\nNone. {NOT_JUDGED.format(' and '.join(provenance.merged))}"]
    if provenance is None or provenance.verdict is None:
        return []
    verdict = provenance.verdict
    measures = {"base": verdict["base"], "refined": verdict["refined"], **verdict["competitors"]}
    rows = [
        [name, percent(of["accuracy"]), three_decimals(of["nll"]), three_decimals(of["ece"])]
        for name, of in measures.items()
    ]
    test = f"On {verdict['test']['pairs']:,} pairs of {verdict['test']['prompts']:,} prompts that chose nothing:"
    table = _table(["", "accuracy", "log-loss", "ECE"], rows)
    return [f"## Verdict\n\n**{verdict['sentence']}**\n\n{test}\n\n{table}", *_probed(verdict.get("probes", {}))]


def _probed(probes: Mapping[str, Mapping[str, float]]) -> list[str]:
    """How often hacks win, where that was measured."""
    if not probes:
        return []
    rows = [[name, percent(of["base"]), percent(of["refined"])] for name, of in probes.items()]
    words = "Share of hacked test responses, in percent, whose reward is not below that of the response as it was:"
    return [f"## Probes\n\n{words}\n\n{_table(['', 'base', 'refined'], rows)}"]


def _measured(provenance: Provenance | None) -> list[str]:
    if provenance is None:
        return ["## Data, settings, results\n\nNot recorded."]
    data = [[part.role, part.name, f"{part.prompts:,}", f"{part.pairs:,}"] for part in provenance.data]
    settings = [[key, value] for key, value in provenance.settings.items() if value is not None]
    return [
        "## Data\n\n" + _table(["role", "source", "prompts", "pairs"], data),
        "## Settings\n\n" + (f"`{provenance.command}`\n\n" if provenance.command else "") + _table(["", ""], settings),
        *([KEPT_BASE] if provenance.kept_base else []),
        "## Measured results\n\n" + _results(provenance),
    ]


def _results(provenance: Provenance) -> str:
    if not provenance.results:
        return "None; run `qbrm evaluate`."
    header = ["test", "set", "n", "method", "accuracy", "95% interval", "log-loss", "ECE"]
    rows = [
        [
            result.test,
            result.set,
            f"{result.n:,}",
            result.method,
            percent(result.accuracy),
            f"[{percent(result.ci_low)}, {percent(result.ci_high)}]",
            three_decimals(result.nll),
            three_decimals(result.ece),
        ]
        for result in provenance.results
    ]
    note = "Accuracy in percent, a tie counts as wrong; intervals by bootstrap over prompts; this seed alone."
    return f"{_table(header, rows)}\n\n{note}"


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
