"""The rows of the studies' tables."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class CurveRow:
    """What best-of-n by one method is worth; `seed` is None for the mean over seeds."""

    method: str
    seed: int | None
    n: int
    kl: float
    gold: float
    ci_low: float
    ci_high: float
    proxy: float


@dataclass(frozen=True, kw_only=True)
class PeakRow:
    """Where one method's curve is highest, what is lost from there to the largest n, and how it does there over base.

    `ci_low` and `ci_high` are of `loss`, `over_base_low` and `over_base_high` of `over_base`; both differences are
    paired over pools. `peaks` says that the interval of the loss is above zero. As the peak is looked for and tested
    in the same pools, the test favours peaks.
    """

    method: str
    peak_n: int
    peak_kl: float
    peak_gold: float
    last_n: int
    last_gold: float
    loss: float
    ci_low: float
    ci_high: float
    peaks: bool
    over_base: float | None
    over_base_low: float | None
    over_base_high: float | None


@dataclass(frozen=True, kw_only=True)
class BestOfNRow:
    """Mean gold of the candidate that a method chooses among n, and that less the base's, with intervals by prompt.

    `file` is the name of a file of candidates; `seed` is None for the mean over seeds.
    """

    file: str
    method: str
    seed: int | None
    n: int
    gold: float
    ci_low: float
    ci_high: float
    over_base: float
    over_base_low: float
    over_base_high: float


@dataclass(frozen=True)
class BestOfNResults:
    """Content of best_of_n.json: one row per file, method, seed and n."""

    rows: list[BestOfNRow]


@dataclass(frozen=True, kw_only=True)
class CandidateFile:
    """A file of candidates: how many prompts were taken of how many, their candidates, and test prompts of a seed."""

    name: str
    prompts: int
    of_prompts: int
    candidates: int
    test_prompts: int
    gold_pairs: int


@dataclass(frozen=True, kw_only=True)
class ChosenLevel:
    """How careful validation made one method with one seed: beta of the pessimistic reward, z of the lower bound."""

    file: str
    method: str
    seed: int
    level: float


@dataclass(frozen=True, kw_only=True)
class BestOfNSummary:
    """Content of summary.json beside best_of_n.json: what its page says that the rows do not.

    Attributes:
        command: the command line.
        reward_model: its name and revision.
        trained: whether it came with a score layer.
        train: name of the preferences.
        train_prompts: how many of their prompts were taken.
        train_of_prompts: how many they have.
        train_pairs: pairs on those.
        seeds: how many.
        files: the files of candidates.
        rows: means over seeds, with intervals by prompt.
        levels: what validation chose.
        version: `STUDY_VERSION` of the code that measured, which files of version 2 and before do not say.
    """

    command: str
    reward_model: str
    trained: bool
    train: str
    train_prompts: int
    train_of_prompts: int
    train_pairs: int
    seeds: int
    files: list[CandidateFile]
    rows: list[BestOfNRow]
    levels: list[ChosenLevel]
    version: int = 2


@dataclass(frozen=True, kw_only=True)
class CoverageRow:
    """How often intervals that claim the probability `level` contain the true reward of simulated responses."""

    seed: int
    fitted_to: str
    level: float
    coverage: float
    error: float


@dataclass(frozen=True)
class Estimate:
    """A mean, and its 95% interval by prompt."""

    mean: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class OverSeeds:
    """A geometric mean over seeds, and its 95% interval (Student's, on logarithms); None for one seed."""

    mean: float
    ci_low: float | None
    ci_high: float | None


@dataclass(frozen=True, kw_only=True)
class SamplingRow:
    """A machine of one size trained with one way to sum over its hidden units.

    Attributes:
        means: ``closed form`` (without couplings), ``sum over all states``, or the sampler.
        hidden: hidden units M.
        step_seconds: processor time of a step of training; None where none was taken.
        problem_seconds: processor time for sampling one problem; None without a sampler.
        trained: seeds with a training, the others being left out as too slow.
        cut: seeds whose training the budget ended.
        targets: seeds with a target: those in which the closed form improves on the untrained machine.
        reached: seeds in which validation log-loss came down to the target.
        seconds: processor time of training until then; None unless that is so in all seeds with a target, as a mean
            over the easy ones would say too little.
        problems: problems that were handed to the sampler until then, likewise.
        nll: test log-loss at the best validation log-loss, mean over seeds with its interval by prompt.
        nll_over: the same less that of the closed form of this size, paired.
        accuracy: share of test pairs decided right.
    """

    means: str
    hidden: int
    step_seconds: OverSeeds | None
    problem_seconds: OverSeeds | None
    trained: int
    cut: int
    targets: int
    reached: int
    seconds: OverSeeds | None
    problems: OverSeeds | None
    nll: Estimate | None
    nll_over: Estimate | None
    accuracy: Estimate | None


@dataclass(frozen=True, kw_only=True)
class SamplerErrorRow:
    """One sampler with one effort, on the problems of the seeds' trained machines.

    `effort` is sweeps per state, bits for a quantised machine, or steps of an agent; None where there is nothing to
    choose. `seconds` is processor time per problem, `total_variation` the mean over problems, the other two root mean
    squares over problems: of the error of a spin's mean, and of the mean energy's in units of the energy's deviation.
    """

    sampler: str
    effort: int | None
    seconds: OverSeeds
    total_variation: OverSeeds
    mean_error: OverSeeds
    energy_error: OverSeeds


@dataclass(frozen=True, kw_only=True)
class SamplingResults:
    """Content of sampling.json.

    Attributes:
        command: the command line.
        reward_model: its name and revision.
        seeds: how many.
        prompts: of all preferences, of which a fifth is the test.
        pairs: that train a machine, validate it and test it, in the first seed.
        epochs: passes over the training pairs.
        budget: processor seconds after which a training ends.
        share: of the closed form's gain on validation pairs, which is the target.
        trainings: a row per size and way.
        errors: samplers against enumeration.
    """

    command: str
    reward_model: str
    seeds: int
    prompts: int
    pairs: tuple[int, int, int]
    epochs: int
    budget: float
    share: float
    trainings: list[SamplingRow]
    errors: list[SamplerErrorRow]


@dataclass(frozen=True, kw_only=True)
class KeepRow:
    """What one way to keep the order on an old domain leaves of the gain on a new one, as means over seeds.

    `gate` is ``none``, ``density`` or ``two-sided``. Shares of test pairs with their 95% intervals by prompt: `new` and
    `old` are accuracies on the two domains, `order` is the share of the old domain's pairs whose order is that of the
    base rewards. The accuracies on validation pairs choose the default weight.
    """

    score: str
    weight: float
    gate: str
    new: tuple[float, float, float]
    old: tuple[float, float, float]
    order: tuple[float, float, float]
    validation_new: float
    validation_old: float


@dataclass(frozen=True)
class KeepResults:
    """Content of keep.json: the command, how many seeds, prompts that were shared out for training, and the rows."""

    command: str
    seeds: int
    prompts: int
    rows: list[KeepRow]


@dataclass(frozen=True, kw_only=True)
class CandidatesRow:
    """What one way to choose among the candidates of a prompt is worth, each prompt tested once, with 95% intervals.

    `gold` is the mean gold value of the chosen candidates; of preferences, the share of sets whose chosen response is
    above all others. `over_refined` is that less the refined rewards', `behind_machine` the machine's less that; None
    for those themselves. `log_loss` is of the best candidate by Luce's rule, in nats, and `loss_over_machine` that less
    the machine's; None for what claims no probability, and for the machine.
    """

    source: str
    method: str
    gold: Estimate
    over_refined: Estimate | None
    behind_machine: Estimate | None
    log_loss: float | None
    loss_over_machine: Estimate | None


@dataclass(frozen=True, kw_only=True)
class CandidatesSource:
    """Sets of candidates from one source.

    `sets` are tested, on so many `prompts`; `candidates` is their mean number. `random` is the mean gold value of
    a candidate, `best` that of the best in each set. `parameters` are the machine's, as means over seeds, by name.
    """

    name: str
    sets: int
    prompts: int
    candidates: float
    random: float
    best: float
    parameters: dict[str, float]


@dataclass(frozen=True)
class CandidatesResults:
    """Content of candidates.json."""

    command: str
    seeds: int
    reward_model: str
    sources: list[CandidatesSource]
    rows: list[CandidatesRow]


@dataclass(frozen=True, kw_only=True)
class MergeRow:
    """One way to refine two domains' rewards, as means over seeds, with 95% intervals by prompt.

    `known` and `new` are accuracies on test pairs of the domain that the reward model learned and of the other, `both`
    on all of them, `nll` the log-loss on all of them. The last four are paired differences on all pairs: from the mean
    of two `residual` scores, and from one score of the same kind that was trained on both domains. `joint` says that
    it saw data of both domains together, if only to set weights.
    """

    way: str
    score: str
    joint: bool
    known: tuple[float, float, float]
    new: tuple[float, float, float]
    both: tuple[float, float, float]
    nll: tuple[float, float, float]
    over_mean: tuple[float, float, float]
    nll_over_mean: tuple[float, float, float]
    over_joint: tuple[float, float, float]
    nll_over_joint: tuple[float, float, float]


@dataclass(frozen=True)
class MergeResults:
    """Content of merge.json: the command, seeds, names of both domains, prompts that trained, and the rows."""

    command: str
    seeds: int
    domains: tuple[str, str]
    prompts: int
    rows: list[MergeRow]
