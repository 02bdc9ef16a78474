"""The laboratory's commands: demo, compare, bench; study has a module of its own."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qbrm.cli import options as opt
from qbrm.samplers import SAMPLERS
from qbrm_lab.methods import split_methods
from qbrm_lab.methods.catalogue import DEMONSTRATED, usage
from qbrm_lab.scenarios import SCENARIOS

if TYPE_CHECKING:
    from qbrm_lab.comparison import ComparisonSettings
    from qbrm_lab.results import Results


class Benchmark(str, Enum):
    """What `qbrm bench` measures."""

    REFINE = "refine"
    TRAIN = "train"
    FIT = "fit"
    SAMPLE = "sample"
    EMBED = "embed"
    SCALE = "scale"
    SERVE = "serve"


Methods = Annotated[
    str,
    typer.Option(
        help=f"Methods, separated by commas; options stand behind a colon, as in sqrbm:gate,members=5. {usage()}.",
        metavar="NAME[:OPTIONS][,...]",
    ),
]
DEFAULT_METHODS = ",".join(DEMONSTRATED)
# What the demo probes: one score, on few prompts, as every probe is a response more to embed.
PROBED, PROBED_PROMPTS = "sqrbm", 20


def demo(
    out: Annotated[Path, typer.Option(help="Folder for features, training states and the report.")] = Path("runs/demo"),
    methods: Methods = DEFAULT_METHODS,
    seeds: opt.Seeds = 3,
    seed: opt.Seed = 0,
    epochs: opt.Epochs = 5,
) -> None:
    """Run the whole comparison on the bundled sample set, and probe one score; nothing is downloaded."""
    from qbrm.cli.probe import probe_model
    from qbrm.durable import one_writer
    from qbrm.preferences import sample_source
    from qbrm_lab.comparison import ComparisonSettings
    from qbrm_lab.comparison.sources import read_sources
    from qbrm_lab.methods.names import folder_name
    from qbrm_lab.preference_lines import write_preferences
    from qbrm_lab.report import write_report
    from qbrm_lab.report.plots.probes import Probed

    settings = ComparisonSettings(
        train=sample_source(),
        out=out,
        methods=split_methods(opt.listed("--methods", methods)),
        seeds=seeds,
        seed=seed,
        epochs=epochs,
        command=opt.command_line(),
    )
    results = _compare(settings)
    if PROBED in settings.methods:
        model = out / "models" / f"{folder_name(PROBED)}-{settings.scenario}-seed-{seed}"
        (test,) = read_sources(settings).tests.values()
        held_out = write_preferences(out / "probed" / "test.jsonl", test)
        rows = probe_model(str(model), str(held_out), None, out / "probes", PROBED_PROMPTS, seed)
        with one_writer(out):
            write_report(results, out, Probed(PROBED, rows))


def compare(
    train: Annotated[Path, typer.Option(help=f"Training preferences: {opt.SOURCE_HELP}.")],
    out: Annotated[Path, typer.Option(help="Folder for features, training states and the report.")],
    test: Annotated[
        str | None,
        typer.Option(
            help="Test preferences; without it 20% of the training prompts are held out.", metavar="SRC[,SRC]"
        ),
    ] = None,
    scenario: Annotated[
        str,
        typer.Option(
            help=f"Who trains on what: {', '.join(SCENARIOS)}. 'fresh': half of the training prompts train the "
            "embedded reward model, the other half the scores. 'same': both see all of them, as in the paper. Reward "
            "models that are trained leave all to the scores."
        ),
    ] = "fresh",
    methods: Methods = DEFAULT_METHODS,
    reward_model: opt.RewardModelName = "all-MiniLM-L6-v2",
    revision: opt.Revision = None,
    head: opt.Head = None,
    output: opt.Output = None,
    embedding: opt.Embedding = None,
    template: opt.Template = None,
    fold_system: opt.FoldSystem = False,
    max_length: opt.MaxLength = None,
    dtype: opt.Dtype = None,
    device_map: opt.DeviceMap = None,
    trust_remote_code: opt.TrustRemoteCode = False,
    seeds: opt.Seeds = 3,
    seed: opt.Seed = 0,
    epochs: opt.Epochs = 5,
    sampler: Annotated[
        str | None,
        typer.Option(
            help=f"Draw the hidden spins of qbm and tqbm with this: {', '.join(SAMPLERS)}. Default: sum over them."
        ),
    ] = None,
    hidden: Annotated[
        int | None,
        typer.Option(
            help="Hidden units of rbm, sqrbm, qbm and tqbm. Default: 32, 32, 12 and 6.", min=1, max=opt.MOST_HIDDEN
        ),
    ] = None,
    skip_bad: opt.SkipBad = False,
    wandb: Annotated[
        bool, typer.Option(help="Log metrics to Weights & Biases too (WANDB_MODE=offline works).")
    ] = False,
) -> None:
    """Compare base reward model, EBRM and QBM on preferences they were not trained on.

    Writes results.json, report.html and plots to --out. Run it again to continue where it stopped.

    Example: qbrm compare --train prefs.jsonl --test rewards/rmb --out runs/first
    """
    from qbrm_lab.comparison import ComparisonSettings

    _compare(
        ComparisonSettings(
            train=train,
            tests=sources(test),
            out=out,
            scenario=scenario,
            methods=split_methods(opt.listed("--methods", methods)),
            reward_model=reward_model,
            reward_model_options=opt.reading(locals()),
            seeds=seeds,
            seed=seed,
            epochs=epochs,
            sampler=sampler,
            hidden=hidden,
            skip_bad=skip_bad,
            wandb=wandb,
            command=opt.command_line(),
        )
    )


def bench(
    benchmark: Annotated[Benchmark, typer.Argument(help="What to measure.")],
    json: Annotated[bool, typer.Option(help="Print one JSON list instead of a table.")] = False,
    seed: Annotated[int, typer.Option(help="Seeds inputs and weights.", min=0, max=opt.MOST_SEED)] = 0,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON list to this file.")] = None,
    reward_model: Annotated[
        str | None,
        typer.Option(
            help="embed: folder or id of a sequence classifier. Default: a small decoder with random weights.",
            metavar="NAME_OR_PATH",
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(help="embed: preferences whose texts are embedded. Default: made-up ones.", metavar="SOURCE"),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="embed: float32, bfloat16 or float16. Default: float32.", metavar="NAME")
    ] = None,
) -> None:
    """Measure speed against the published arithmetic and the hardware's floor, in one run."""
    from qbrm_lab.bench import run_benchmark

    run_benchmark(
        benchmark.value, seed=seed, as_json=json, out=out, **opt.given(reward_model=reward_model, on=on, dtype=dtype)
    )


def _compare(settings: ComparisonSettings) -> Results:
    from qbrm.cli.console import Reporter
    from qbrm.durable import one_writer
    from qbrm_lab.comparison import compare as run
    from qbrm_lab.report import print_results, write_report

    reporter = Reporter()
    with one_writer(settings.out):
        results = run(settings, reporter)
        report = write_report(results, settings.out)
    print_results(results, reporter.console)
    reporter.fact("report", str(report))
    return results


def sources(tests: str | None) -> tuple[Path, ...]:
    """The test preferences that `--test` names."""
    return () if tests is None else tuple(Path(name) for name in opt.listed("--test", tests))
