"""A machine across candidates: a loop over its states, its limits, its samplers, and a truth that it recovers."""

import math

import numpy as np
import pytest
import torch

from fixtures.candidate_sets import DIM, candidates, machine, odds_by_hand, problem_by_hand, without_couplings
from qbrm.energies import candidate_fit
from qbrm.energies import candidates as module
from qbrm.energies.candidates import CandidateMachine, Candidates
from qbrm.errors import InputError, TrainingError
from qbrm.samplers import SAMPLERS, GibbsSampler
from qbrm.samplers.exact import ExactSampler
from qbrm.samplers.log_odds import sampled_log_odds

pytestmark = pytest.mark.usefixtures("one_thread")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def odds(made, of):
    with torch.no_grad():
        return made.log_odds(made.standard([of]))[0]


@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("seed", [0, 1])
def test_log_odds_are_those_of_all_states_of_the_written_hamiltonian(n, seed):
    made, of = machine(seed), candidates(n, seed)
    np.testing.assert_allclose(odds(made, of), odds_by_hand(*problem_by_hand(made, of)), atol=1e-9)


def test_two_candidates_have_the_log_odds_worked_out_by_hand():
    made, of = machine(), candidates(2)
    (h1, h2), j = problem_by_hand(made, of)
    by_hand = 2 * h1 + math.log(math.cosh(h2 + j[0, 1]) / math.cosh(h2 - j[0, 1]))
    assert odds(made, of)[0] == pytest.approx(by_hand, abs=1e-9)


def test_strong_couplings_do_not_round_log_odds_off():
    """At a mean of 1 - 1e-26 the mean itself, in double precision, is 1."""
    fields, couplings = torch.full((1, 2), 10.0).double(), torch.zeros(1, 2, 2).double()
    couplings[0, 0, 1] = couplings[0, 1, 0] = 10
    expected = 20 + math.log(math.cosh(20) / math.cosh(0))
    assert float(ExactSampler().log_odds(fields, couplings)[0, 0]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["log_slope", "threshold", "longer", "together", "alike", "log_sharpness"])
def test_gradients_of_the_likelihood_are_those_of_finite_differences(name):
    made, of = machine(), candidates(5)
    chosen = torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.0]], dtype=torch.float64)

    def likelihood():
        return candidate_fit.log_likelihood(made.log_odds(made.standard([of])), chosen).sum()

    likelihood().backward()
    parameter, step = getattr(made, name), 1e-5
    sides = []
    for sign in (1, -1):
        with torch.no_grad():
            parameter.add_(sign * step)
            sides.append(float(likelihood()))
            parameter.sub_(sign * step)
    assert float(parameter.grad) == pytest.approx((sides[0] - sides[1]) / (2 * step), abs=1e-6)


def test_other_order_of_the_candidates_is_the_same_order_of_their_rewards():
    made, of, order = machine(), candidates(6), torch.tensor([3, 0, 5, 1, 4, 2])
    for before, after in zip(made.judge(of), made.judge(of.rows(order)), strict=True):
        torch.testing.assert_close(before[order], after, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [2, 5, 30])
def test_without_couplings_and_length_rewards_are_those_of_the_score(n):
    made, of = without_couplings(machine()), candidates(n)
    with torch.no_grad():
        made.longer.zero_()
    torch.testing.assert_close(made.judge(of).reward, of.reward, rtol=0, atol=1e-12)


def test_a_single_candidate_keeps_its_reward_whatever_the_parameters():
    for seed in range(4):
        of = candidates(1, seed)
        torch.testing.assert_close(machine(seed, size=2).judge(of).reward, of.reward, rtol=0, atol=0)


def test_a_near_copy_of_a_good_candidate_gains_from_it_and_an_unlike_one_does_not():
    made = without_couplings(machine(size=0))
    embedding = torch.zeros(3, DIM).double()
    embedding[1, 0], embedding[2, 1] = 1e-3, 30
    of = Candidates(torch.tensor([9.0, 0, 0]).double(), torch.ones(3).double(), torch.ones(3).double(), embedding)
    with torch.no_grad():
        made.alike.fill_(2.0)
    before, (copy, unlike) = of.reward[1:], made.judge(of).reward[1:]
    assert copy > before[0] + 0.1
    assert unlike == pytest.approx(float(before[1]), abs=1e-9)


@pytest.mark.parametrize("name", ["gibbs", "kaiwu-gibbs", "annealing"])
def test_sampled_log_odds_are_the_exact_ones_of_twelve_candidates(name):
    if name == "annealing":
        pytest.importorskip("dwave.samplers")
    made, of = machine(size=0.5), candidates(12)
    fields, couplings = (part.detach() for part in made.problem(made.standard([of])))
    expected = ExactSampler().log_odds(fields, couplings)
    drawn = sampled_log_odds(SAMPLERS[name](), fields, couplings, 4000, seeded())
    assert float((drawn - expected).abs().max()) < 0.15


