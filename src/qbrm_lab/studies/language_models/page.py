"""results.md: what refining the rewards of language models gave, from what the studies left alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from qbrm.durable import make_folder, write_atomically
from qbrm.tables.grid import Column, Grid
from qbrm.tables.markdown import markdown_grid
from qbrm.tables.numbers import three_decimals
from qbrm_lab.methods import is_trained, words_of
from qbrm_lab.report.comparison import accuracy, extent
from qbrm_lab.report.contest import contest
from qbrm_lab.report.parts import methods_of, parts, summary_row
from qbrm_lab.report.plots.multiples import calibration_panels, difference_panels
from qbrm_lab.report.plots.png import png_bytes
from qbrm_lab.results import Results, read_results
from qbrm_lab.results.facts import FeaturesEmbedded
from qbrm_lab.scenarios import VARIANTS
from qbrm_lab.studies.language_models.beside import sections_of, targets_of, unmeasured
from qbrm_lab.studies.language_models.opening import SCORE, opening
from qbrm_lab.studies.page.tables import data_table, scenario_table, standing_table
from qbrm_lab.studies.page.verdicts import listed, whole_parts
from qbrm_lab.studies.reward_models import MAX_LENGTH
from qbrm_lab.studies.robustness import CANDIDATE

PAGE_FILE, FOLDER, TEMPLATE = "results.md", "results", "results.md.jinja"
EMBEDDINGS = ("last", "mean")
IN_WORDS = {
    "last": "the score layer's input",
    "mean": "the score layer's input and the mean of the last layer over the response",
}
# What the front page shows of each embedding.
SHOWN = (
    ("last", ("base", "base:tempered", "ebrm")),
    ("mean", ("ebrm:whole", "mlp", "residual", SCORE, CANDIDATE)),
)
CURVES = ("base", "mlp", "residual", "ebrm:whole", SCORE, CANDIDATE)


def write_page(folder: Path) -> Path:
    """Write results.md into a study's folder, and its plots into results/.

    Returns:
        The path of results.md.

    Raises:
        InputError: if the folder cannot be written, or a file in it is not what its name says.
    """
    results = read_embeddings(folder)
    make_folder(folder / FOLDER)
    for name, figure in _pictures(results):
        write_atomically(folder / FOLDER / f"{name}.png", png_bytes(figure))
    path = folder / PAGE_FILE
    write_atomically(path, _page(results, folder).encode())
    return path


def read_embeddings(folder: Path) -> dict[str, Results]:
    """The results with each embedding.

    Raises:
        InputError: if they are missing or not what they should be.
    """
    return {name: read_results(folder / name) for name in EMBEDDINGS}


def front_table(results: Mapping[str, Results]) -> str:
    """Pairwise accuracy and log-loss of a few methods in every scenario but those of few pairs, best in bold."""
    shown = {name: {part.scenario: part.results for part in whole_parts(of_one)} for name, of_one in results.items()}
    lines = [(embedding, method) for embedding, methods in SHOWN for method in methods]
    columns: list[Column] = []
    for scenario in shown[EMBEDDINGS[0]]:
        if scenario.startswith("small"):
            continue
        rows = [summary_row(shown[embedding][scenario], method, "pairwise") for embedding, method in lines]
        losses = [row.nll if row else None for row in rows]
        columns.append(contest(scenario, [row.accuracy if row else None for row in rows], map(accuracy, rows)))
        columns.append(contest("log-loss", losses, map(three_decimals, losses), min))
    labels = tuple(f"{method} on {embedding}" if is_trained(method) else method for embedding, method in lines)
    return markdown_grid(Grid("", "method", labels, tuple(columns)))


def _pictures(results: Mapping[str, Results]) -> Iterator[tuple[str, Figure]]:
    for name, of_one in results.items():
        yield f"differences-{name}", difference_panels(parts(of_one), "base")
    yield "calibration", calibration_panels(whole_parts(results[EMBEDDINGS[-1]]), CURVES)


def _page(results: Mapping[str, Results], folder: Path) -> str:
    environment = Environment(
        loader=PackageLoader("qbrm_lab.studies", "language_models"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    first = results[EMBEDDINGS[0]]
    text = environment.get_template(TEMPLATE).render(
        results=results,
        first=first,
        opening=opening(results, folder),
        front_table=front_table(results),
        in_words=IN_WORDS,
        methods=dict.fromkeys(method for of_one in results.values() for method in methods_of(of_one.summary)),
        origin=_origin(first),
        beside=sections_of(folder),
        targets=targets_of(folder),
        unmeasured=list(unmeasured(folder)),
        score=SCORE,
        candidate=CANDIDATE,
        folder=FOLDER,
        variants=VARIANTS,
        data_table=data_table,
        extent=extent,
        parts=parts,
        scenario_table=scenario_table,
        standing_table=standing_table,
        whole_parts=whole_parts,
        words_of=words_of,
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"


def _origin(results: Results) -> str:
    environment = results.environment
    features = [
        f"{fact.responses:,} of {fact.identity}" for fact in results.facts if isinstance(fact, FeaturesEmbedded)
    ]
    return (
        f"Responses that were embedded: {listed(features)}; texts are cut at {MAX_LENGTH} tokens. Environment: qbrm "
        f"{environment['qbrm']}, Python {environment['python']}, torch {environment['torch']}, {environment['cores']} "
        f"cores ({environment['processor']})."
    )
