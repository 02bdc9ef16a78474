"""The trunk over an encoder's vectors: what makes its reward, and that an answer to another prompt loses."""

import math

import pytest
import torch

from qbrm.data.pairs import PairData
from qbrm.fitting.trunk import fit_trunk
from qbrm.reward_models.trunk import RIDGE, Trunk, _ridge

# The prompt's direction, the response's, and one more number.
ALIKE = [1.0, 0.0, 1.0, 0.0, 0.3]
HALF = [1.0, 0.0, 0.5, math.sqrt(0.75), 0.3]
LESS = [1.0, 0.0, 0.46, math.sqrt(1 - 0.46**2), 0.3]
APART = [1.0, 0.0, 0.0, 1.0, 0.3]


def trunk_of(vectors, direction_dim=2):
    torch.manual_seed(0)
    trunk = Trunk(vectors.shape[1], size=3, width=4, direction_dim=direction_dim, relevance_weight=7.0)
    torch.nn.init.normal_(trunk.head.weight)
    trunk.standardise(vectors)
    return trunk.eval()


def test_a_response_below_the_usual_cosine_pays_for_what_it_lacks_up_to_a_fifth():
    trunk = trunk_of(torch.tensor([HALF] * 20))
    vectors = torch.tensor([ALIKE, HALF, LESS, APART])
    embedding = trunk.embed(vectors)
    assert trunk.usual.tolist() == pytest.approx([0, 0, 0, 0.5], abs=1e-6)  # all are alike: nothing but a constant
    assert trunk.least == pytest.approx(0, abs=1e-6)
    assert embedding[:, 3].tolist() == pytest.approx([0, 0, -0.04, -0.2], abs=1e-6)
    of_trunk = trunk.head(trunk.layers((vectors - trunk.loc) / trunk.scale))[:, 0]
    lacks = torch.tensor([0, 0, -0.04, -0.2])
    torch.testing.assert_close(trunk(vectors, torch.zeros(4)), of_trunk + 7 * lacks, atol=1e-5, rtol=1e-5)
    assert (trunk.head_dim, trunk.dim, embedding.shape[1]) == (4, 9, 9)


@pytest.mark.parametrize("most_rows", [10_000, 1000])
def test_three_in_a_hundred_responses_fall_short(most_rows, monkeypatch):
    monkeypatch.setattr("qbrm.reward_models.trunk.MOST_ROWS", most_rows)
    generator = torch.Generator().manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(8000, 2, 16, generator=generator), dim=2).flatten(1)
    known, fresh = vectors.split(4000)
    trunk = Trunk(32, direction_dim=16).eval()
    trunk.standardise(known)
    short = [(trunk.embed(rows)[:, trunk.size] < 0).float().mean().item() for rows in (known, fresh)]
    assert short == pytest.approx([0.03, 0.03], abs=0.01)


def test_vectors_without_directions_have_the_reward_of_the_trunk_alone():
    vectors = torch.tensor([ALIKE, HALF, APART])
    trunk = trunk_of(vectors, direction_dim=None)
    of_trunk = trunk.head(trunk.layers((vectors - trunk.loc) / trunk.scale))[:, 0]
    torch.testing.assert_close(trunk.reward(trunk.embed(vectors)), of_trunk)
    assert (trunk.head_dim, trunk.dim) == (3, 8)
    assert not {"usual", "least"} & trunk.state_dict().keys()


def test_what_training_follows_leaves_relevance_out():
    trunk = trunk_of(torch.tensor([HALF] * 20)).train()
    trunk.layers[0].p = trunk.layers[3].p = 0.0
    vectors = torch.tensor([APART])
    of_trunk = trunk.head(trunk.layers((vectors - trunk.loc) / trunk.scale))[:, 0]
    torch.testing.assert_close(trunk(vectors, torch.zeros(1)), of_trunk)


