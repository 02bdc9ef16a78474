"""The compared methods: what each is, what it can be told, how it looks in plots, and where it is built.

Nothing here imports PyTorch, so that help texts come at once. A variant is a method with options,
``NAME[:OPTION[,OPTION...]]``, such as ``sqrbm:gate,members=5``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from zlib import crc32

SPARE_COLOURS = ("#117733", "#661100", "#44AA99", "#AA4499")
SPARE_MARKERS = ("1", "2", "3", "4")
SEVERAL_OPTIONS = "H"


@dataclass(frozen=True)
class Option:
    """Something that a method can be told; a flag unless `value` says more.

    Attributes:
        name: as users write it.
        words: what it does; ``{}`` stands for the value.
        value: what stands behind ``=``: ``N`` for a whole number, ``NAME`` for one of `choices`; empty for a flag.
        least: smallest number.
        choices: ``module:attribute`` of the names to choose from.
        excludes: options that it cannot stand beside.
        needs: an option that it cannot stand without.
        marker: the variant's sign in plots.
        trains: whether it makes a method train that otherwise does not.
    """

    name: str
    words: str
    value: str = ""
    least: int = 1
    choices: str = ""
    excludes: tuple[str, ...] = ()
    needs: str = ""
    marker: str = ""
    trains: bool = False

    @property
    def usage(self) -> str:
        """As in ``members=N``."""
        return f"{self.name}={self.value}" if self.value else self.name


@dataclass(frozen=True)
class MethodDescription:
    """One compared method.

    Attributes:
        name: in commands and results.
        words: what it is.
        colour: in every plot; its variants share it.
        marker: its sign in every plot.
        build: ``module:function`` of this room that makes it of its name with options and of defaults.
        options: what it can be told, in the order that names have.
        baseline: whether it is what energy scores are compared with, rather than one of them.
        trained: whether it learns from the training pairs.
    """

    name: str
    words: str
    colour: str
    marker: str
    build: str
    options: tuple[Option, ...] = ()
    baseline: bool = False
    trained: bool = True

    @property
    def usage(self) -> str:
        """Its name, and its options in brackets."""
        return f"{self.name} ({', '.join(option.usage for option in self.options)})" if self.options else self.name

    def option(self, name: str) -> Option | None:
        """One of its options by name."""
        return next((option for option in self.options if option.name == name), None)


_COMBINED = ("tempered", "length", "mean", "worst", "uncertainty")
_of_five = partial(Option, excludes=_COMBINED, trains=True)
_BASE_OPTIONS = (
    Option("tempered", "with one temperature, set on validation preferences", excludes=_COMBINED, marker="X"),
    Option(
        "length", "less what a local regression expects of a response of its length", excludes=_COMBINED, marker="*"
    ),
    _of_five("mean", "instead of one, the mean of five that differ in their seed", marker="P"),
    _of_five("worst", "of five that differ in their seed, the least reward", marker="<"),
    _of_five("uncertainty", "of five that differ in their seed, the mean less half their variance", marker=">"),
)
_GATE = Option("gate", "the correction fades where the embedding is unfamiliar", marker="*")
_TURNS = "; a share of the training and validation prompts validates each of them and trains the others"
_DIFFERING = "instead of one, the mean of {} that differ in their seed"
_MLP_OPTIONS = (
    Option("ensemble", _DIFFERING, "N", least=2, excludes=("members",), marker="8"),
    _GATE,
    Option("members", "instead of one, the mean of {}" + _TURNS, "N", least=2, marker="d"),
)
_OBJECTIVE = Option("objective", "objective {}", "NAME", choices="qbrm.fitting.objectives:OBJECTIVES")
_REFINEMENT = Option("refinement", "refined by {}", "NAME", choices="qbrm.refinement:REFINEMENTS")
_FILTER = "without the training pairs that the base rewards contradict"
_FIT = (_OBJECTIVE, _REFINEMENT, Option("filter", _FILTER, excludes=("members",)))
_EXACT = "trained by exact likelihood instead, and refined by its mode"
_EBRM_OPTIONS = (
    Option("exact", _EXACT, excludes=("objective", "refinement", "published"), marker="d"),
    Option("published", "the paper's 768 noise samples instead", excludes=("objective",), marker="*"),
    _OBJECTIVE,
    _REFINEMENT,
    Option("keep", "with the training pairs that the base rewards contradict", marker="8"),
    Option("whole", "here it reads the whole embedding", marker="P"),
)
_HIDDEN = Option("hidden", "{} hidden units", "N")
_DEEP = Option("deep", "its fields read a small network of the embedding, which learns with it", marker="P")
_GEOMETRIC = (
    f"{{}} machines as one, the geometric mean of their densities{_TURNS} (in the scenario same they differ in their "
    "seed only)"
)
_MEMBERS = Option("members", _GEOMETRIC, "N", least=2, marker="8")
_APART = ("worst", "uncertainty")
_apart = partial(Option, excludes=_APART, needs="members")
_OF_MEMBERS = (
    _apart("worst", "instead, all trained on the same pairs, the least of their rewards", marker="<"),
    _apart("uncertainty", "instead, all trained on the same pairs, their mean less half their variance", marker=">"),
)
_RBM_OPTIONS = (_DEEP, _GATE, _MEMBERS, *_OF_MEMBERS, _HIDDEN, *_FIT)
_SAMPLER = Option("sampler", "hidden spins drawn by {}", "NAME", choices="qbrm.samplers:SAMPLERS")
_QBM_OPTIONS = (_DEEP, _GATE, _HIDDEN, _SAMPLER, *_FIT)

_untrained = partial(MethodDescription, baseline=True, trained=False)
_competitor = partial(MethodDescription, baseline=True)
_energy_score = partial(MethodDescription, build="refined:refined")

_MLP = (
    "a small MLP on the embedding added to the base reward, with Bradley-Terry and a temperature: the competitor; it "
    "has rewards and no p(r | e)"
)
_GAUSSIAN = "a Gaussian reward head with the probit preference likelihood"
_EBRM = (
    "EBRM: NCE+ with a twelfth of the paper's noise samples, conflict-aware filtering, 50-step ascent; of the "
    "embedding it reads what the reward model's head reads, as published"
)
_RESIDUAL = (
    "the MLP as an energy score: a Gaussian around the corrected reward, the probit in place of Bradley-Terry; the "
    "base is kept where validation gains nothing"
)
_RBM = "a classical restricted Boltzmann machine, in closed form"
_SQRBM = "a semi-quantum restricted Boltzmann machine, in closed form"
_QBM = "a Boltzmann machine with couplings among its hidden spins"
_TQBM = "a quantum Boltzmann machine: coupled hidden qubits in a transverse field"
_ALL = (
    _untrained("length", "the longer response wins", "#999999", "x", "reference:length"),
    _untrained("base", "the reward model as it is", "#222222", "|", "reference:base", _BASE_OPTIONS),
    _competitor("mlp", _MLP, "#E69F00", "v", "mlp:mlp", _MLP_OPTIONS),
    _competitor("gaussian", _GAUSSIAN, "#CC79A7", "p", "distributional:gaussian"),
    _competitor("quantile", "a quantile reward head", "#882255", "h", "distributional:quantile"),
    _energy_score("residual", _RESIDUAL, "#999933", "P", options=(_GATE, _MEMBERS, *_OF_MEMBERS)),
    _energy_score("ebrm", _EBRM, "#D55E00", "s", options=_EBRM_OPTIONS),
    _energy_score("rbm", _RBM, "#56B4E9", "D", options=_RBM_OPTIONS),
    _energy_score("sqrbm", _SQRBM, "#0072B2", "o", options=_RBM_OPTIONS),
    _energy_score("qbm", _QBM, "#009E73", "^", options=_QBM_OPTIONS),
    _energy_score("tqbm", _TQBM, "#332288", "X", options=_QBM_OPTIONS),
)
METHODS: dict[str, MethodDescription] = {description.name: description for description in _ALL}

# What a comparison compares unless told otherwise.
DEMONSTRATED = ("length", "base", "mlp", "residual", "ebrm", "rbm", "sqrbm", "sqrbm:gate,members=5")

# What methods were called before they had options.
RENAMED = {
    "base-tempered": "base:tempered",
    "base-mean": "base:mean",
    "base-worst": "base:worst",
    "base-uncertainty": "base:uncertainty",
    "mlp-ensemble": "mlp:ensemble=5",
    "mlp-gate": "mlp:gate",
    "mlp-gate-ensemble": "mlp:gate,members=5",
    "ebrm-exact": "ebrm:exact",
    "sqrbm-ensemble": "sqrbm:members=5",
    "sqrbm-gate": "sqrbm:gate",
    "sqrbm-gate-ensemble": "sqrbm:gate,members=5",
}


def family_of(method: str) -> str:
    """The method that a variant is one of: what stands before the colon."""
    return method.partition(":")[0]


def options_of(method: str) -> dict[str, str]:
    """A variant's options and their values; empty text for a flag."""
    return dict(part.partition("=")[::2] for part in method.partition(":")[2].split(",") if part)


