"""The library's commands: parse, call, print the result."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from qbrm.cli import options as opt

ExportFormat = Literal["ebrm-pt", "transformers"]
Engine = Literal["local", "ray"]
Score = Literal["ebrm", "residual", "rbm", "sqrbm", "qbm", "tqbm"]


def embed(
    source: Annotated[Path, typer.Argument(help=f"What to embed: {opt.SOURCE_HELP}.")],
    out: Annotated[Path, typer.Option(help="Folder for the features.")],
    reward_model: opt.RewardModelName = "all-MiniLM-L6-v2",
    engine: Annotated[Engine, typer.Option(help="This process, or actors on a Ray cluster.")] = "local",
    workers: Annotated[
        int | None,
        typer.Option(
            help="Ray actors that share the cluster's GPUs, or its cores. Default: one per GPU, or per machine.", min=1
        ),
    ] = None,
    skip_bad: opt.SkipBad = False,
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
) -> None:
    """Compute a reward model's embeddings and rewards, to train scores on.

    Run it again to continue where it stopped. The features are the same whichever engine computes them.

    Example: qbrm embed prefs.jsonl --reward-model models/my-reward-model --out runs/features
    """
    from qbrm.cli.console import Reporter
    from qbrm.cli.preferences import cut_facts, read_source, report_refused
    from qbrm.features.embed import embed as run
    from qbrm.reward_models import load_reward_model

    reporter = Reporter()
    preferences = read_source(source, reporter, skip_bad=skip_bad)
    start, done = time.perf_counter(), list[int]()
    with reporter.progress("features") as advance:

        def follow(rows: int, total: int) -> None:
            done.append(rows)
            advance(rows, total)

        load = partial(load_reward_model, reward_model, **opt.reading(locals()))
        table, taken = run(preferences, out, load, engine, workers, follow, skip_bad=skip_bad)
    report_refused(len(preferences) - len(taken), reporter)
    embedded = done[-1] - done[0]
    rate = f" ({embedded / (time.perf_counter() - start):,.1f}/s)" if embedded else ""
    reporter.fact("features", f"{done[-1]:,} responses", table.identity.title, f"{embedded:,} embedded now{rate}")
    reporter.fact("written", f"{len(table):,} rows of size {table.dim}", *cut_facts(table), str(out))


def train(
    features: Annotated[list[Path], typer.Argument(help="Feature folders of one reward model.", metavar="FEATURES...")],
    out: Annotated[Path, typer.Option(help="Folder for the model.")],
    score: Annotated[Score, typer.Option(help="Energy score.")] = "sqrbm",
    gate: Annotated[bool, typer.Option("--gate", help="Fade the correction where embeddings are unfamiliar.")] = False,
    members: Annotated[
        int,
        typer.Option(
            help="Scores to train and validate on different prompts; their mean is the model.",
            min=1,
            max=opt.MOST_MEMBERS,
        ),
    ] = 1,
    seed: Annotated[int, typer.Option(help="Seeds split, weights, shuffling and noise.", min=0, max=opt.MOST_SEED)] = 0,
    epochs: opt.Epochs = 5,
) -> None:
    """Train an energy score on features of any size; they stay on disk and memory stays constant.

    Run it again to continue after the last whole epoch.

    Example: qbrm train runs/features --score sqrbm --out runs/model
    """
    from qbrm.cli.console import Reporter
    from qbrm.cli.preferences import cut_facts, pair_facts
    from qbrm.durable import one_writer
    from qbrm.features.stream import open_sources
    from qbrm.fitting import Epoch
    from qbrm.model import EnergyRewardModel
    from qbrm.model.fit import Split, fit_features
    from qbrm.model.score_choice import ScoreChoice

    reporter = Reporter()
    for folder, (table, pairs) in zip(features, open_sources(features), strict=True):
        rows = f"{len(table):,} rows of {table.identity}"
        reporter.fact(str(folder), rows, *cut_facts(table), *pair_facts(pairs.pair_count))

    def show_split(split: Split) -> None:
        held_out = f"{split.held_out:,} held out"
        reporter.fact("training", f"{split.training:,} pairs", held_out, f"score {score}")
        reporter.fact("base reward", f"held out: accuracy {100 * split.base_accuracy:.1f}%")

    def show_epoch(epoch: Epoch) -> None:
        loss = f"loss {epoch['loss']:.4f}" if "loss" in epoch else "untrained"
        held_out = f"held out: loss {epoch['validation_loss']:.4f}, accuracy {100 * epoch['validation_accuracy']:.1f}%"
        reporter.fact(f"epoch {int(epoch['epoch'])}", loss, held_out)

    choice = ScoreChoice(score, gate, members, epochs=epochs)
    with one_writer(out), reporter.progress("training") as advance:
        fitted = fit_features(
            features,
            choice,
            checkpoint=out / "training" / "checkpoint.safetensors",
            seed=seed,
            progress=lambda step, done, total: advance(done, total),
            on_split=show_split,
            on_epoch=show_epoch,
        )
        model = EnergyRewardModel(*fitted.parts)
        model.provenance = model.provenance and replace(model.provenance, command=opt.command_line())
        model.save_pretrained(out)
    reporter.fact("model", str(out))


def fit(
    source: Annotated[str, typer.Argument(help=f"Preferences to refine with: {opt.SOURCE_HELP}.")],
    out: Annotated[Path, typer.Option(help="Folder for the model; features and training states stay in it.")],
    reward_model: opt.RewardModelName = "all-MiniLM-L6-v2",
    score: Annotated[
        str,
        typer.Option(
            help="'auto' chooses by cross-validation; or residual, rbm, sqrbm, qbm, tqbm, ebrm.", metavar="NAME"
        ),
    ] = "auto",
    gate: Annotated[bool, typer.Option("--gate", help="Fade the correction where embeddings are unfamiliar.")] = False,
    members: Annotated[
        int,
        typer.Option(
            help="Scores to train and validate on different prompts; their mean is the model.",
            min=1,
            max=opt.MOST_MEMBERS,
        ),
    ] = 1,
    deep: Annotated[bool, typer.Option("--deep", help="Let the hidden fields read a small trunk first.")] = False,
    keep: Annotated[
        str | None,
        typer.Option(
            help="Prompts and responses on which the order of rewards is to stay: a file of prompt and responses, or "
            "preferences, whose labels are ignored. Implies --gate.",
            metavar="SOURCE",
        ),
    ] = None,
    harden: Annotated[
        bool,
        typer.Option(
            "--harden", help="Learn that known ways to game a reward model do not pay, from hacks of your responses."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seeds split, weights, shuffling and noise.", min=0, max=opt.MOST_SEED)] = 0,
    skip_bad: opt.SkipBad = False,
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
) -> None:
    """Refine a reward model with your preferences, and say whether it helped.

    A fifth of the prompts measures the verdict and chooses nothing; on the others, cross-validation chooses a score.
    Writes the model and verdict.json to --out. Run it again to continue where it stopped.

    Example: qbrm fit prefs.jsonl --reward-model models/my-reward-model --out runs/refined
    """
    from qbrm.cli.fit import fit_model
    from qbrm.model.score_choice import named_score

    choice = named_score(score, gate=gate, members=members, deep=deep)
    options = opt.reading(locals())
    fit_model(source, reward_model, choice, out, seed, skip_bad=skip_bad, keep=keep, harden=harden, **options)


def merge(
    models: Annotated[
        list[str], typer.Argument(help="Two or more refined models of one reward model.", metavar="MODEL...")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the merged model.")],
    weights: Annotated[
        str | None,
        typer.Option(
            help="familiarity: by how like what each was trained on a response is, as their gates know it; equal; or "
            "numbers, as in 0.3,0.7.",
            metavar="WEIGHTS",
            show_default="familiarity if all have a gate, else equal",
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            help=f"Set weights and temperature on these preferences: {opt.SOURCE_HELP}.",
            metavar="SOURCE",
            show_default="each keeps its own",
        ),
    ] = None,
    skip_bad: opt.SkipBad = False,
    reward_model: opt.RewardModelPlace = None,
    dtype: opt.Dtype = None,
    device_map: opt.DeviceMap = None,
    trust_remote_code: opt.TrustRemoteCode = False,
) -> None:
    """Merge models that were fitted apart: a product of their densities, which needs no data of theirs.

    The reward model itself is loaded for --on only.

    Example: qbrm merge runs/help runs/harm --out runs/both
    """
    from qbrm.cli.merge import merge_models

    options = opt.given(reward_model=reward_model, dtype=dtype, device_map=device_map)
    options |= opt.given(trust_remote_code=trust_remote_code)
    merge_models(models, out, weights, on, skip_bad=skip_bad, **options)


def evaluate(
    model: Annotated[str, typer.Argument(help="A refined reward model: a folder that save_pretrained wrote.")],
    on: Annotated[
        str,
        typer.Option(
            help="Benchmarks: a path, NAME:PATH, or a NAME to download: rmb, rewardbench, rewardbench-2, rm-bench, "
            "hh-rlhf, llmbar, preferences; or a data set, as OWNER/NAME:SPLIT.",
            metavar="SOURCE[,SOURCE]",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for embeddings and results. Default: runs/evaluation/MODEL-DIGEST.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seeds the intervals' resampling.", min=0, max=opt.MOST_SEED)] = 0,
    skip_bad: opt.SkipBad = False,
    reward_model: opt.RewardModelPlace = None,
    revision: opt.RefinedRevision = None,
    dtype: opt.Dtype = None,
    device_map: opt.DeviceMap = None,
    trust_remote_code: opt.TrustRemoteCode = False,
) -> None:
    """Score a refined reward model and its base rewards on benchmarks, by their official rules.

    Writes evaluation.json and evaluation.md to --out. Run it again to continue where it stopped.

    Example: qbrm evaluate runs/first/models/sqrbm-fresh-seed-0 --on heldout.jsonl,rewardbench:data/reward-bench
    """
    from qbrm.cli.evaluation import evaluate_model

    options = opt.given(reward_model=reward_model, revision=revision, dtype=dtype, device_map=device_map)
    options |= opt.given(trust_remote_code=trust_remote_code)
    evaluate_model(model, opt.listed("--on", on), out, seed, skip_bad=skip_bad, **options)


def probe(
    model: Annotated[
        str,
        typer.Argument(
            help="A refined reward model, or a reward model as it is: folder, or id on the Hugging Face Hub."
        ),
    ],
    on: Annotated[
        str,
        typer.Option(
            help="Prompts and responses to change: preferences, whose chosen responses are taken, or a file of prompt "
            "and responses.",
            metavar="SOURCE",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for features and probes.json.")],
    probes: Annotated[
        str | None, typer.Option(help="Which, separated by commas. Default: all.", metavar="NAME[,NAME]")
    ] = None,
    prompts: Annotated[int, typer.Option(help="Most prompts; more than these are drawn from.", min=1)] = 300,
    seed: Annotated[int, typer.Option(help="Draws the prompts.", min=0, max=opt.MOST_SEED)] = 0,
    skip_bad: opt.SkipBad = False,
    reward_model: opt.RewardModelPlace = None,
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
) -> None:
    """Measure how often known ways to game a reward model win: saying things twice, padding, flattery, ...

    Each is a small change of a response. It wins if its reward is not below that of the response as it was. Writes
    probes.json to --out. Run it again to continue where it stopped.

    Example: qbrm probe runs/refined --on prefs.jsonl --out runs/probes
    """
    from qbrm.cli.probe import probe_model

    names = None if probes is None else opt.listed("--probes", probes)
    options = opt.reading(locals())
    probe_model(model, on, names, out, prompts, seed, skip_bad=skip_bad, reward_model=reward_model, **options)


def export(
    source: Annotated[
        str,
        typer.Argument(
            help=f"For transformers a refined model; for ebrm-pt a feature folder of a run, or {opt.SOURCE_HELP}."
        ),
    ],
    file: Annotated[
        Path, typer.Argument(help="What to write: a folder for transformers, a file for ebrm-pt.", metavar="FILE")
    ],
    format: Annotated[  # noqa: A002
        ExportFormat,
        typer.Option(
            help="transformers: a sequence classifier whose logit is the refined reward. "
            "ebrm-pt: {embedding, reward} as the published EBRM code reads them, chosen and rejected alternating."
        ),
    ] = "ebrm-pt",
    seed: Annotated[
        int, typer.Option(help="Seeds the reward model's training, for a preference source.", min=0, max=opt.MOST_SEED)
    ] = 0,
    reward_model: opt.RewardModelPlace = None,
    revision: opt.RefinedRevision = None,
    dtype: opt.Dtype = None,
    device_map: opt.DeviceMap = None,
    trust_remote_code: opt.TrustRemoteCode = False,
) -> None:
    """Write a refined model, or features, in the form that other programs read.

    Example: qbrm export runs/model runs/classifier --format transformers
    """
    from qbrm.cli.export import export_features, export_model

    options = opt.given(reward_model=reward_model, revision=revision, dtype=dtype, device_map=device_map)
    options |= opt.given(trust_remote_code=trust_remote_code)
    if format == "transformers":
        export_model(source, file, **options)
    else:
        export_features(Path(source), file, seed, **options)


def serve(
    model: Annotated[str, typer.Argument(help="Folder of a refined reward model, as in runs/demo/models.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any free one.", min=0, max=65535)] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the token that requests must bear; or set QBRM_TOKEN.", show_default="no token is required"
        ),
    ] = None,
    max_body: Annotated[float, typer.Option(help="Largest request, in MiB.")] = 8.0,
    max_responses: Annotated[int, typer.Option(help="Most responses in one request.")] = 1024,
    max_characters: Annotated[int, typer.Option(help="Longest prompt or response.")] = 100_000,
    timeout: Annotated[float, typer.Option(help="Seconds after which a request is refused.")] = 60.0,
    batch: Annotated[int, typer.Option(help="Responses that go through the model together.")] = 64,
    batch_wait: Annotated[float, typer.Option(help="Milliseconds that a batch waits for more responses.")] = 4.0,
    reward_model: opt.RewardModelPlace = None,
    revision: opt.RefinedRevision = None,
    dtype: opt.Dtype = None,
    device_map: opt.DeviceMap = None,
    trust_remote_code: opt.TrustRemoteCode = False,
) -> None:
    """Serve a refined reward model to trainers (OpenRLHF, verl, slime), over a JSON API and as a web page.

    Example: qbrm serve runs/demo/models/sqrbm-fresh-seed-0, then open http://127.0.0.1:8000
    """
    from qbrm.cli.console import Reporter
    from qbrm.serving import serve as run
    from qbrm.serving.settings import Limits, ServerSettings, in_bytes

    limits = Limits(
        body_bytes=in_bytes(max_body),
        responses=max_responses,
        characters=max_characters,
        answer_seconds=timeout,
        batch=batch,
        batch_seconds=batch_wait / 1000,
    )
    options = opt.given(reward_model=reward_model, revision=revision, dtype=dtype, device_map=device_map)
    options |= opt.given(trust_remote_code=trust_remote_code)
    run(ServerSettings(model, host, port, token_file, limits, options), Reporter().fact)
