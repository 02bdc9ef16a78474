"""Names of methods with options: what they mean, what is refused in one line, and that naming them costs no time."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from qbrm.errors import InputError
from qbrm.selection import CANDIDATES
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.methods import METHODS, Defaults, build_method, folder_name, method_name, split_methods, words_of
from qbrm_lab.methods.catalogue import RENAMED, is_baseline, is_trained


def test_options_come_in_one_order_however_they_are_given():
    assert (
        str(method_name("sqrbm:members=5,gate")) == str(method_name("sqrbm:gate,members=5")) == "sqrbm:gate,members=5"
    )


DEEP = ("rbm:deep", "sqrbm:deep,gate,members=5", "qbm:deep", "tqbm:deep")


def test_an_option_belongs_to_the_method_before_it():
    listed = "base,mlp:gate,members=5,sqrbm:gate,qbm:hidden=4,sampler=gibbs,ebrm:objective=nce,keep,rbm"
    assert split_methods(listed.split(",")) == (
        "base", "mlp:gate,members=5", "sqrbm:gate", "qbm:hidden=4,sampler=gibbs", "ebrm:objective=nce,keep", "rbm",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sqrbm-gate-ensemble", "method 'sqrbm-gate-ensemble' is called 'sqrbm:gate,members=5' now."),
        ("sqrmb:gate", "unknown method 'sqrmb'; did you mean 'sqrbm'?"),
        ("sqrbm:gtae", "unknown option of sqrbm 'gtae'; did you mean 'gate'?"),
        ("qbm:members=5", "unknown option of qbm 'members'"),
        ("residual:deep", "unknown option of residual 'deep'"),
        ("length:gate", "length has no options"),
        ("sqrbm:", "unknown option of sqrbm ''"),
        ("sqrbm:gate=1", "has 'gate=1'; expected gate."),
        ("sqrbm:members", "has 'members'; expected members=N."),
        ("sqrbm:members=1", "has 'members=1'; expected a whole number of at least 2."),
        ("sqrbm:hidden=many", "expected a whole number of at least 1."),
        ("sqrbm:gate,gate", "has the option gate twice"),
        ("sqrbm:worst", "has worst alone; expected members=N too."),
        ("residual:members=5,worst,uncertainty", "has both worst and uncertainty; expected one of them."),
        ("base:mean,worst", "has both mean and worst; expected one of them."),
        ("ebrm:objective=nec", "unknown objective 'nec'; did you mean 'nce'?"),
        ("qbm:sampler=gibs", "unknown sampler 'gibs'; did you mean 'gibbs'?"),
        ("tqbm:hidden=9", "tqbm:hidden=9: 9 hidden spins without a sampler that can draw so many; sums go to 8"),
        ("qbm:hidden=64", "qbm:hidden=64: 64 hidden spins without a sampler that can draw so many; sums go to 20"),
    ],
)
def test_a_name_that_means_nothing_is_refused_in_one_line(name, message):
    with pytest.raises(InputError) as refused:
        build_method(name)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", [*METHODS, *RENAMED.values(), *DEEP])
def test_every_method_is_built_under_its_own_name_and_described(name):
    assert build_method(name).name == name
    assert words_of(name) != name
    assert " at 0x" not in repr(build_method(name))  # studies know their answers by it


def test_what_a_name_says_goes_before_what_all_methods_are_told():
    method = build_method("qbm:hidden=3,sampler=gibbs", Defaults(epochs=7, hidden=9, sampler="annealing"))
    assert (method.hidden, method.sampler, method.settings.training.epochs) == (3, "gibbs", 7)
    assert build_method("rbm", Defaults(hidden=9, sampler="annealing")).sampler is None
    assert build_method("ebrm", Defaults(hidden=9)).hidden is None


def test_an_objective_a_filter_and_noise_are_options():
    settings = build_method("ebrm:published,keep").settings
    assert (settings.noise_samples, settings.filter_conflicts, settings.objective) == (768, False, "nce")
    exact = build_method("ebrm:exact")
    assert (exact.settings.objective, exact.refinement, exact.settings.filter_conflicts) == ("likelihood", "mode", True)
    assert build_method("sqrbm:filter").settings.filter_conflicts


@pytest.mark.parametrize("candidate", CANDIDATES[1:], ids=lambda candidate: candidate.name)
def test_what_fit_chooses_among_is_compared_under_the_same_name(candidate):
    method = build_method(candidate.name)
    assert str(method_name(candidate.name)) == candidate.name
    assert (method.settings.gate, method.settings.members) == (candidate.gate, candidate.members)
    task = SimpleNamespace(pairs=SimpleNamespace(dim=3), head_dim=None)
    assert method._build(task).settings() == candidate.family.build(3).settings()


def test_lists_of_methods_follow_from_the_descriptions():
    assert {name for name in METHODS if is_baseline(name)} == {"length", "base", "mlp", "gaussian", "quantile"}
    assert is_baseline("mlp:gate,members=5")
    assert not is_baseline("sqrbm:gate")
    assert not is_baseline("residual")
    assert [is_trained(name) for name in ("base", "base:tempered", "base:mean", "mlp")] == [False, False, True, True]


def test_folders_have_names_that_every_file_system_takes():
    assert folder_name("sqrbm:gate,members=5") == "sqrbm-gate-members-5"
    assert folder_name("qbm:hidden=4,sampler=kaiwu-gibbs") == "qbm-hidden-4-sampler-kaiwu-gibbs"


class Named:
    name = "oven"

    def sample(self, fields, couplings, samples, generator):
        raise NotImplementedError


class Nameless:
    sample = Named.sample


def test_a_sampler_may_be_an_object_that_says_who_it_is(tmp_path):
    (method,) = ComparisonSettings(tmp_path, tmp_path, methods=("qbm",), sampler=Named()).selected_methods().values()
    assert method.described()["sampler"] == "oven"
    assert " at 0x" not in repr(method)
    with pytest.raises(InputError, match="the sampler Nameless has no name; expected an attribute `name`"):
        ComparisonSettings(tmp_path, tmp_path, methods=("qbm",), sampler=Nameless()).selected_methods()


def test_help_needs_neither_torch_nor_what_reads_and_draws():
    show = "import sys; sys.argv = ['qbrm', 'compare', '--help']; from qbrm.cli import main\n"
    show += (
        "try: main()\nexcept SystemExit: print(sorted({'torch', 'numpy', 'pyarrow', 'matplotlib'} & {*sys.modules}))"
    )
    shown = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "[]"
