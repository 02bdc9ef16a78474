import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr
from scipy.stats import kstest, norm

from qbrm.data.pairs import Batch, PairData
from qbrm.energies import EBRM, RBM, SemiQuantumRBM
from qbrm.energies.density import density
from qbrm.fitting import TrainingSettings, train
from qbrm.fitting.objectives import OBJECTIVES, BradleyTerry, Likelihood, NCEPlus, PreferenceLikelihood
from qbrm.refinement import REFINEMENTS, refine

pytestmark = pytest.mark.usefixtures("one_thread")
unhurried = settings(deadline=None, max_examples=60)
SIGMAS = [(3.5,), (0.3, 1.0, 4.0)]


def small_batch(pairs=4, dim=3, seed=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    embedding = torch.randn(2, pairs, dim, generator=generator, dtype=dtype)
    reward = 1.3 + 2 * torch.randn(2, pairs, generator=generator, dtype=dtype)
    return Batch(embedding[0], reward[0], embedding[1], reward[1])


def loss_of(objective, score, batch, seed=0):
    return objective(score, batch, torch.Generator().manual_seed(seed))


def rewards_asked_for(objective, score, batch, monkeypatch):
    """The loss, and the standardised rewards at which the objective evaluated f: its noise, as drawn."""
    seen, real = [], score.at

    def listening(clamped, reward):
        seen.append(reward.detach().double())
        return real(clamped, reward)

    with monkeypatch.context() as patch:
        patch.setattr(score, "at", listening)
        loss = loss_of(objective, score, batch)
    assert len(seen) == 1
    return loss, seen[0]


def nce_by_formula(free_energy, score, batch, y, sigmas, penalty):
    """Gustafsson et al. (2020), eqs. 6 and 12, one example and one sample at a time."""
    embedding, base_reward = (torch.cat(x) for x in (batch[0:4:2], batch[1:4:2]))
    f = free_energy(score, embedding, base_reward, score.from_standard(y)).tolist()
    anchor = ((base_reward.double() - score.reward_loc) / score.reward_scale).tolist()
    losses, squares = [], []
    for i, centre in enumerate(anchor):
        terms = []
        for m, sample in enumerate(y[i].tolist()):
            q = sum(norm.pdf(sample, loc=centre, scale=sigma) for sigma in sigmas) / len(sigmas)
            terms.append(math.exp(f[i][m]) / q)
            squares.append(f[i][m] ** 2)
        losses.append(-math.log(terms[0] / sum(terms)))
    return sum(losses) / len(losses) + penalty * sum(squares) / len(squares)


def line(score, nodes=2001):
    """Standardised rewards: all of the line that matters, or the support of EBRM, whose f is smoother."""
    if isinstance(score, EBRM):
        return torch.linspace(-10, 10, 401, dtype=torch.float64)
    return torch.linspace(-15, 15, nodes, dtype=torch.float64)


def likelihood_by_grid(free_energy, score, batch):
    embedding, base_reward = (torch.cat(x) for x in (batch[0:4:2], batch[1:4:2]))
    grid = line(score)
    f = free_energy(score, embedding, base_reward, score.from_standard(grid)).numpy()
    at_base = free_energy(score, embedding, base_reward, base_reward[:, None]).numpy()[:, 0]
    peak = f.max(1)
    log_z = peak + np.log(np.trapezoid(np.exp(f - peak[:, None]), grid.numpy(), axis=1))
    return float((log_z - at_base).mean())


def probability_by_grid(free_energy, score, batch, nodes=2001):
    grid = line(score, nodes)
    p = []
    for embedding, base_reward in (batch[:2], batch[2:4]):
        f = free_energy(score, embedding, base_reward, score.from_standard(grid)).numpy()
        weight = np.exp(f - f.max(1, keepdims=True))
        p.append(weight / np.trapezoid(weight, grid.numpy(), axis=1)[:, None])
    chosen, rejected = p
    steps = (rejected[:, 1:] + rejected[:, :-1]) / 2 * np.diff(grid.numpy())
    below = np.concatenate([np.zeros((len(steps), 1)), steps.cumsum(1)], 1)
    return np.trapezoid(chosen * below, grid.numpy(), axis=1)


def preference_by_grid(free_energy, score, batch):
    return float(-np.log(probability_by_grid(free_energy, score, batch)).mean())


# ------------------------------------------------------------------------------------------------------- NCE+


@pytest.mark.parametrize("sigmas", SIGMAS)
def test_nce_is_its_published_formula(machine, free_energy, monkeypatch, sigmas):
    score, batch = machine(anchored=False), small_batch()
    objective = NCEPlus(noise_samples=7, sigmas=sigmas, beta=0.2, penalty=0.03)
    loss, y = rewards_asked_for(objective, score, batch, monkeypatch)
    assert y.shape == (8, 8)
    assert float(loss.detach()) == pytest.approx(nce_by_formula(free_energy, score, batch, y, sigmas, 0.03), rel=1e-6)


def test_nce_is_its_published_formula_for_ebrm(small_ebrm, free_energy, monkeypatch):
    score, batch = small_ebrm(), small_batch()
    loss, y = rewards_asked_for(NCEPlus(noise_samples=16), score, batch, monkeypatch)
    expected = nce_by_formula(free_energy, score, batch, y, (3.5,), 0.05)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-6)


