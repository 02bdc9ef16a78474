"""The command `qbrm study`: one question a subject, with the options that its subject takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qbrm.cli import options as opt
from qbrm.errors import InputError
from qbrm_lab.cli import sources
from qbrm_lab.methods import split_methods
from qbrm_lab.reward_models import needs_language_models

if TYPE_CHECKING:
    from qbrm.cli.console import Reporter
    from qbrm_lab.comparison import ComparisonSettings

CANDIDATES, POLICIES = "Candidates with gold", "Policies"


class Study(str, Enum):
    """What `qbrm study` studies."""

    ALL = "all"
    ROBUSTNESS = "robustness"
    OVER_OPTIMISATION = "over-optimisation"
    COVERAGE = "coverage"
    FINE_TUNED = "fine-tuned"
    SAMPLING = "sampling"
    KEEP = "keep"
    MERGE = "merge"
    REWARD_MODELS = "reward-models"
    EMBEDDINGS = "embeddings"
    LANGUAGE_MODELS = "language-models"
    HARDEN = "harden"
    BEST_OF_N = "best-of-n"
    CANDIDATES = "candidates"
    PUBLISHED = "published"
    GRPO = "grpo"


READING = ("reward_model", *opt.READING)
# The options that only some subjects take.
TAKES: Mapping[Study, tuple[str, ...]] = {
    Study.ALL: ("epochs", "workers"),
    Study.ROBUSTNESS: ("epochs", "workers"),
    Study.OVER_OPTIMISATION: ("workers",),
    Study.FINE_TUNED: ("epochs", "workers"),
    Study.SAMPLING: ("epochs", "workers", "train_prompts"),
    Study.KEEP: ("workers", "train_prompts"),
    Study.MERGE: ("workers", "train_prompts"),
    Study.REWARD_MODELS: ("candidates",),
    Study.EMBEDDINGS: ("epochs", "workers", "test", "methods", *(name for name in READING if name != "embedding")),
    Study.LANGUAGE_MODELS: ("epochs", "workers", "reward_models", "max_length", "dtype", "device_map"),
    Study.HARDEN: ("train_prompts", *READING),
    Study.BEST_OF_N: ("epochs", "workers", "candidates", "methods", "prompts", "train_prompts", *READING),
    Study.CANDIDATES: ("workers", "candidates", *READING),
    Study.PUBLISHED: ("epochs", "workers", "published", *READING),
    Study.GRPO: ("workers", "rewards", "gold", "policy", "steps"),
}
EPOCHS = 5
QUICK_TRAIN_PROMPTS = 200


@dataclass(frozen=True)
class Request:
    """What a study is asked for; `given` are the options of its own, as they were given."""

    settings: ComparisonSettings
    quick: bool
    given: Mapping[str, Any]

    @property
    def train_prompts(self) -> int | None:
        """How many prompts of the source are drawn; None for all."""
        count: int | None = self.given.get("train_prompts", QUICK_TRAIN_PROMPTS if self.quick else None)
        return count

    def listed(self, name: str) -> tuple[str, ...]:
        """The parts of an option that are separated by commas; none if it is absent."""
        return opt.listed(_flag(name), self.given[name]) if name in self.given else ()


def study(
    out: Annotated[Path, typer.Option(help="Folder for features, training states, tables and plots.")],
    subject: Annotated[Study, typer.Argument(help="What to study.")] = Study.ALL,
    train: Annotated[
        Path | None,
        typer.Option(
            help=f"Preferences, a fifth of whose prompts is the test: {opt.SOURCE_HELP}. language-models takes none."
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            help="How many seeds to run and average over. Default: 5 (grpo: 2), or 1 with --quick.", min=1, max=1000
        ),
    ] = None,
    seed: opt.Seed = 0,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Passes over the training pairs, in studies of compared methods. Default: 5.",
            min=1,
            max=opt.MOST_EPOCHS,
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="One seed; in most studies also fewer prompts, and no EBRM.")
    ] = False,
    skip_bad: opt.SkipBad = False,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that run seeds side by side, one thread each. Default: one per core.", min=1),
    ] = None,
    reward_models: Annotated[
        Path | None,
        typer.Option(help="language-models: the folder that the study reward-models wrote."),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(help="embeddings: test preferences. Default: a fifth of the prompts.", metavar="SRC[,SRC]"),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help="embeddings, best-of-n: methods, as in qbrm compare. Default: those of the study.",
            metavar="NAME[:OPTIONS][,...]",
        ),
    ] = None,
    train_prompts: Annotated[
        int | None,
        typer.Option(
            help="harden, keep, merge, best-of-n, sampling: so many random prompts of --train. Default: harden 300, or "
            "60 with --quick; sampling 700, or 120; the others all, or 200.",
            min=1,
        ),
    ] = None,
    published: Annotated[
        Path | None,
        typer.Option(
            help="published: folder of a checkout of the published EBRM code, whose Python code is run. Default: left "
            "out."
        ),
    ] = None,
    candidates: Annotated[
        str | None,
        typer.Option(
            help='reward-models, best-of-n, candidates: lines of {"prompt", "candidates": [{"response", "gold"}]}, as '
            ".jsonl or .jsonl.gz.",
            metavar="FILE[,FILE]",
            rich_help_panel=CANDIDATES,
        ),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            help="best-of-n: so many random prompts of every file, or of each. Default: all, or 40 with --quick.",
            metavar="N[,N]",
            rich_help_panel=CANDIDATES,
        ),
    ] = None,
    rewards: Annotated[
        str | None,
        typer.Option(
            help="grpo: what policies are rewarded with, in turn: reward models or refined ones, each with a name.",
            metavar="NAME=MODEL[,NAME=MODEL...]",
            rich_help_panel=POLICIES,
        ),
    ] = None,
    gold: Annotated[
        str | None,
        typer.Option(
            help="grpo: a reward model that judges and trains nothing.",
            metavar="NAME_OR_PATH",
            rich_help_panel=POLICIES,
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            help="grpo: folder of a language model to train. Default: SmolLM2-135M-Instruct.", rich_help_panel=POLICIES
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            help="grpo: updates of a policy. Default: 100, or 6 with --quick.", min=1, rich_help_panel=POLICIES
        ),
    ] = None,
    reward_model: Annotated[
        str | None,
        typer.Option(
            help="embeddings, harden, best-of-n, candidates, published: the embedded default, a folder of a sequence "
            "classifier, or its id on the Hugging Face Hub.",
            metavar="NAME_OR_PATH",
            rich_help_panel=opt.REWARD_MODEL,
        ),
    ] = None,
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
    """Run a whole study: many comparisons with one question. Run it again to continue where it stopped.

    all: robustness, over-optimisation, coverage and fine-tuned, and results.md, the page of their results.

    robustness: every scenario with every method, against targets that were set before.

    over-optimisation: best-of-n up to 10,000 by every kind of reward, judged by a gold reward it never saw.

    coverage: how often intervals contain the true reward, where it is known because it was simulated.

    fine-tuned: every scenario again, on an encoder that was fine-tuned end to end.

    sampling: training time to an equal log-loss with every sampler and many sizes; sampler error against time.

    keep: what keeping the old domain's order costs on the new one, over the weight of keeping, beside gates.

    merge: machines that learned two domains apart, merged, beside means of scores and one machine that saw both.

    reward-models: train reward models on a small language model, each with the preferences that it has not seen.

    embeddings: refine one reward model with embeddings that read more and more of it.

    language-models: every scenario on the reward models of the study reward-models, and results.md, the page of all.

    harden: how often hacks win, of kinds that training against hacks has seen and of others.

    best-of-n: what the candidate that each reward chooses among n is worth to a judge, whose gold --candidates has.

    candidates: what a machine across the candidates of a prompt chooses, beside pointwise rewards and other rivals.

    published: our EBRM against the published code, and EBRM where the reward model is little better than chance.

    grpo: train a small language model as a policy on several rewards in turn; what it writes, judged by all of them.
    """
    import joblib

    from qbrm.cli.console import Reporter
    from qbrm.durable import one_writer
    from qbrm_lab.comparison import ComparisonSettings
    from qbrm_lab.studies.everything import PARTS, study_everything, study_part

    reading = opt.reading(locals())
    given = opt.given(
        reward_models=reward_models,
        epochs=epochs,
        workers=workers,
        test=test,
        methods=methods,
        train_prompts=train_prompts,
        published=published,
        candidates=candidates,
        prompts=prompts,
        rewards=rewards,
        gold=gold,
        policy=policy,
        steps=steps,
        reward_model=reward_model,
        **reading,
    )
    _check_taken(subject, given)
    source = _source(subject, train, reward_models)
    settings = ComparisonSettings(
        train=source,
        tests=sources(test),
        out=out,
        seeds=seeds or (1 if quick else 2 if subject is Study.GRPO else 5),
        seed=seed,
        epochs=epochs or EPOCHS,
        workers=workers or joblib.cpu_count(),
        skip_bad=skip_bad,
        command=opt.command_line(),
        reward_model_options=reading,
    )
    if reward_model is not None:
        settings = replace(settings, reward_model=reward_model)
    reporter = Reporter()
    if subject is Study.ALL:
        reporter.fact("results", str(study_everything(settings, quick, reporter)))
    elif subject.value in PARTS:
        study_part(subject.value, settings, quick, reporter)
    else:
        run = RUNS[subject]
        with one_writer(out):
            reporter.fact(subject.value, str(run(Request(settings, quick, given), reporter)))


def _check_taken(subject: Study, given: Mapping[str, Any]) -> None:
    for name in given:
        if name not in TAKES.get(subject, ()):
            taking = ", ".join(other.value for other, names in TAKES.items() if name in names)
            raise InputError(f"{_flag(name)} with the study {subject.value}; expected it with {taking} only.")


def _source(subject: Study, train: Path | None, reward_models: Path | None) -> Path:
    """What is studied: preferences, or the reward models that have theirs beside them."""
    flag, given, other = ("--train", train, reward_models)
    if subject is Study.LANGUAGE_MODELS:
        flag, given, other = ("--reward-models", reward_models, train)
    if given is None:
        raise InputError(f"the study {subject.value} has no {flag}; expected a path.")
    if other is not None:
        raise InputError(
            f"--train {other} with the study {subject.value}; expected --reward-models alone, which has its own."
        )
    return given


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _files(request: Request) -> list[Path]:
    return [Path(name) for name in request.listed("candidates")]


def _sampling(request: Request, reporter: Reporter) -> Path:
    from qbrm_lab.studies.sampling import PROMPTS, QUICK, QUICK_PROMPTS, WHOLE, study_sampling

    prompts = request.given.get("train_prompts") or (QUICK_PROMPTS if request.quick else PROMPTS)
    return study_sampling(request.settings, prompts, QUICK if request.quick else WHOLE, reporter)


def _keep(request: Request, reporter: Reporter) -> Path:
    from qbrm_lab.studies.keep import study_keep

    return study_keep(request.settings, reporter, request.train_prompts)


def _merge(request: Request, reporter: Reporter) -> Path:
    from qbrm_lab.studies.merge import study_merge

    return study_merge(request.settings, reporter, request.train_prompts)


def _reward_models(request: Request, reporter: Reporter) -> Path:
    with needs_language_models("study reward-models"):
        from qbrm_lab.studies.reward_models import study_reward_models
    return study_reward_models(request.settings, request.quick, reporter, _files(request))


def _embeddings(request: Request, reporter: Reporter) -> Path:
    from qbrm_lab.studies.embeddings import METHODS, QUICK_METHODS, study_embeddings

    chosen = split_methods(request.listed("methods")) or (QUICK_METHODS if request.quick else METHODS)
    return study_embeddings(replace(request.settings, methods=chosen), reporter)


def _language_models(request: Request, reporter: Reporter) -> Path:
    with needs_language_models("study language-models"):
        from qbrm_lab.studies.language_models.study import study_language_models
    return study_language_models(request.settings, request.quick, reporter)


def _harden(request: Request, reporter: Reporter) -> Path:
    from qbrm_lab.studies.harden import METHODS, PROMPTS, QUICK_METHODS, QUICK_PROMPTS, study_harden

    prompts = request.given.get("train_prompts") or (QUICK_PROMPTS if request.quick else PROMPTS)
    settings = replace(request.settings, methods=QUICK_METHODS if request.quick else METHODS)
    return study_harden(settings, prompts, reporter)


def _best_of_n(request: Request, reporter: Reporter) -> Path:
    from qbrm_lab.studies.best_of_n.settings import METHODS, QUICK_PROMPTS, SLOW, Asked
    from qbrm_lab.studies.best_of_n.study import study_best_of_n

    given, quick = request.given, request.quick
    if "candidates" not in given:
        raise InputError("the study best-of-n has no --candidates; expected files of prompts and candidates with gold.")
    asked = Asked(
        tuple(_files(request)),
        opt.numbers("--prompts", given["prompts"]) if "prompts" in given else (QUICK_PROMPTS,) if quick else (),
        request.train_prompts,
    )
    default = tuple(name for name in METHODS if not (quick and name in SLOW))
    chosen = split_methods(request.listed("methods")) or default
    return study_best_of_n(replace(request.settings, methods=chosen), asked, reporter)


def _candidates(request: Request, reporter: Reporter) -> Path:
    from qbrm_lab.studies.candidates import study_candidates

    return study_candidates(request.settings, _files(request), request.quick, reporter)


def _published(request: Request, reporter: Reporter) -> Path:
    from qbrm_lab.studies.published import study_published

    return study_published(request.settings, request.given.get("published"), request.quick, reporter)


def _grpo(request: Request, reporter: Reporter) -> Path:
    with needs_language_models("study grpo"):
        from qbrm_lab.studies.grpo import PolicyStudy, study_grpo
    given = request.given
    asked = PolicyStudy.asked(
        request.listed("rewards"), given.get("gold"), given.get("policy"), given.get("steps"), request.quick
    )
    return study_grpo(request.settings, asked, reporter)


RUNS: Mapping[Study, Callable[[Request, Reporter], Path]] = {
    Study.SAMPLING: _sampling,
    Study.KEEP: _keep,
    Study.MERGE: _merge,
    Study.REWARD_MODELS: _reward_models,
    Study.EMBEDDINGS: _embeddings,
    Study.LANGUAGE_MODELS: _language_models,
    Study.HARDEN: _harden,
    Study.BEST_OF_N: _best_of_n,
    Study.CANDIDATES: _candidates,
    Study.PUBLISHED: _published,
    Study.GRPO: _grpo,
}