def is_baseline(method: str) -> bool:
    """Whether a method is what energy scores are compared with, rather than one of them."""
    family = METHODS.get(family_of(method))
    return family is not None and family.baseline


def is_trained(method: str) -> bool:
    """Whether a method learns from preferences."""
    family, options = METHODS.get(family_of(method)), options_of(method)
    return family is None or family.trained or any(option.trains for option in family.options if option.name in options)


def words_of(method: str) -> str:
    """What a method is, its options included; its name again if it is not known."""
    family = METHODS.get(family_of(method))
    if family is None:
        return method
    given = options_of(method)
    told = [option.words.format(given[option.name]) for option in family.options if option.name in given]
    return "; ".join([family.words, *told])


def colour_of(method: str) -> str:
    """The method's colour in every plot; its variants have the same."""
    family = family_of(method)
    known = METHODS.get(family)
    return known.colour if known else SPARE_COLOURS[crc32(family.encode()) % len(SPARE_COLOURS)]


def marker_of(method: str) -> str:
    """The method's sign in every plot, so that colour is never the only difference."""
    family, options = METHODS.get(family_of(method)), options_of(method)
    if family and not options:
        return family.marker
    option = family.option(*options) if family and len(options) == 1 else None
    known = SEVERAL_OPTIONS if family and len(options) > 1 else option and option.marker
    return known or SPARE_MARKERS[crc32(method.encode()) % len(SPARE_MARKERS)]


def usage() -> str:
    """All methods with their options, for a help text."""
    return "; ".join(description.usage for description in METHODS.values())