def test_nces_penalty_is_lambda_times_the_mean_square_of_f(machine, free_energy, monkeypatch):
    score, batch = machine(), small_batch()
    free, y = rewards_asked_for(NCEPlus(noise_samples=7, penalty=0.0), score, batch, monkeypatch)
    fined, again = rewards_asked_for(NCEPlus(noise_samples=7, penalty=0.4), score, batch, monkeypatch)
    assert torch.equal(y, again)
    f = free_energy(score, *batch.examples(), score.from_standard(y))
    assert (fined - free).item() == pytest.approx(0.4 * float(f.square().mean()), rel=1e-6)


@pytest.mark.parametrize("sigmas", SIGMAS)
def test_nces_noise_is_the_mixture_and_positives_are_beta_times_narrower(machine, monkeypatch, sigmas):
    score, batch = machine(), small_batch(pairs=1000)
    _, y = rewards_asked_for(NCEPlus(noise_samples=10, sigmas=sigmas, beta=0.1), score, batch, monkeypatch)
    noise = (y - score.to_standard(batch.examples()[1])[:, None]).numpy()
    for sample, width in ((noise[:, 0], 0.1), (noise[:, 1:].ravel(), 1.0)):

        def mixture(x, width=width):
            return np.mean([norm.cdf(x, scale=width * sigma) for sigma in sigmas], axis=0)

        assert kstest(sample, mixture).pvalue > 1e-3


def test_nces_defaults_are_published_but_for_the_number_of_noise_samples():
    objective = NCEPlus()
    assert (objective.sigmas, objective.beta, objective.penalty) == ((3.5,), 0.1, 0.05)
    assert objective.noise_samples == 64


# ------------------------------------------------------------------------- likelihood, preference, Bradley-Terry


