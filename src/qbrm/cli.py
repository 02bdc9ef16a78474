"""The command line: parses, calls, and turns errors into one line."""

from __future__ import annotations

import io
import os
import shlex
import sys
from collections.abc import Iterable
from contextlib import suppress
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption

from qbrm import __version__
from qbrm.errors import InputError, TrainingError, WorkerError

try:
    from typer import TyperException as UsageError
except ImportError:  # the last typer for Python 3.10 builds on click and raises its errors
    from click import ClickException as UsageError  # type: ignore[assignment]

if TYPE_CHECKING:
    from qbrm.comparison import ComparisonSettings

app = typer.Typer(
    name="qbrm",
    help="Refine the rewards of a frozen reward model, and measure whether that helped.\n\n"
    "Start with [bold]qbrm demo[/bold]; then [bold]qbrm compare --train prefs.jsonl --out runs/first[/bold].",
    rich_markup_mode="rich",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

INTERRUPTED = 130
REWARD_MODEL = "Reward models from a folder or the Hugging Face Hub"
SOURCE_HELP = "an RMB folder or JSON file, or a JSONL or Parquet file of prompt, chosen, rejected[, category]"


class NamingCommand(TyperCommand):
    """A command whose help names what registries hold; they are read when help is asked for, as that takes seconds."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Put the names where the help has `METHODS`, `SCENARIOS`, `SAMPLERS` or `SCORES`."""
        from qbrm.comparison.methods import METHODS
        from qbrm.comparison.scenario import SCENARIOS
        from qbrm.fit import SCORES
        from qbrm.samplers import SAMPLERS

        known: dict[str, Iterable[str]] = {
            "METHODS": METHODS,
            "SCENARIOS": SCENARIOS,
            "SAMPLERS": SAMPLERS,
            "SCORES": SCORES,
        }
        for option in self.params:
            for word, names in known.items():
                if isinstance(option, TyperOption) and option.help and word in option.help:
                    option.help = option.help.replace(word, ", ".join(names))
        super().format_help(ctx, formatter)


class ExportFormat(str, Enum):
    """File formats that `qbrm export` writes."""

    EBRM_PT = "ebrm-pt"


class Preset(str, Enum):
    """Named settings of the published baseline."""

    DEFAULT = "default"
    PUBLISHED = "published"


class Study(str, Enum):
    """What `qbrm study` studies."""

    ALL = "all"
    ROBUSTNESS = "robustness"
    OVER_OPTIMISATION = "over-optimisation"
    COVERAGE = "coverage"
    FINE_TUNED = "fine-tuned"
    SAMPLING = "sampling"


class Engine(str, Enum):
    """Who embeds."""

    LOCAL = "local"
    RAY = "ray"


class Benchmark(str, Enum):
    """What `qbrm bench` measures."""

    REFINE = "refine"
    TRAIN = "train"
    SAMPLE = "sample"
    SCALE = "scale"
    SERVE = "serve"


SeedOption = Annotated[int, typer.Option(help="First seed; the same seed gives the same results.", min=0)]
SeedsOption = Annotated[int, typer.Option(help="How many seeds to run and average over.", min=1, max=1000)]
EpochsOption = Annotated[int, typer.Option(help="Passes over the training pairs, for every trained method.", min=1)]
MethodsOption = Annotated[str, typer.Option(help="Comma-separated: METHODS.", metavar="NAME[,NAME...]")]
PresetOption = Annotated[
    Preset, typer.Option(help="'published' trains ebrm with the paper's 768 noise samples instead of 64.")
]
MovedOption = Annotated[
    str | None,
    typer.Option(
        "--reward-model",
        help="Where the reward model is now: folder or id. Default: where it was when the score was trained.",
        metavar="NAME_OR_PATH",
        rich_help_panel=REWARD_MODEL,
    ),
]
RefinedRevisionOption = Annotated[
    str | None,
    typer.Option("--revision", help="Of MODEL on the Hub: commit, tag or branch.", rich_help_panel=REWARD_MODEL),
]
RevisionOption = Annotated[
    str | None,
    typer.Option(help="Commit, tag or branch on the Hub; for a folder, its digest.", rich_help_panel=REWARD_MODEL),
]
HeadOption = Annotated[
    str | None,
    typer.Option(help="linear, gated or quantiles. Default: found out.", rich_help_panel=REWARD_MODEL),
]
TemplateOption = Annotated[
    str | None,
    typer.Option(
        help="'chat': the tokenizer's chat template (default). 'plain': prompt and response as they are.",
        rich_help_panel=REWARD_MODEL,
    ),
]
MaxLengthOption = Annotated[
    int | None,
    typer.Option(
        help="Tokens of prompt and response; what is over is cut from the prompt's beginning. Default: 4096, or what "
        "the model takes.",
        min=1,
        rich_help_panel=REWARD_MODEL,
    ),
]
DtypeOption = Annotated[
    str | None,
    typer.Option(
        help="auto, float32, bfloat16 or float16. Default: as stored, or as trained with.", rich_help_panel=REWARD_MODEL
    ),
]
DeviceMapOption = Annotated[
    str | None,
    typer.Option(help="As in transformers, such as auto. Default: first GPU, else CPU.", rich_help_panel=REWARD_MODEL),
]
TrustOption = Annotated[
    bool,
    typer.Option("--trust-remote-code", help="Run Python code of the model.", rich_help_panel=REWARD_MODEL),
]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"qbrm {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


@app.command(cls=NamingCommand)
def demo(
    out: Annotated[Path, typer.Option(help="Folder for features, training states and the report.")] = Path("runs/demo"),
    methods: MethodsOption = "length,base,mlp,ebrm,rbm,sqrbm,sqrbm-gate-ensemble",
    seeds: SeedsOption = 3,
    seed: SeedOption = 0,
    epochs: EpochsOption = 5,
    preset: PresetOption = Preset.DEFAULT,
) -> None:
    """Run the whole comparison on the bundled sample set; nothing is downloaded."""
    from qbrm.comparison import ComparisonSettings
    from qbrm.preferences import sample_source

    _compare(
        ComparisonSettings(
            train=sample_source(),
            out=out,
            methods=_names(methods),
            seeds=seeds,
            seed=seed,
            epochs=epochs,
            published=preset is Preset.PUBLISHED,
            command=_command(),
        )
    )


@app.command(cls=NamingCommand)
def compare(
    train: Annotated[Path, typer.Option(help=f"Training preferences: {SOURCE_HELP}.")],
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
            help="Who trains on what: SCENARIOS. 'fresh': half of the training prompts train the embedded reward "
            "model, the other half the scores. 'same': both see all of them, as in the paper. Reward models that are "
            "trained leave all to the scores."
        ),
    ] = "fresh",
    methods: MethodsOption = "length,base,mlp,ebrm,rbm,sqrbm,sqrbm-gate-ensemble",
    reward_model: Annotated[
        str,
        typer.Option(
            help="Reward model: the embedded default, a folder of a sequence classifier, or its id on the Hugging Face "
            "Hub.",
            metavar="NAME_OR_PATH",
        ),
    ] = "all-MiniLM-L6-v2",
    revision: RevisionOption = None,
    head: HeadOption = None,
    template: TemplateOption = None,
    max_length: MaxLengthOption = None,
    dtype: DtypeOption = None,
    device_map: DeviceMapOption = None,
    trust_remote_code: TrustOption = False,
    seeds: SeedsOption = 3,
    seed: SeedOption = 0,
    epochs: EpochsOption = 5,
    preset: PresetOption = Preset.DEFAULT,
    objective: Annotated[
        str | None,
        typer.Option(
            help="Train all energy scores with nce, likelihood or preference. Default: ebrm nce, else preference."
        ),
    ] = None,
    refinement: Annotated[
        str | None,
        typer.Option(help="Refine with this: ascent, mode or mean. Default: ebrm ascent, others mode."),
    ] = None,
    filter_conflicts: Annotated[
        bool | None,
        typer.Option(
            "--filter-conflicts/--keep-conflicts",
            help="Drop training pairs that the base rewards contradict. Default: ebrm drops them, others keep them.",
            show_default=False,
        ),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(help="Draw the hidden spins of qbm with this: SAMPLERS. Default: sum over all their states."),
    ] = None,
    hidden: Annotated[
        int | None, typer.Option(help="Hidden units of rbm, sqrbm and qbm. Default: 32, 32 and 12.", min=1)
    ] = None,
    wandb: Annotated[
        bool, typer.Option(help="Log metrics to Weights & Biases too (WANDB_MODE=offline works).")
    ] = False,
) -> None:
    """Compare base reward model, EBRM and QBM on preferences they were not trained on.

    Writes results.json, report.html and plots to --out. Run it again to continue where it stopped.

    Example: qbrm compare --train prefs.jsonl --test rewards/rmb --out runs/first
    """
    from qbrm.comparison import ComparisonSettings

    _compare(
        ComparisonSettings(
            train=train,
            tests=_sources(test),
            out=out,
            scenario=scenario,
            methods=_names(methods),
            reward_model=reward_model,
            reward_model_options=_given(
                revision=revision,
                head=head,
                template=template,
                max_length=max_length,
                dtype=dtype,
                device_map=device_map,
                trust_remote_code=trust_remote_code or None,
            ),
            seeds=seeds,
            seed=seed,
            epochs=epochs,
            published=preset is Preset.PUBLISHED,
            objective=objective,
            refinement=refinement,
            filter_conflicts=filter_conflicts,
            sampler=sampler,
            hidden=hidden,
            wandb=wandb,
            command=_command(),
        )
    )


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="A refined reward model: a folder that save_pretrained wrote.")],
    on: Annotated[
        str,
        typer.Option(
            help="Benchmarks: a path, NAME:PATH, or a NAME to download: rmb, rewardbench, rewardbench-2, rm-bench, "
            "hh-rlhf, llmbar, preferences.",
            metavar="SOURCE[,SOURCE]",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for embeddings and results. Default: runs/evaluation/MODEL-DIGEST.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the intervals' resampling.", min=0)] = 0,
    reward_model: MovedOption = None,
    revision: RefinedRevisionOption = None,
    dtype: DtypeOption = None,
    device_map: DeviceMapOption = None,
    trust_remote_code: TrustOption = False,
) -> None:
    """Score a refined reward model and its base rewards on benchmarks, by their official rules.

    Writes evaluation.json and evaluation.md to --out. Run it again to continue where it stopped.

    Example: qbrm evaluate runs/first/models/sqrbm-fresh-seed-0 --on heldout.jsonl,rewardbench:data/reward-bench
    """
    from qbrm.benchmarks.command import evaluate_model
    from qbrm.console import Reporter

    options = _given(
        reward_model=reward_model,
        revision=revision,
        dtype=dtype,
        device_map=device_map,
        trust_remote_code=trust_remote_code or None,
    )
    evaluate_model(model, _listed("--on", on), out, seed, _command(), Reporter(), **options)


@app.command()
def embed(
    source: Annotated[Path, typer.Argument(help=f"What to embed: {SOURCE_HELP}.")],
    out: Annotated[Path, typer.Option(help="Folder for the features.")],
    reward_model: Annotated[
        str,
        typer.Option(help="The embedded default, a folder, or an id on the Hugging Face Hub.", metavar="NAME_OR_PATH"),
    ] = "all-MiniLM-L6-v2",
    engine: Annotated[Engine, typer.Option(help="This process, or actors on a Ray cluster.")] = Engine.LOCAL,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Ray actors that share the cluster's GPUs, or its cores. Default: one per GPU, or per machine.", min=1
        ),
    ] = None,
    revision: RevisionOption = None,
    head: HeadOption = None,
    template: TemplateOption = None,
    max_length: MaxLengthOption = None,
    dtype: DtypeOption = None,
    device_map: DeviceMapOption = None,
    trust_remote_code: TrustOption = False,
) -> None:
    """Compute a reward model's embeddings and rewards, to train scores on.

    Run it again to continue where it stopped. The features are the same whichever engine computes them.

    Example: qbrm embed prefs.jsonl --reward-model models/my-reward-model --out runs/features
    """
    from qbrm.console import Reporter
    from qbrm.features.embed import embed as run
    from qbrm.reward_models import load_reward_model

    options = _given(
        revision=revision,
        head=head,
        template=template,
        max_length=max_length,
        dtype=dtype,
        device_map=device_map,
        trust_remote_code=trust_remote_code or None,
    )
    run(source, out, partial(load_reward_model, reward_model, **options), engine.value, workers, Reporter())