def test_sampled_log_odds_are_exact_without_couplings():
    fields = torch.randn(2, 30, generator=seeded()).double()
    drawn = sampled_log_odds(GibbsSampler(sweeps=1), fields, torch.zeros(2, 30, 30).double(), 16, seeded())
    torch.testing.assert_close(drawn, 2 * fields)


def test_the_sampled_gradient_is_the_exact_one_but_for_chance():
    made, of = machine(size=0.5), candidates(6)
    for exact in (True, False):
        fields, couplings = made.problem(made.standard([of]))
        values = (
            ExactSampler().log_odds(fields, couplings)
            if exact
            else sampled_log_odds(ExactSampler(), fields, couplings, 40_000, seeded())
        )
        made.zero_grad()
        torch.log_softmax(values, 1)[0, 2].backward()
        gradient = torch.stack([parameter.grad.clone() for parameter in made.parameters()])
        if exact:
            expected = gradient
    torch.testing.assert_close(gradient, expected, rtol=0, atol=0.02)


def test_more_than_twenty_candidates_are_sampled_alike_in_every_call():
    made, of = machine(size=0.5), candidates(30)
    first, second = made.judge(of), made.judge(of)
    assert torch.equal(first.reward, second.reward)
    assert bool(((first.good > 0) & (first.good < 1)).all())


def groups(made, sets, chosen):
    """Log-odds of sets of one size, their choices, and their numbers."""
    with torch.no_grad():
        return [(made.log_odds(one.sets), one.chosen, one.number) for one in candidate_fit.by_size(made, sets, chosen)]


def choices_of(made, sets, seed):
    """A choice of each set, drawn by Luce's rule."""
    drawn, generator = {}, seeded(seed)
    for values, _, numbers in groups(made, sets, [of.reward for of in sets]):
        picked = torch.multinomial(torch.softmax(values, 1), 1, generator=generator)[:, 0]
        drawn |= dict(zip(numbers, torch.eye(values.shape[1], dtype=torch.float64)[picked], strict=True))
    return [drawn[number] for number in range(len(sets))]


def likelihood_of(made, sets, chosen):
    found = [candidate_fit.log_likelihood(values, share).sum() for values, share, _ in groups(made, sets, chosen)]
    return float(sum(found)) / len(sets)


def test_fitting_recovers_couplings_that_the_choices_came_from_and_finds_none_where_there_are_none():
    sets = [candidates(4 + number % 2, seed=number) for number in range(400)]
    truth = CandidateMachine(DIM)
    truth.standardise(sets)
    for alike in (4.0, 0.0):
        with torch.no_grad():
            truth.threshold.fill_(0.5)
            truth.alike.fill_(alike)
        chosen = choices_of(truth, sets, seed=1)
        fitted, alone = (CandidateMachine(DIM).fit(sets, chosen, coupled=coupled) for coupled in (True, False))
        gain = likelihood_of(fitted, sets, chosen) - likelihood_of(alone, sets, chosen)
        if alike:
            assert likelihood_of(fitted, sets, chosen) > likelihood_of(truth, sets, chosen) - 0.002
            assert gain > 0.02
        else:
            assert -0.002 < gain < 0.01
            assert not alone.is_coupled


def test_training_by_samples_comes_to_what_exact_training_does(monkeypatch):
    sets = [candidates(5, seed=number) for number in range(80)]
    truth = machine(size=0)
    with torch.no_grad():
        truth.threshold.fill_(0.5)
        truth.alike.fill_(4.0)
    chosen = choices_of(truth, sets, seed=1)
    exact = CandidateMachine(DIM).fit(sets, chosen)
    best, alone = likelihood_of(exact, sets, chosen), CandidateMachine(DIM).fit(sets, chosen, coupled=False)
    monkeypatch.setattr(module, "LIMIT", 0)
    monkeypatch.setattr(candidate_fit, "LIMIT", 0)
    sampled = CandidateMachine(DIM, sampler=ExactSampler()).fit(sets, chosen)
    monkeypatch.undo()
    gained = best - likelihood_of(alone, sets, chosen)
    assert gained > 0.02
    assert likelihood_of(sampled, sets, chosen) > best - gained / 5