@pytest.mark.parametrize("anchored", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_likelihood_is_minus_the_log_density_of_the_base_reward(machine, free_energy, anchored, seed):
    score, batch = machine(anchored=anchored, seed=seed), small_batch()
    expected = likelihood_by_grid(free_energy, score, batch)
    assert float(loss_of(Likelihood(), score, batch).detach()) == pytest.approx(expected, abs=1e-6)


def test_likelihood_of_ebrm_is_minus_the_log_density_on_its_support(small_ebrm, free_energy):
    score, batch = small_ebrm().float(), small_batch(dtype=torch.float32)
    expected = likelihood_by_grid(free_energy, score, batch)
    assert float(loss_of(Likelihood(), score, batch).detach()) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_preference_is_minus_the_log_probability_of_the_label(machine, free_energy, seed):
    score, batch = machine(seed=seed).float(), small_batch(seed=seed, dtype=torch.float32)
    probability = probability_by_grid(free_energy, score, batch, nodes=20_001)
    error = (2e-6 / probability).mean()  # what an error of 2e-6 in each probability does to the mean logarithm
    loss = float(loss_of(PreferenceLikelihood(), score, batch).detach())
    assert loss == pytest.approx(-np.log(probability).mean(), abs=error)


def test_preference_of_ebrm_is_minus_the_log_probability_of_the_label(small_ebrm, free_energy):
    score, batch = small_ebrm().float(), small_batch(dtype=torch.float32)
    expected = preference_by_grid(free_energy, score, batch)
    assert float(loss_of(PreferenceLikelihood(), score, batch).detach()) == pytest.approx(expected, abs=2e-3)


def test_a_label_that_cannot_be_costs_finitely_much_and_teaches_no_nan(machine):
    score = machine().float()
    far = torch.tensor([1e3, -1e3])
    batch = Batch(torch.zeros(2, 3), far, torch.zeros(2, 3), -far)
    loss = loss_of(PreferenceLikelihood(), score, batch)
    loss.backward()
    assert 0 < float(loss.detach()) < 100
    assert all(parameter.grad.isfinite().all() for parameter in score.parameters())


def test_bradley_terry_is_minus_log_sigmoid_of_the_margin():
    batch = small_batch(pairs=6)

    def model(embedding, base_reward):
        return base_reward + embedding[:, 0]

    margins = model(batch[0], batch[1]) - model(batch[2], batch[3])
    expected = np.mean([-math.log(1 / (1 + math.exp(-margin))) for margin in margins.tolist()])
    assert float(BradleyTerry()(model, batch, torch.Generator())) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_same_generator_gives_the_same_loss(machine, name):
    score, batch = machine().float(), small_batch(dtype=torch.float32)
    global_state = torch.get_rng_state()
    first, second = (loss_of(OBJECTIVES[name](), score, batch, seed=3) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), global_state)
    assert name != "nce" or not torch.equal(first, loss_of(OBJECTIVES[name](), score, batch, seed=4))


# -------------------------------------------------------------------------------------------------- gradients


def finite_differences(score, loss, step=1e-4):
    """The gradient of `loss()` for every element of every parameter, by central differences in double precision."""
    gradients = {}
    with torch.no_grad():
        for name, parameter in score.named_parameters():
            flat, gradient = parameter.view(-1), torch.zeros(parameter.numel(), dtype=torch.float64)
            for index, value in enumerate(flat.tolist()):
                sides = []
                for shift in (step, -step):
                    flat[index] = value + shift
                    sides.append(loss())
                flat[index] = value
                gradient[index] = (sides[0] - sides[1]) / (2 * step)
            gradients[name] = gradient.view(parameter.shape)
    return gradients