@app.command(cls=NamingCommand)
def train(
    features: Annotated[list[Path], typer.Argument(help="Feature folders of one reward model.", metavar="FEATURES...")],
    out: Annotated[Path, typer.Option(help="Folder for the model.")],
    score: Annotated[str, typer.Option(help="Energy score: SCORES.")] = "sqrbm",
    seed: Annotated[int, typer.Option(help="Of split, weights, shuffling and noise.", min=0)] = 0,
    epochs: EpochsOption = 5,
) -> None:
    """Train an energy score on features of any size; they stay on disk and memory stays constant.

    Run it again to continue after the last whole epoch.

    Example: qbrm train runs/features --score sqrbm --out runs/model
    """
    from qbrm.console import Reporter
    from qbrm.fit import train_score

    train_score(features, score, out, Reporter(), epochs=epochs, seed=seed, command=_command())


@app.command()
def export(
    source: Annotated[Path, typer.Argument(help=f"A feature folder of a run, or {SOURCE_HELP}.")],
    file: Annotated[Path, typer.Argument(help="File to write.")],
    format: Annotated[ExportFormat, typer.Option(help="What to write.")] = ExportFormat.EBRM_PT,  # noqa: A002
    seed: Annotated[int, typer.Option(help="Of the reward model's training, for a preference source.", min=0)] = 0,
) -> None:
    """Write features as the published EBRM code reads them: {embedding, reward}, chosen and rejected alternating."""
    from qbrm.console import Reporter
    from qbrm.export import export_ebrm

    export_ebrm(source, file, seed, Reporter())