@pytest.mark.parametrize("most_states", [2**22, 2**6])
def test_sampled_sets_and_parts_of_the_sets_train_too(most_states, monkeypatch):
    monkeypatch.setattr(candidate_fit, "STEP_STATES", most_states)
    monkeypatch.setattr(candidate_fit, "PASS_STATES", most_states)
    sets = [candidates(n, seed) for seed, n in enumerate([24, 25, 4, 5, 1] * 3)]
    chosen = [torch.eye(of.size, dtype=torch.float64)[int(of.reward.argmax())] for of in sets]
    fitted = CandidateMachine(DIM, samples=32).fit(sets, chosen, steps=12)
    assert float(fitted.slope.detach()) > 1.1
    again = CandidateMachine(DIM, samples=32).fit(sets, chosen, steps=12)
    for name, value in fitted.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_a_machine_made_from_its_settings_draws_as_the_fitted_one():
    sets = [candidates(4, seed) for seed in range(6)]
    chosen = [torch.eye(of.size, dtype=torch.float64)[0] for of in sets]
    fitted = CandidateMachine(DIM, samples=32).fit(sets, chosen, steps=12, seed=3)
    again = CandidateMachine(**fitted.settings())
    again.load_state_dict(fitted.state_dict())
    assert torch.equal(again.judge(candidates(24)).reward, fitted.judge(candidates(24)).reward)


def test_candidates_that_are_all_alike_are_chosen_by_reward():
    alike = [
        of._replace(embedding=torch.ones(of.size, DIM), length=torch.ones(of.size)) for of in map(candidates, (3, 4))
    ]
    chosen = [torch.eye(of.size, dtype=torch.float64)[int(of.reward.argmax())] for of in alike]
    fitted = CandidateMachine(DIM).fit(alike, chosen)
    assert all(int(fitted.judge(of).reward.argmax()) == int(of.reward.argmax()) for of in alike)


class Stuck:
    """A sampler that gives one state again and again, or too few of them."""

    def __init__(self, less=0):
        self.less = less

    def sample(self, fields, couplings, samples, generator):
        return torch.ones(len(fields), samples - self.less, fields.shape[1]).to(fields)


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (Stuck(), "returned 256 equal samples of 30 spins, of which others are as likely; expected different ones."),
        (Stuck(less=1), r"returned shape \(1, 255, 30\); expected \(1, 256, 30\)."),
    ],
)
def test_what_a_faulty_sampler_returns_is_refused_in_one_line(sampler, message):
    made = machine(size=0.3, sampler=sampler)
    with pytest.raises(InputError, match=message):
        made.judge(candidates(30))


def test_equal_samples_of_a_frozen_problem_are_no_fault():
    fields = torch.full((1, 30), 9.0).double()
    drawn = sampled_log_odds(Stuck(), fields, torch.zeros(1, 30, 30).double(), 64, seeded())
    torch.testing.assert_close(drawn, 2 * fields)


@pytest.mark.parametrize(("name", "value", "what"), [("together", 1e308, "coupling"), ("log_slope", 1e3, "field")])
def test_parameters_that_overflow_are_refused_in_one_line(name, value, what):
    made, of = machine(), candidates(4)
    of = of._replace(deviation=of.deviation * 1e3)
    with torch.no_grad():
        getattr(made, name).fill_(value)
    with pytest.raises(InputError, match=rf"^a {what} among 4 candidates is -?(inf|nan); expected finite numbers.$"):
        made.judge(of)


ONE = torch.ones(1).double()


@pytest.mark.parametrize(
    ("sets", "chosen", "message"),
    [
        ([candidates(1)], [ONE], "1 sets of candidates, none of two or more; expected sets to choose from."),
        ([candidates(2)], [], "1 sets and 0 choices; expected as many of each."),
        ([candidates(2)], [ONE], r"choice 0 has shape \(1,\); expected \(2,\)."),
        ([candidates(2)], [torch.ones(2)], "choice 0 sums to 2; expected shares that sum to 1."),
    ],
)
def test_sets_that_cannot_be_fitted_to_are_refused(sets, chosen, message):
    with pytest.raises(InputError, match=message):
        CandidateMachine(DIM).fit(sets, chosen)


def test_other_unusable_input_is_refused():
    with pytest.raises(InputError, match="no candidates; expected one or more"):
        machine().judge(candidates(2).rows(slice(0, 0)))
    with pytest.raises(InputError, match="embeddings of size 2; expected 6"):
        machine().judge(candidates(3)._replace(embedding=torch.ones(3, 2)))
    with pytest.raises(InputError, match="unknown sampler 'gibs'; did you mean 'gibbs'"):
        CandidateMachine(DIM, sampler="gibs")


def test_training_that_is_no_longer_finite_stops():
    sets = [candidates(3)._replace(reward=torch.tensor([float("nan"), 1, 2]))]
    with pytest.raises((InputError, TrainingError), match="field among 3 candidates is nan"):
        CandidateMachine(DIM).fit(sets, [torch.tensor([1.0, 0, 0])])