def test_settings_and_weights_make_the_same_trunk():
    trunk = trunk_of(torch.tensor([HALF] * 20))
    other = Trunk(**trunk.settings())
    other.load_state_dict(trunk.state_dict())
    vectors = torch.tensor([ALIKE, APART])
    torch.testing.assert_close(other.eval().embed(vectors), trunk.embed(vectors))


def simulated(prompts, seed):
    """Two responses near each prompt's direction, of which the last coordinate says which is better."""
    generator = torch.Generator().manual_seed(seed)

    def directions(values):
        return torch.nn.functional.normalize(values, dim=1)

    prompt = directions(torch.randn(prompts, 16, generator=generator))
    better = torch.randn(prompts, 2, 1, generator=generator).sort(1, descending=True).values
    near = [directions(prompt + 0.2 * torch.randn(prompts, 16, generator=generator)) for _ in range(2)]
    both = [torch.cat([prompt, near[side], better[:, side]], dim=1) for side in (0, 1)]
    rows = torch.arange(prompts)
    return PairData(torch.cat(both), torch.zeros(2 * prompts), rows, prompts + rows)


@pytest.mark.usefixtures("one_thread")
def test_an_answer_to_another_prompt_loses_though_no_preference_has_one():
    pairs, validation, test = simulated(400, 0), simulated(100, 1), simulated(200, 2)
    own = test.embedding[:200]
    others = torch.cat([own[:, :16], own.roll(1, 0)[:, 16:]], dim=1)
    wins, accuracy = {}, {}
    for directions in (None, 16):
        trunk, _ = fit_trunk(pairs, validation, 0, direction_dim=directions)
        reward = torch.no_grad()(lambda vectors, trunk=trunk: trunk(vectors, torch.zeros(len(vectors))))
        wins[directions] = (reward(others) >= reward(own)).float().mean().item()
        accuracy[directions] = (reward(own) > reward(test.embedding[200:])).float().mean().item()
    assert 0.35 < wins[None] < 0.65
    assert wins[16] < 0.05
    assert accuracy[16] > accuracy[None] - 0.02 > 0.8


def test_an_answer_that_suits_every_prompt_does_not_pay_and_one_to_another_prompt_does():
    generator = torch.Generator().manual_seed(0)

    def near(direction, noise):
        drawn = direction + noise * torch.randn(direction.shape, generator=generator)
        return torch.nn.functional.normalize(drawn, dim=1)

    prompt = near(torch.zeros(2000, 16), 1.0)
    refusal = near(torch.eye(16)[:1].expand(300, 16), 0.05)
    answer = torch.cat([refusal, near(prompt[300:], 0.15)])
    vectors = torch.cat([prompt, answer], dim=1)
    trunk = Trunk(32, direction_dim=16)
    trunk.standardise(vectors)
    elsewhere = torch.cat([prompt, answer.roll(500, 0)], dim=1)
    short, wrong = (trunk.eval().embed(rows)[:, trunk.size] < 0 for rows in (vectors, elsewhere))
    assert short[:300].float().mean() < 0.25  # of refusals, whose cosines are as low as those of wrong answers
    assert wrong[800:].float().mean() > 0.85


def test_what_remains_of_a_row_left_out_is_that_of_a_regression_without_it():
    generator = torch.Generator().manual_seed(0)
    inputs, target = torch.randn(30, 4, generator=generator), torch.randn(30, generator=generator)
    _, left_out = _ridge(inputs, target)
    for row in (0, 17):
        rest = torch.arange(30) != row
        # The units of the whole are kept; the constant is that of the rest.
        centre = inputs.mean(0)
        rows = torch.cat([inputs - centre, torch.ones(30, 1)], dim=1)[rest].double()
        shrunk = rows.T @ rows + torch.diag(torch.tensor([RIDGE] * 4 + [0.0]).double())
        weight = torch.linalg.solve(shrunk, rows.T @ target[rest].double())
        predicted = torch.cat([inputs[row] - centre, torch.ones(1)]).double() @ weight
        assert left_out[row].item() == pytest.approx(target[row].item() - predicted.item(), rel=1e-5)