def slopes_along_random_directions(score, loss, step):
    """For networks too large to shift every weight: one random direction for each parameter tensor."""
    torch.manual_seed(8)
    slopes = {}
    with torch.no_grad():
        for name, parameter in score.named_parameters():
            direction = torch.randn_like(parameter)
            direction /= direction.norm()
            before, sides = parameter.clone(), []
            for shift in (step, -step):
                parameter.copy_(before + shift * direction)
                sides.append(loss())
            parameter.copy_(before)
            slopes[name] = (direction, (sides[0] - sides[1]) / (2 * step))
    return slopes


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("anchored", [True, False])
def test_every_objectives_gradient_is_that_of_finite_differences(machine, free_energy, monkeypatch, name, anchored):
    exact = machine(dim=2, hidden=3, anchored=anchored)
    with torch.no_grad():
        exact.log_tau.fill_(0.3)
    trained = machine(dim=2, hidden=3, anchored=anchored).to(torch.float32 if name == "preference" else torch.float64)
    trained.load_state_dict(exact.state_dict())
    batch = small_batch(pairs=3, dim=2)
    if name == "nce":
        loss, y = rewards_asked_for(NCEPlus(noise_samples=5), trained, batch, monkeypatch)

        def formula():
            return nce_by_formula(free_energy, exact, batch, y, (3.5,), 0.05)

    else:
        loss = loss_of(OBJECTIVES[name](), trained, Batch(*(x.to(trained.W.dtype) for x in batch[:4])))
        grid_loss = {"likelihood": likelihood_by_grid, "preference": preference_by_grid}[name]

        def formula():
            return grid_loss(free_energy, exact, batch)

    loss.backward()
    expected = finite_differences(exact, formula)
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    error = 2e-5 if name == "preference" else 1e-6
    for parameter, gradient in expected.items():
        got = dict(trained.named_parameters())[parameter].grad
        got = torch.zeros_like(gradient) if got is None else got.double()
        torch.testing.assert_close(
            got, gradient, rtol=0, atol=error * (1 + largest), msg=lambda m, p=parameter: f"{p}: {m}"
        )


@pytest.mark.parametrize("name", OBJECTIVES)
def test_ebrms_gradient_is_that_of_finite_differences_of_the_formula(small_ebrm, free_energy, monkeypatch, name):
    exact, trained = small_ebrm(dim=2), small_ebrm(dim=2).float()
    batch = small_batch(pairs=2, dim=2)
    single = Batch(*(x.float() for x in batch[:4]))
    if name == "nce":
        loss, y = rewards_asked_for(NCEPlus(noise_samples=5), trained, single, monkeypatch)

        def formula():
            return nce_by_formula(free_energy, exact, batch, y, (3.5,), 0.05)

    else:
        loss = loss_of(OBJECTIVES[name](), trained, single)
        grid_loss = {"likelihood": likelihood_by_grid, "preference": preference_by_grid}[name]

        def formula():
            return grid_loss(free_energy, exact, batch)

    loss.backward()
    gradients = {
        parameter: value.grad.double() for parameter, value in trained.named_parameters() if value.grad is not None
    }
    for parameter, (direction, slope) in slopes_along_random_directions(exact, formula, step=1e-3).items():
        got = float((gradients[parameter] * direction).sum()) if parameter in gradients else 0.0
        norm_of_gradient = float(gradients[parameter].norm()) if parameter in gradients else 0.0
        # Quadrature on a support that cuts f off costs what the density's own tests allow it.
        assert got == pytest.approx(slope, abs=1e-4 + 5e-3 * norm_of_gradient), parameter


# ---------------------------------------------------------------------------------- recovery of a known truth


def as_pairs(embedding, reward):
    """Responses as pairs, each in one: for objectives that learn from single responses."""
    rows = torch.arange(len(reward))
    return PairData(embedding, reward, rows[0::2], rows[1::2])


def fit_density(score, embedding, reward, epochs, rate):
    cut = len(reward) * 4 // 5
    score.standardise(embedding[:cut], reward[:cut])
    pairs, validation = as_pairs(embedding[:cut], reward[:cut]), as_pairs(embedding[cut:], reward[cut:])
    plan = TrainingSettings(epochs=epochs, batch_pairs=64, learning_rate=rate, weight_decay=0.0, patience=epochs)
    train(score, Likelihood(), pairs, validation, plan, seed=0)


@torch.no_grad()
def log_likelihood(score, embedding, reward):
    """Mean log p(r | e) in the reward model's units."""
    clamped = score.clamp(embedding, reward)
    p = density(score, clamped, spacing=0.2)
    grid, mass = p.lattice.rewards, p.mass / p.lattice.step
    at = score.to_standard(reward)
    rows = [np.interp(at[i], grid[i].numpy(), mass[i].log().numpy()) for i in range(len(reward))]
    return float(np.mean(rows)) - math.log(float(score.reward_scale))


