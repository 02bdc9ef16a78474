"""What an embedding that reads more than the score layer's input is worth to refinement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from qbrm.cli.console import Reporter
from qbrm.durable import write_atomically
from qbrm.features import FeatureTable
from qbrm.preferences import Prompt, prompt_id, response_id
from qbrm.reward_models import Embedded, RewardModel, RewardModelOptions, load_reward_model
from qbrm.reward_models.base import head_dim
from qbrm.tables.grid import Grid
from qbrm.tables.markdown import markdown_grid
from qbrm.tables.numbers import three_decimals
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.comparison.compare import Prepared, embed, prepare
from qbrm_lab.comparison.records import results_of
from qbrm_lab.report import write_report
from qbrm_lab.report.comparison import accuracy, extent
from qbrm_lab.report.contest import contest
from qbrm_lab.report.parts import SET_NAMES, Part, parts, sets_of, summary_row
from qbrm_lab.results import Results
from qbrm_lab.studies.scenarios import scenario_tables

METHODS = (
    *("length", "base", "base:tempered", "residual", "residual:gate,members=5", "gaussian", "quantile"),
    *("ebrm", "rbm", "sqrbm", "sqrbm:deep", "sqrbm:gate,members=5", "qbm"),
)
QUICK_METHODS = ("length", "base", "base:tempered", "residual", "sqrbm")
SCENARIO, PAGE = "fresh", "embeddings.md"
EMBEDDINGS = ("last", "mean", "layers")


def study_embeddings(settings: ComparisonSettings, reporter: Reporter) -> Path:
    """Refine one reward model's rewards with three embeddings, all of them parts of one pass through the model.

    ``last`` is the score layer's input, ``mean`` that and the mean of the last layer over the response, ``layers``
    those and a lower layer's mean. Writes a report for each to a folder of its name in `settings.out`, and
    embeddings.md, the table of all. EBRM reads the score layer's input in each of them, as published, unless its
    options say otherwise.

    Args:
        settings: the reward model, which is loaded with the embedding ``layers``, preferences, methods and seeds.
        reporter: shows progress.

    Returns:
        The path of embeddings.md.

    Raises:
        InputError: if the reward model is the embedded encoder, or something else is not usable.
        TrainingError: if a training cannot go on.
    """
    options: RewardModelOptions = {**settings.reward_model_options, "embedding": "layers"}
    settings = replace(settings, reward_model_options=options)
    prepared = prepare(settings, reporter)
    of_each = {}
    for name in EMBEDDINGS:
        part = narrowed(prepared, name, reporter)
        tables = scenario_tables(part, SCENARIO, settings.selected_methods(), reporter)
        results = results_of([tables], settings.command, part.sources, [part.features])
        write_report(results, settings.out / name)
        of_each[name] = results
    path = settings.out / PAGE
    write_atomically(path, embeddings_markdown(of_each).encode())
    return path


def narrowed(wide: Prepared, name: str, reporter: Reporter) -> Prepared:
    """The same comparison with an embedding that the wide one begins with; features go to a folder of its name.

    Raises:
        InputError: if the reward model takes no embedding.
    """
    settings, sources = wide.settings, wide.sources
    options: RewardModelOptions = {**settings.reward_model_options, "embedding": name}
    model = load_reward_model(settings.reward_model, **options)
    narrow = FirstCoordinates(model, FeatureTable.open(settings.out / "features"))
    out = settings.out / name
    table, features = embed(narrow, [sources.train, *sources.tests.values()], out / "features", reporter)
    return wide._replace(
        settings=replace(settings, out=out, reward_model_options=options),
        model=model,
        embedded=table.rows(wide.responses.keys),
        features=features,
    )


def embeddings_markdown(results: dict[str, Results]) -> str:
    """Accuracies and log-losses of every method, a column for every embedding; best in bold."""
    shown = {name: parts(of_one) for name, of_one in results.items()}
    tables = [
        f"{extent(alike[0].results)}.\n\n{markdown_grid(_grid(dict(zip(shown, alike, strict=True))))}"
        for alike in zip(*shown.values(), strict=True)
    ]
    return "\n".join(tables)


class FirstCoordinates:
    """What a reward model with a narrower embedding would give, from the table of a wider one that begins with it.

    Args:
        model: the reward model with the narrower embedding.
        table: features of the same reward model with the wider one.
    """

    def __init__(self, model: RewardModel, table: FeatureTable) -> None:
        self.identity, self.dim, self.head_dim = model.identity, model.dim, head_dim(model)
        self._table = table

    def embed(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Embedded:
        """The first coordinates of response i as an answer to prompt i, for all i."""
        keys = [(prompt_id(prompt), response_id(text)) for prompt, text in zip(prompts, responses, strict=True)]
        wide = self._table.rows(keys)
        return Embedded(np.ascontiguousarray(wide.embedding[:, : self.dim]), wide.reward)


def _grid(shown: dict[str, Part]) -> Grid:
    methods: Any = tuple(dict.fromkeys(row.method for part in shown.values() for row in part.results.summary))
    columns = []
    for name, part in shown.items():
        for set_name in sets_of(part.results.summary):
            rows = [summary_row(part.results, method, set_name) for method in methods]
            values = [row.accuracy if row else None for row in rows]
            columns.append(contest(f"{name}, {SET_NAMES[set_name]}", values, map(accuracy, rows)))
        rows = [summary_row(part.results, method, sets_of(part.results.summary)[0]) for method in methods]
        losses = [row.nll if row else None for row in rows]
        columns.append(contest(f"{name}, log-loss", losses, map(three_decimals, losses), min))
    return Grid("", "method", methods, tuple(columns))
