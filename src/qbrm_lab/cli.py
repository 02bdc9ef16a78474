"""The laboratory's commands: demo, compare, study, bench."""

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


class Study(str, Enum):
    """What `qbrm study` studies."""

    ALL = "all"
    ROBUSTNESS = "robustness"
    OVER_OPTIMISATION = "over-optimisation"
    COVERAGE = "coverage"
    FINE_TUNED = "fine-tuned"
    SAMPLING = "sampling"
    KEEP = "keep"
    HARDEN = "harden"


class Benchmark(str, Enum):
    """What `qbrm bench` measures."""

    REFINE = "refine"
    TRAIN = "train"
    FIT = "fit"
    SAMPLE = "sample"
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


def demo(
    out: Annotated[Path, typer.Option(help="Folder for features, training states and the report.")] = Path("runs/demo"),
    methods: Methods = DEFAULT_METHODS,
    seeds: opt.Seeds = 3,
    seed: opt.Seed = 0,
    epochs: opt.Epochs = 5,
) -> None:
    """Run the whole comparison on the bundled sample set; nothing is downloaded."""
    from qbrm.preferences import sample_source
    from qbrm_lab.comparison import ComparisonSettings

    _compare(
        ComparisonSettings(
            train=sample_source(),
            out=out,
            methods=split_methods(opt.listed("--methods", methods)),
            seeds=seeds,
            seed=seed,
            epochs=epochs,
            command=opt.command_line(),
        )
    )


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
            tests=_sources(test),
            out=out,
            scenario=scenario,
            methods=split_methods(opt.listed("--methods", methods)),
            reward_model=reward_model,
            reward_model_options=opt.given(
                revision=revision,
                head=head,
                output=output,
                template=template,
                fold_system=fold_system,
                max_length=max_length,
                dtype=dtype,
                device_map=device_map,
                trust_remote_code=trust_remote_code,
            ),
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


def study(
    train: Annotated[Path, typer.Option(help=f"Preferences, a fifth of whose prompts is the test: {opt.SOURCE_HELP}.")],
    out: Annotated[Path, typer.Option(help="Folder for features, training states, tables and plots.")],
    subject: Annotated[Study, typer.Argument(help="What to study.")] = Study.ALL,
    seeds: Annotated[
        int | None,
        typer.Option(help="How many seeds to run and average over. Default: 5, or 1 with --quick.", min=1, max=1000),
    ] = None,
    seed: opt.Seed = 0,
    epochs: opt.Epochs = 5,
    quick: Annotated[
        bool, typer.Option("--quick", help="Without the fine-tuned base, EBRM and other slow parts.")
    ] = False,
    skip_bad: opt.SkipBad = False,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that run seeds side by side, one thread each. Default: one per core.", min=1),
    ] = None,
    train_prompts: Annotated[
        int | None,
        typer.Option(help="harden: so many random prompts of --train. Default: 300, or 60 with --quick.", min=1),
    ] = None,
    reward_model: opt.RewardModelName = "all-MiniLM-L6-v2",
    revision: opt.Revision = None,
    head: opt.Head = None,
    output: opt.Output = None,
    template: opt.Template = None,
    fold_system: opt.FoldSystem = False,
    max_length: opt.MaxLength = None,
    dtype: opt.Dtype = None,
    device_map: opt.DeviceMap = None,
    trust_remote_code: opt.TrustRemoteCode = False,
) -> None:
    """Run a whole study: many comparisons with one question. Run it again to continue where it stopped.

    all: robustness, over-optimisation, coverage and fine-tuned, and results.md, the page of their results.

    robustness: every scenario with every method, against targets that were set before.

    over-optimisation: best-of-n up to 10,000 by every kind of reward, judged by a gold reward it never saw.

    coverage: how often intervals contain the true reward, where it is known because it was simulated.

    fine-tuned: every scenario again, on an encoder that was fine-tuned end to end.

    sampling: one score with every sampler and many sizes; accuracy against size, sampler error against time.

    keep: what keeping the old domain's order costs on the new one, over the weight of keeping, beside gates.

    harden: how often hacks win, of kinds that training against hacks has seen and of others; of any --reward-model.
    """
    from dataclasses import replace

    import joblib

    from qbrm.cli.console import Reporter
    from qbrm.durable import one_writer
    from qbrm_lab.comparison import ComparisonSettings
    from qbrm_lab.studies.everything import study_everything, study_part
    from qbrm_lab.studies.harden import METHODS, PROMPTS, QUICK_METHODS, QUICK_PROMPTS, study_harden
    from qbrm_lab.studies.keep import study_keep
    from qbrm_lab.studies.sampling import study_sampling

    reporter = Reporter()
    seeds = seeds or (1 if quick else 5)
    settings = ComparisonSettings(
        train=train,
        out=out,
        seeds=seeds,
        seed=seed,
        epochs=epochs,
        workers=workers or joblib.cpu_count(),
        skip_bad=skip_bad,
        command=opt.command_line(),
        reward_model=reward_model,
        reward_model_options=opt.given(
            revision=revision,
            head=head,
            output=output,
            template=template,
            fold_system=fold_system,
            max_length=max_length,
            dtype=dtype,
            device_map=device_map,
            trust_remote_code=trust_remote_code,
        ),
    )
    if subject is Study.HARDEN:
        with one_writer(out):
            prompts = train_prompts or (QUICK_PROMPTS if quick else PROMPTS)
            asked = replace(settings, methods=QUICK_METHODS if quick else METHODS)
            reporter.fact("harden", str(study_harden(asked, prompts, reporter)))
    elif subject is Study.ALL:
        reporter.fact("results", str(study_everything(settings, quick, reporter)))
    elif subject is Study.SAMPLING:
        with one_writer(out):
            reporter.fact("sampling", str(study_sampling(settings, reporter)))
    elif subject is Study.KEEP:
        with one_writer(out):
            reporter.fact("keep", str(study_keep(settings, reporter)))
    else:
        study_part(subject.value, settings, quick, reporter)


def bench(
    benchmark: Annotated[Benchmark, typer.Argument(help="What to measure.")],
    json: Annotated[bool, typer.Option(help="Print one JSON list instead of a table.")] = False,
    seed: Annotated[int, typer.Option(help="Seeds inputs and weights.", min=0, max=opt.MOST_SEED)] = 0,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON list to this file.")] = None,
) -> None:
    """Measure speed against the published arithmetic and the hardware's floor, in one run."""
    from qbrm_lab.bench import run_benchmark

    run_benchmark(benchmark.value, seed=seed, as_json=json, out=out)


def _compare(settings: ComparisonSettings) -> None:
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


def _sources(tests: str | None) -> tuple[Path, ...]:
    return () if tests is None else tuple(Path(name) for name in opt.listed("--test", tests))