def unanchored(kind, dim, seed=0, hidden=8):
    torch.manual_seed(seed)
    if kind == "rbm":
        return RBM(dim, hidden=hidden, anchored=False)
    return SemiQuantumRBM(dim, hidden=hidden, axes=2, anchored=False)


@pytest.mark.parametrize("kind", ["rbm", "sqrbm"])
def test_likelihood_recovers_a_normal_of_a_mean_linear_in_the_embedding(kind):
    generator = torch.Generator().manual_seed(1)
    embedding = 3 + 2 * torch.randn(4000, 4, generator=generator)
    weight, sd = torch.tensor([0.8, -0.5, 0.3, 0.0]), 1.5
    truth = 10 + embedding @ weight
    reward = truth + sd * torch.randn(4000, generator=generator)
    score = unanchored(kind, 4)
    fit_density(score, embedding[:3000], reward[:3000], epochs=25, rate=0.02)
    test, truth = slice(3000, 4000), truth[3000:]
    with torch.no_grad():
        fitted = density(score, score.clamp(embedding[test], reward[test]))
    mean, std = score.from_standard(fitted.mean), fitted.std * score.reward_scale
    assert float((mean - truth).square().mean().sqrt()) < 0.12 * sd
    assert float(std.mean()) == pytest.approx(sd, rel=0.05)
    true_log_likelihood = float(norm.logpdf(reward[test], truth, sd).mean())
    assert log_likelihood(score, embedding[test], reward[test]) > true_log_likelihood - 0.02


@pytest.mark.parametrize("kind", ["rbm", "sqrbm"])
def test_likelihood_recovers_a_reward_that_jumps_with_the_embeddings_sign(kind):
    """Marginally bimodal, given e unimodal: a jump that mu, linear in e, cannot follow and hidden units can."""
    generator = torch.Generator().manual_seed(2)
    embedding = torch.randn(4000, 3, generator=generator)
    embedding[:, 0] += 0.3 * embedding[:, 0].sign()
    truth, sd = 2 * embedding[:, 0].sign(), 0.5
    reward = truth + sd * torch.randn(4000, generator=generator)
    # Spins move the mean by sum |u_j| / L at most, L = 1 / tau^2 + |u|^2 = 1 / sd^2: a jump this sharp takes many.
    score = unanchored(kind, 3, hidden=32)
    fit_density(score, embedding[:3000], reward[:3000], epochs=25, rate=0.04)
    test, truth = slice(3000, 4000), truth[3000:]
    with torch.no_grad():
        fitted = density(score, score.clamp(embedding[test], reward[test]))
    mean, std = score.from_standard(fitted.mean), fitted.std * score.reward_scale
    assert float((mean - truth).square().mean().sqrt()) < 0.3 * sd
    assert float(std.mean()) == pytest.approx(sd, rel=0.1)
    true_log_likelihood = float(norm.logpdf(reward[test], truth, sd).mean())
    got = log_likelihood(score, embedding[test], reward[test])
    assert true_log_likelihood - 0.05 < got < true_log_likelihood + 0.02
    design = np.c_[np.ones(4000), embedding.numpy()]
    residual = reward.numpy() - design @ np.linalg.lstsq(design[:3000], reward[:3000].numpy(), rcond=None)[0]
    best_linear = float(norm.logpdf(residual[3000:], 0, residual[:3000].std()).mean())
    assert got > best_linear + 0.2


def thurstone_pairs(pairs, seed, weight, noise):
    """Base rewards that miss w.e, and labels from r0 + w.e plus the noise of a judge."""
    generator = torch.Generator().manual_seed(seed)
    embedding = torch.randn(2 * pairs, len(weight), generator=generator)
    reward = 5 + 2 * torch.randn(2 * pairs, generator=generator)
    truth = reward + embedding @ weight
    judged = truth + noise * torch.randn(2 * pairs, generator=generator)
    rows = torch.arange(2 * pairs).view(pairs, 2)
    first_wins = (judged[rows[:, 0]] > judged[rows[:, 1]])[:, None]
    rows = torch.where(first_wins, rows, rows.flip(1))
    return PairData(embedding, reward, rows[:, 0], rows[:, 1]), truth