@app.command()
def study(
    train: Annotated[Path, typer.Option(help=f"Preferences, a fifth of whose prompts is the test: {SOURCE_HELP}.")],
    out: Annotated[Path, typer.Option(help="Folder for features, training states, tables and plots.")],
    subject: Annotated[Study, typer.Argument(help="What to study.")] = Study.ALL,
    seeds: Annotated[
        int | None,
        typer.Option(help="How many seeds to run and average over. Default: 5, or 1 with --quick.", min=1, max=1000),
    ] = None,
    seed: SeedOption = 0,
    epochs: EpochsOption = 5,
    quick: Annotated[
        bool, typer.Option("--quick", help="Without the fine-tuned base, EBRM and other slow parts.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that run seeds side by side, one thread each. Default: one per core.", min=1),
    ] = None,
) -> None:
    """Run a whole study: many comparisons with one question. Run it again to continue where it stopped.

    all: robustness, over-optimisation, coverage and fine-tuned, and results.md, the page of what they found.

    robustness: every scenario with every method, against targets set beforehand.

    over-optimisation: best-of-n up to 10,000 by every kind of reward, judged by a gold reward it never saw.

    coverage: how often intervals contain the true reward, where it is known because it was simulated.

    fine-tuned: every scenario again, on an encoder that was fine-tuned end to end.

    sampling: one score with every sampler and many sizes; accuracy against size, sampler error against time.
    """
    import joblib

    from qbrm.comparison import ComparisonSettings
    from qbrm.console import Reporter
    from qbrm.study.everything import study_everything, study_part
    from qbrm.study.sampling import study_sampling

    reporter = Reporter()
    seeds = seeds or (1 if quick else 5)
    settings = ComparisonSettings(
        train=train,
        out=out,
        seeds=seeds,
        seed=seed,
        epochs=epochs,
        workers=workers or joblib.cpu_count(),
        command=_command(),
    )
    if subject is Study.ALL:
        reporter.fact("results", str(study_everything(settings, quick, reporter)))
    elif subject is Study.SAMPLING:
        reporter.fact("sampling", str(study_sampling(settings, reporter)))
    else:
        study_part(subject.value, settings, quick, reporter)


