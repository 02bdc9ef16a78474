"""No tensor is made on an implied device: where a score is, there it is fitted and refines."""

import sys
from pathlib import Path

import pytest
import torch
from torch.overrides import TorchFunctionMode

import qbrm
from qbrm.data.pairs import Batch
from qbrm.energies import ENERGY_SCORES, build_score
from qbrm.energies.density import density
from qbrm.refinement import REFINEMENTS, Ascent, refine
from qbrm.samplers.exact import ExactSampler
from qbrm.samplers.gibbs import GibbsSampler

pytestmark = pytest.mark.usefixtures("one_thread")

LIBRARY, TORCH = Path(qbrm.__file__).parent, Path(torch.__file__).parent
NAMES = (
    "arange as_tensor empty eye full linspace logspace normal ones rand randint randn randperm tensor tril_indices "
    "triu_indices zeros"
)
FACTORIES = {getattr(torch, name) for name in NAMES.split()}
DIM = 4


class RefuseImpliedDevices(TorchFunctionMode):
    """Refuses to make a tensor without being told where, but in constructors, whose modules are moved whole."""

    def __torch_function__(self, function, types, arguments=(), options=None):
        options = options or {}
        if function in FACTORIES and options.get("device") is None and options.get("out") is None:
            frame = caller()
            if frame is not None:
                place = f"{Path(frame.f_code.co_filename).relative_to(LIBRARY)}:{frame.f_lineno}"
                raise AssertionError(f"{place}: torch.{function.__name__} without a device")
        return function(*arguments, **options)


def caller():
    """The frame that asks for the tensor, if that is the library's and inside no constructor of the library."""
    frame = sys._getframe(2)
    while within(frame, TORCH):
        frame = frame.f_back
    asking, constructs = frame, False
    while frame is not None:
        constructs |= frame.f_code.co_name == "__init__" and within(frame, LIBRARY)
        frame = frame.f_back
    return asking if within(asking, LIBRARY) and not constructs else None


def within(frame, folder):
    return folder in Path(frame.f_code.co_filename).parents


def data(pairs=24):
    generator = torch.Generator().manual_seed(0)
    embedding, reward = torch.randn(2 * pairs, DIM, generator=generator), torch.randn(2 * pairs, generator=generator)
    return embedding, reward, torch.arange(0, 2 * pairs, 2), torch.arange(1, 2 * pairs, 2)


def score_of(kind):
    name, _, sampler = kind.partition(", ")
    drawn_by = {"": None, "exact": ExactSampler(), "gibbs": GibbsSampler()}[sampler]
    return build_score(name, DIM, hidden=4, sampler=drawn_by)


KINDS = [*ENERGY_SCORES, "qbm, exact", "qbm, gibbs", "tqbm, gibbs"]


def test_an_implied_device_is_noticed(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "LIBRARY", Path(__file__).parent)
    with RefuseImpliedDevices(), pytest.raises(AssertionError, match=r"zeros without a device"):
        torch.zeros(3)


@pytest.mark.parametrize("kind", KINDS)
def test_fitting_names_the_device_of_every_tensor(kind):
    score = score_of(kind)
    with RefuseImpliedDevices():
        score.fit(*data(), epochs=1)


@pytest.mark.parametrize("refinement", [*REFINEMENTS.values(), Ascent(steps=3)])
@pytest.mark.parametrize("kind", KINDS)
def test_refining_names_the_device_of_every_tensor(kind, refinement):
    score, (embedding, reward, *_) = score_of(kind).eval(), data(4)
    with RefuseImpliedDevices():
        refine(score, embedding, reward, refinement)


@pytest.mark.parametrize("kind", KINDS)
def test_densities_and_preferences_name_the_device_of_every_tensor(kind):
    embedding, reward, chosen, rejected = data(4)
    score = score_of(kind).eval()
    batch = Batch(embedding[chosen], reward[chosen], embedding[rejected], reward[rejected])
    with RefuseImpliedDevices(), torch.no_grad():
        told = density(score, score.clamp(embedding, reward))
        assert torch.isfinite(torch.stack([told.mean, told.std, told.quantile(0.5)])).all()
        assert (score.log_preference(batch) < 0).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", KINDS)
def test_a_score_on_a_gpu_is_fitted_and_refines_there(kind):
    embedding, reward, *pairs = data()
    score = score_of(kind).to("cuda").fit(embedding, reward, *pairs, epochs=1)
    assert refine(score, embedding, reward).device.type == "cuda"