def accuracy(reward, pairs):
    return float((reward[pairs.chosen] > reward[pairs.rejected]).float().mean())


@pytest.mark.parametrize("axes", [1, 2])
def test_preferences_recover_what_the_base_reward_misses(axes):
    weight = torch.tensor([2.0, -1.5, 1.0, 0.0])
    pairs, _ = thurstone_pairs(2000, 1, weight, noise=1.0)
    validation, _ = thurstone_pairs(500, 2, weight, noise=1.0)
    held_out, truth = thurstone_pairs(4000, 3, weight, noise=1.0)
    torch.manual_seed(0)
    score = RBM(4, hidden=8) if axes == 1 else SemiQuantumRBM(4, hidden=8, axes=axes)
    score.standardise(pairs.embedding, pairs.reward)
    plan = TrainingSettings(epochs=10, batch_pairs=64, learning_rate=0.02, patience=10)
    train(score, PreferenceLikelihood(), pairs, validation, plan, seed=0)
    base, oracle = accuracy(held_out.reward, held_out), accuracy(truth, held_out)
    assert oracle - base > 0.1
    for name in ("mode", "mean"):
        refined = refine(score, held_out.embedding, held_out.reward, REFINEMENTS[name])
        assert accuracy(refined, held_out) > oracle - 0.015
    # No model's log-loss can beat the judge's own probabilities by more than chance; this one comes close.
    probability = ndtr((truth[held_out.chosen] - truth[held_out.rejected]).numpy() / math.sqrt(2))
    with torch.no_grad():
        log_loss = float(PreferenceLikelihood()(score, held_out.batch(slice(None)), torch.Generator()))
    assert -np.log(probability).mean() - 0.01 < log_loss < -np.log(probability).mean() + 0.03


# ----------------------------------------------------------------------------------------------- pairs, filtering


@unhurried
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=20),
       st.lists(st.integers(-2, 2), min_size=8, max_size=8))  # fmt: skip
def test_conflict_aware_filtering_drops_contradicting_and_tied_pairs(rows, rewards):
    pairs = PairData(torch.randn(8, 2), torch.tensor(rewards).float(), *torch.tensor(rows).T)
    kept = pairs.without_conflicts()
    expected = [(a, b) for a, b in rows if rewards[a] > rewards[b]]
    assert list(zip(kept.chosen.tolist(), kept.rejected.tolist(), strict=True)) == expected
    assert kept.n_pairs == len(expected)
    assert kept.embedding is pairs.embedding
    assert pairs.n_pairs == len(rows)


@unhurried
@given(n=st.integers(1, 40), size=st.integers(1, 50), shuffled=st.booleans(), seed=st.integers(0, 1000))
def test_batches_hold_every_pair_once_and_shuffling_changes_the_order(n, size, shuffled, seed):
    rows = torch.arange(2 * n)
    pairs = PairData(torch.stack([rows, 10 * rows], 1).float(), rows.float(), rows[:n], rows[n:])
    generator = torch.Generator().manual_seed(seed) if shuffled else None
    batches = list(pairs.batches(size, generator))
    assert all(len(batch.chosen) == size for batch in batches[:-1])
    seen = torch.cat([batch.chosen_reward for batch in batches]).int().tolist()
    assert sorted(seen) == list(range(n))
    assert shuffled or seen == list(range(n))
    for batch in batches:
        assert torch.equal(batch.rejected_reward - batch.chosen_reward, torch.full_like(batch.chosen_reward, n))
        assert torch.equal(batch.chosen[:, 1], 10 * batch.chosen_reward)
        assert torch.equal(batch.rejected[:, 0], batch.rejected_reward)