@app.command()
def bench(
    benchmark: Annotated[Benchmark, typer.Argument(help="What to measure.")],
    json: Annotated[bool, typer.Option(help="Print one JSON list instead of a table.")] = False,
    seed: Annotated[int, typer.Option(help="Of inputs and weights.", min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON list to this file.")] = None,
) -> None:
    """Measure speed against the published arithmetic and the hardware's floor, in one run."""
    from qbrm.bench import run_benchmark

    run_benchmark(benchmark.value, seed=seed, as_json=json, out=out)


@app.command()
def serve(
    model: Annotated[str, typer.Argument(help="Folder of a refined reward model, as in runs/demo/models.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any free one.", min=0, max=65535)] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the token that requests must bear; or set QBRM_TOKEN.", show_default="everybody may ask"
        ),
    ] = None,
    max_body: Annotated[float, typer.Option(help="Largest request, in MiB.")] = 8.0,
    max_responses: Annotated[int, typer.Option(help="Most responses in one request.")] = 1024,
    max_characters: Annotated[int, typer.Option(help="Longest prompt or response.")] = 100_000,
    timeout: Annotated[float, typer.Option(help="Seconds after which a request is given up.")] = 60.0,
    batch: Annotated[int, typer.Option(help="Responses that go through the model together.")] = 64,
    batch_wait: Annotated[float, typer.Option(help="Milliseconds for which a batch waits for more.")] = 4.0,
    reward_model: MovedOption = None,
    revision: RefinedRevisionOption = None,
    dtype: DtypeOption = None,
    device_map: DeviceMapOption = None,
    trust_remote_code: TrustOption = False,
) -> None:
    """Serve a refined reward model: OpenRLHF's reward protocol, a JSON API, and a page to look at.

    Example: qbrm serve runs/demo/models/sqrbm-fresh-seed-0, then open http://127.0.0.1:8000
    """
    from qbrm.console import Reporter
    from qbrm.serving import serve as run
    from qbrm.serving.settings import MEBIBYTE, Limits, ServerSettings

    limits = Limits(
        body_bytes=round(max_body * MEBIBYTE),
        responses=max_responses,
        characters=max_characters,
        answer_seconds=timeout,
        batch=batch,
        batch_seconds=batch_wait / 1000,
    )
    options = _given(
        reward_model=reward_model,
        revision=revision,
        dtype=dtype,
        device_map=device_map,
        trust_remote_code=trust_remote_code or None,
    )
    run(ServerSettings(model, host, port, token_file, limits, options), Reporter())


