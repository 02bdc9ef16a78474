"""Members of an ensemble that hold out other prompts, and what is set on what they held out."""

from dataclasses import replace

import pytest
import torch
from rich.console import Console
from torch.nn import functional

from fixtures.hashing_model import HashingModel
from fixtures.methods import with_training
from qbrm.cli.console import Reporter
from qbrm.data.pairs import PairData
from qbrm.energies.sqrbm import SemiQuantumRBM
from qbrm.fitting.calibration import BASE_PAIRS, CalibrationLoss, calibrate, mean_loss
from qbrm.fitting.committee import committee
from qbrm.preferences import read_preferences, sample_source
from qbrm.reward_models import REWARD_MODELS
from qbrm.reward_models.base import Embedded
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.comparison.compare import prepare, run_scenario
from qbrm_lab.methods import build_method
from qbrm_lab.methods.base import Fitted, Task
from qbrm_lab.methods.reference import Base
from qbrm_lab.methods.temperature_scaling import tempered_together
from qbrm_lab.responses import Features, Responses
from qbrm_lab.results.facts import BaseKept

pytestmark = pytest.mark.usefixtures("one_thread")
DIM, PROMPTS = 4, 24


def task(prompts=PROMPTS, seed=0, world=7):
    """Three pairs a prompt, a quarter of the prompts for validation, labels from a direction of the embedding."""
    torch.manual_seed(world)
    count = 3 * prompts
    embedding, reward = torch.randn(2 * count, DIM), torch.randn(2 * count)
    prompt = torch.arange(prompts).repeat_interleave(3).repeat(2)
    first, second = torch.arange(count), torch.arange(count, 2 * count)
    better = 2 * embedding[first, 0] + reward[first] > 2 * embedding[second, 0] + reward[second]
    chosen, rejected = torch.where(better, first, second), torch.where(better, second, first)
    both = PairData(embedding, reward, chosen, rejected)
    held_out = prompt[first] < max(prompts // 4, 1)
    features = Features(embedding, reward, torch.zeros(len(reward)))
    return Task(
        both.only(~held_out), both.only(held_out), features, seed, None, lambda r: {}, lambda e: None, prompt=prompt
    )


def labels(pairs):
    return set(zip(pairs.chosen.tolist(), pairs.rejected.tolist(), strict=True))


def test_every_pair_validates_one_member_and_trains_all_others():
    given = task()
    tasks = committee(given.fold, 5)
    everything = labels(given.pairs) | labels(given.validation)
    assert len(tasks) == 5
    for each in tasks:
        assert labels(each.pairs) | labels(each.validation) == everything
        assert not labels(each.pairs) & labels(each.validation)
    assert sorted(pair for each in tasks for pair in labels(each.validation)) == sorted(everything)


def test_no_prompt_is_on_both_sides_of_a_member_and_folds_are_even():
    for each in committee(task().fold, 5):
        trained, held_out = (set(each.prompt[part.chosen].tolist()) for part in (each.pairs, each.validation))
        assert not trained & held_out
        assert len(held_out) in (4, 5)


def test_the_seed_decides_how_prompts_are_shared_out():
    first, again, other = (committee(task(seed=seed).fold, 5)[0].validation for seed in (0, 0, 1))
    assert labels(first) == labels(again) != labels(other)


def test_there_are_no_more_members_than_prompts():
    tasks = committee(task(prompts=3).fold, 5)
    assert len(tasks) == 3
    assert all(each.pairs.n_pairs == 6 and each.validation.n_pairs == 3 for each in tasks)


def test_members_differ_in_their_seed_alone_where_prompts_are_not_known():
    given = replace(task(), prompt=None)
    tasks = committee(given.fold, 3)
    assert all(each.pairs is given.pairs and each.validation is given.validation for each in tasks)
    assert len({each.seed for each in tasks}) == 3


def test_one_member_keeps_the_split_it_was_given():
    given = task()
    assert committee(given.fold, 1) == [given.fold]


def test_responses_to_one_prompt_have_one_number():
    responses = Responses([read_preferences(sample_source())])
    numbers = dict(zip((key[0] for key in responses.keys), responses.prompt.tolist(), strict=True))
    assert [numbers[key[0]] for key in responses.keys] == responses.prompt.tolist()
    assert sorted(numbers.values()) == list(range(len(numbers)))


class Encoder(HashingModel):
    """An encoder: it has no rewards of its own."""

    def embed(self, prompts, responses):
        return Embedded(super().embed(prompts, responses).embedding, None)


def test_prompts_are_shared_out_unless_the_model_trained_on_them(tmp_path, monkeypatch):
    seen = {}

    def fit(method, given):
        seen[given.checkpoint.parent.name.partition("-seed")[0]] = given.prompt
        return Fitted(lambda features: features.reward)

    monkeypatch.setattr(Base, "fit", fit)
    monkeypatch.setitem(REWARD_MODELS, "encoder", Encoder)
    for scenario in ("fresh", "same"):
        settings = ComparisonSettings(
            sample_source(), tmp_path, methods=("base",), scenario=scenario, seeds=1, reward_model="encoder"
        )
        prepared = prepare(settings, Reporter(Console(quiet=True)))
        run_scenario(prepared, scenario, settings.selected_methods(), Reporter(Console(quiet=True)))
    assert torch.equal(seen["fresh"], prepared.responses.prompt)
    assert seen["same"] is None


def test_members_with_shared_validation_pairs_are_pooled_first():
    given = replace(task(), prompt=None)
    method = with_training(build_method("sqrbm:gate,members=3"), epochs=3, batch_pairs=8, learning_rate=1e-2)
    score = method.fit(given).score
    assert score.members == 3
    as_calibrated = float(score.tau.detach())
    calibrate([score], [given.validation])
    assert float(score.tau.detach()) == pytest.approx(as_calibrated, rel=0.02)


def test_one_temperature_makes_what_was_held_out_of_each_network_likeliest():
    given = task()
    tasks = [given.of(fold) for fold in committee(given.fold, 2)]
    members = [lambda features, slope=slope: features.reward + slope * features.embedding[:, 0] for slope in (1.0, 3.0)]
    found = tempered_together(members, tasks)
    margins, claims = [], []
    for member, each in zip(members, tasks, strict=True):
        pairs, rewards = each.validation, member(given.features)
        margins.append(rewards[pairs.chosen] - rewards[pairs.rejected])
        claims.append(torch.sigmoid(pairs.reward[pairs.chosen] - pairs.reward[pairs.rejected]))
    margin, claimed = torch.cat(margins).double(), torch.cat(claims).double()

    def loss(temperature):
        right, wrong = functional.logsigmoid(margin / temperature), functional.logsigmoid(-margin / temperature)
        return -float((right + BASE_PAIRS / len(margin) * (claimed * right + (1 - claimed) * wrong)).mean())

    best = min((float(each) for each in torch.logspace(-1.5, 1.5, 3_000)), key=loss)
    rewards = torch.tensor([1.0, 0.0])
    claim = found(given.features, rewards, torch.tensor([0]), torch.tensor([1]))
    assert float(claim) == pytest.approx(float(functional.logsigmoid(torch.tensor(1 / best))), abs=1e-3)


def machine(seed, embedding, reward):
    torch.manual_seed(seed)
    found = SemiQuantumRBM(DIM, hidden=4)
    found.scatter()
    found.standardise(embedding, reward)
    found.log_tau.data.fill_(-0.5 * seed)
    return found


def test_one_factor_makes_all_held_out_pairs_likeliest_together():
    given = task()
    tasks = committee(given.fold, 2)
    machines = [machine(seed, *given.pairs.responses()) for seed in range(2)]
    before = [float(each.log_tau.detach()) for each in machines]
    held_out = [each.validation for each in tasks]
    objective = CalibrationLoss(sum(pairs.n_pairs for pairs in held_out))
    calibrate(machines, held_out)
    after = [float(each.log_tau.detach()) for each in machines]
    assert after[0] - before[0] == pytest.approx(after[1] - before[1], abs=1e-5)

    def at(step):
        for each, log_tau in zip(machines, after, strict=True):
            each.log_tau.data.fill_(log_tau + step)
        return mean_loss(machines, objective, held_out)

    assert at(0.0) <= min(at(-0.05), at(0.05))


def test_a_machine_on_two_held_out_parts_is_calibrated_on_both():
    given = task()
    parts = [each.validation for each in committee(given.fold, 2)]
    alone, together = machine(1, *given.pairs.responses()), machine(1, *given.pairs.responses())
    calibrate([alone], [parts[0].with_pairs_of(parts[1])])
    calibrate([together, together], parts)
    assert float(together.tau.detach()) == pytest.approx(float(alone.tau.detach()), rel=1e-3)


@pytest.mark.parametrize("name", ["mlp:gate,members=3", "sqrbm:members=3", "sqrbm:gate,members=3"])
def test_a_committee_learns_and_says_how_sure_it_is(name):
    method = with_training(build_method(name), epochs=5, batch_pairs=8, learning_rate=1e-2)
    given = task(prompts=80)
    found = method.fit(given)
    fresh = task(prompts=80, world=8)
    rewards = found.rewards(fresh.features)
    pairs = fresh.pairs
    right = (rewards[pairs.chosen] > rewards[pairs.rejected]).float().mean()
    base = (pairs.reward[pairs.chosen] > pairs.reward[pairs.rejected]).float().mean()
    claimed = found.log_preference(fresh.features, rewards, pairs.chosen, pairs.rejected)
    assert right > base + 0.05
    assert -claimed.mean() < 0.65


def test_a_committee_keeps_the_base_rewards_if_nobody_gains_from_training():
    """Labels that nothing explains: what is learned from some prompts fails on the others."""
    given = task()
    torch.manual_seed(3)
    flip = torch.rand(len(given.features.reward)) < 0.5
    noisy = [
        part._replace(
            chosen=torch.where(flip[part.chosen], part.rejected, part.chosen),
            rejected=torch.where(flip[part.chosen], part.chosen, part.rejected),
        )
        for part in (given.pairs, given.validation)
    ]
    method = build_method("sqrbm:members=5")
    method = with_training(method, epochs=5, batch_pairs=4, learning_rate=0.1, first_kept=5)
    found = method.fit(replace(given, pairs=noisy[0], validation=noisy[1]))
    assert BaseKept(method="sqrbm:members=5", seed=0) in found.facts
    order = found.rewards(given.features).argsort()
    assert torch.equal(order, given.features.reward.argsort())