def _compare(settings: ComparisonSettings) -> None:
    from qbrm.comparison import compare as run
    from qbrm.console import Reporter
    from qbrm.report import print_results

    reporter = Reporter()
    results, report = run(settings, reporter)
    print_results(results, reporter.console)
    reporter.fact("report", str(report))


def _sources(tests: str | None) -> tuple[Path, ...]:
    return () if tests is None else tuple(Path(name) for name in _listed("--test", tests))


def _listed(option: str, sources: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in sources.split(","))
    if not all(names):
        raise InputError(f"{option} {sources!r}: a source is empty; expected paths separated by commas.")
    return names


def _given(**options: Any) -> Any:
    """The options that were asked for, for whoever takes them by name."""
    return {name: value for name, value in options.items() if value is not None}


def _names(methods: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in methods.split(","))


def _command() -> str:
    return shlex.join(["qbrm", *sys.argv[1:]])


def main() -> None:
    """Run the command; a mistake of the user's is one line on standard error and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        code = app(standalone_mode=False)
    except InputError as error:
        _fail(str(error), 2)
    except (TrainingError, WorkerError) as error:
        _fail(str(error), 1)
    except UsageError as error:
        _fail(error.format_message(), 2)
    except BrokenPipeError:
        # Whoever read the output has left; the interpreter must not try to flush into the closed pipe.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    if code == INTERRUPTED:
        _fail("interrupted; the same command continues where it stopped.", INTERRUPTED)
    else:
        sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> None:
    print(f"qbrm: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
