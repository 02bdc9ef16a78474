"""Over-optimisation in a simulated world: the world, the candidates, the curves, and all of it on the sample set."""

import json
from io import BytesIO

import numpy as np
import pytest
import torch
from rich.console import Console
from torch.nn import functional

from qbrm.cli.console import Reporter
from qbrm.data.pairs import PairData
from qbrm.energies.density import density
from qbrm.errors import InputError
from qbrm.features import build_features
from qbrm.preferences import PreferenceSet, read_preferences, sample_source, split_by_prompt
from qbrm.reward_models.base import Embedded, Identity
from qbrm.reward_models.sentence_encoder import SentenceEncoder
from qbrm_lab.evaluation.best_of_n import best_of_n_kl
from qbrm_lab.methods.base import Fitted, Task
from qbrm_lab.methods.readings import LOWER_BOUND
from qbrm_lab.report.plots import over_optimisation_figure
from qbrm_lab.responses import Features
from qbrm_lab.results import as_json, parsed
from qbrm_lab.results.facts import BoundChosen
from qbrm_lab.studies.over_optimisation import measure as module
from qbrm_lab.studies.over_optimisation.candidates import fit_policy
from qbrm_lab.studies.over_optimisation.gold import SimulatedGold, labelled
from qbrm_lab.studies.over_optimisation.gold_curves import Curves, Pool, curve_rows, curves_of, peak_rows
from qbrm_lab.studies.over_optimisation.measure import (
    OverOptimisation,
    OverOptimisationSettings,
    over_optimisation,
    sizes_up_to,
)
from qbrm_lab.studies.over_optimisation.proxies import PROXIES

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = (1, 4, 16, 64, 256)


def quiet():
    return Reporter(Console(quiet=True))


def vectors(n=400, dim=6, seed=0):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def test_gold_is_standardised_and_fixed_by_its_seed():
    real = 3 + 5 * vectors()
    gold = SimulatedGold(real, seed=1)(real)
    assert float(gold.mean()) == pytest.approx(0, abs=1e-5)
    assert float(gold.std()) == pytest.approx(1, abs=1e-5)
    assert torch.equal(gold, SimulatedGold(real, seed=1)(real))
    assert abs(float(torch.corrcoef(torch.stack([gold, SimulatedGold(real, seed=2)(real)]))[0, 1])) < 0.9


def test_no_linear_reward_explains_gold():
    real = vectors(4_000)
    gold = SimulatedGold(real, seed=0)(real)
    design = torch.cat([real, torch.ones(len(real), 1)], 1)
    residual = gold - design @ torch.linalg.lstsq(design, gold[:, None]).solution[:, 0]
    assert 0.1 < float(residual.var()) < 0.95


def test_labels_choose_the_response_with_more_gold_and_keep_the_pairs():
    gold = torch.tensor([0.0, 2.0, 1.0])
    pairs = PairData(vectors(3), torch.zeros(3), torch.tensor([0, 1, 2]), torch.tensor([1, 2, 0]))
    found = labelled(pairs, gold)
    assert (found.chosen.tolist(), found.rejected.tolist()) == ([1, 1, 2], [0, 2, 0])


def test_candidates_scatter_round_their_prompt_as_real_responses_do():
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(3, 3, generator=generator)
    centres = 10 * torch.randn(2_000, 1, 3, generator=generator)
    real = centres + torch.randn(2_000, 4, 3, generator=generator) @ mixing
    drawn = fit_policy(list(real)).draw(7, 50_000, generator)
    torch.testing.assert_close(drawn.mean(0), real[7].mean(0), rtol=0, atol=0.05)
    torch.testing.assert_close(drawn.T.cov(), mixing.T @ mixing, rtol=0.05, atol=0.05)


def test_candidates_keep_what_all_responses_to_a_prompt_share():
    real = [torch.cat([torch.full((4, 2), float(prompt)), vectors(4, 3, prompt)], 1) for prompt in range(5)]
    drawn = fit_policy(real).draw(3, 100, torch.Generator().manual_seed(0))
    assert (drawn[:, :2] == 3).all()


def test_the_lower_bound_is_the_mean_less_z_deviations(tmp_path):
    generator = torch.Generator().manual_seed(0)
    embedding = vectors(300)
    features = Features(embedding, embedding[:, 0], torch.zeros(300, dtype=torch.long))
    better, worse = torch.randint(300, (2, 400), generator=generator)
    train, validation = (
        PairData(embedding, features.reward, better[part], worse[part]) for part in (slice(300), slice(300, 400))
    )
    train, validation = (labelled(pairs, embedding[:, 1] + 0.3 * embedding[:, 0]) for pairs in (train, validation))
    task = Task(train, validation, features, 0, tmp_path / "c", lambda rewards: {}, lambda epoch: None)
    fitted = PROXIES["sqrbm:lcb"].fit(task)

    fitted.score.requires_grad_(False)
    clamped = fitted.score.clamp(embedding, features.reward)
    found = density(fitted.score, clamped, spacing=0.2)
    bounds = {z: fitted.score.from_standard(found.mean - z * found.std) for z in LOWER_BOUND.levels}
    losses = {
        z: smallest_log_loss(bound[validation.chosen] - bound[validation.rejected]) for z, bound in bounds.items()
    }
    best = min(losses, key=losses.get)
    assert fitted.facts[-1].z == best
    torch.testing.assert_close(fitted.rewards(features), bounds[best], rtol=1e-3, atol=1e-3)


def smallest_log_loss(margin):
    """Over all temperatures, by trying many."""
    return min(float(-functional.logsigmoid(margin.double() / t).mean()) for t in torch.logspace(-3, 3, 2_000))


def curves(seed, signal, pools=6):
    """Proxies that see gold with some noise; `fooled` turns against gold in its own tail."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(pools):
        base, noise = generator.normal(size=(2, 500))
        gold = np.where(base < 1.5, base, -base)
        found.append(Pool(gold, {"gold": gold, "base": generator.normal(size=500), "fooled": base + noise * signal}))
    return curves_of(found, SIZES)


def test_rows_are_means_over_pools_then_seeds_with_intervals():
    seeds = {3: curves(3, 0.1), 4: curves(4, 0.1)}
    rows = curve_rows(seeds)
    for method in ("gold", "base", "fooled"):
        of_seed = {seed: [row.gold for row in rows if (row.method, row.seed) == (method, seed)] for seed in seeds}
        for seed, found in of_seed.items():
            np.testing.assert_allclose(found, seeds[seed].gold[method].mean(0))
        overall = [row for row in rows if (row.method, row.seed) == (method, None)]
        np.testing.assert_allclose([row.gold for row in overall], np.mean(list(of_seed.values()), axis=0))
        assert all(row.ci_low <= row.gold <= row.ci_high for row in overall)
        np.testing.assert_allclose([row.kl for row in overall], best_of_n_kl(SIZES))


def test_the_interval_of_one_seed_is_that_of_a_mean_over_pools():
    values = np.random.default_rng(0).normal(size=(200, 1))
    (row, _) = curve_rows({0: Curves((1,), {"base": values}, {"base": values})})
    error = values.std() / np.sqrt(200)
    assert row.ci_high - row.ci_low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_a_proxy_that_is_fooled_in_its_tail_peaks_and_gold_itself_does_not():
    gold, base, fooled = peak_rows({seed: curves(seed, 0.1) for seed in (0, 1, 2)})
    assert (gold.peak_n, gold.peaks, gold.loss) == (256, False, 0)
    assert fooled.peaks
    assert fooled.peak_n in (4, 16)
    assert fooled.loss > 1
    assert base.over_base is None
    assert gold.over_base_low > 0 > fooled.over_base_high


def test_sizes_go_from_one_to_the_whole_pool():
    assert sizes_up_to(10_000)[0] == 1
    assert sizes_up_to(10_000)[-1] == 10_000
    assert len(sizes_up_to(10_000)) > 30
    assert sizes_up_to(3) == (1, 2, 3)


class Oracle:
    """A proxy that is gold itself, or noise."""

    def __init__(self, reward):
        self.name, self._reward = "oracle", reward

    def described(self):
        return {}

    def fit(self, task: Task) -> Fitted:
        return Fitted(self._reward)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A few prompts of the sample set with their real embeddings: what trains, what is held out, the table."""
    whole = read_preferences(sample_source())
    few = whole.of_prompts(whole.prompt_ids[::8])
    table = build_features(SentenceEncoder(max_length=64), few, tmp_path_factory.mktemp("features"))
    return (*split_by_prompt(few, 0.3, 0), table)


QUICK = OverOptimisationSettings(
    methods=("base", "base:mean", "mlp", "sqrbm", "sqrbm:lcb"), seeds=(0, 1), prompts=2, pool=200
)


def test_the_sample_set_from_end_to_end_and_again_without_work(sample, tmp_path, monkeypatch):
    found = over_optimisation(*sample, tmp_path / "a", quiet(), QUICK)
    methods = ["gold", *QUICK.methods]
    assert [row.method for row in found.peaks] == methods
    assert parsed(json.loads(json.dumps(as_json(found))), OverOptimisation) == found
    overall = {method: [r for r in found.rows if (r.method, r.seed) == (method, None)] for method in methods}
    assert all(rows[0].n == 1 and rows[0].gold == pytest.approx(0, abs=1e-6) for rows in overall.values())
    assert (np.diff([row.gold for row in overall["gold"]]) > 0).all()
    assert all((np.diff([row.proxy for row in rows]) > -1e-9).all() for rows in overall.values())
    assert sum(isinstance(fact, BoundChosen) for fact in found.facts) == 2
    assert over_optimisation(*sample, tmp_path / "b", quiet(), QUICK) == found

    def nothing(*_):
        raise AssertionError("work was done again")

    monkeypatch.setattr(module, "_run_seed", nothing)
    assert over_optimisation(*sample, tmp_path / "a", quiet(), QUICK) == found


def test_another_question_is_not_answered_from_what_is_kept(sample, tmp_path):
    one = OverOptimisationSettings(methods=("base",), seeds=(0,), prompts=2, pool=100)
    first = over_optimisation(*sample, tmp_path, quiet(), one)
    train, test, table = sample
    fewer = train.of_prompts(train.prompt_ids[:-1])
    assert over_optimisation(fewer, test, table, tmp_path, quiet(), one).rows != first.rows


def test_a_quarter_of_the_labels_is_wrong(sample, monkeypatch, tmp_path):
    tasks = []

    def reward(features):
        return features.reward

    class Spy(Oracle):
        def fit(self, task):
            tasks.append(task)
            return super().fit(task)

    monkeypatch.setitem(PROXIES, "spy", Spy(reward))
    settings = OverOptimisationSettings(methods=("spy",), seeds=(0,), prompts=2, pool=50)
    over_optimisation(*sample, tmp_path, quiet(), settings)
    (task,) = tasks
    gold = SimulatedGold(task.features.vector, 0)(task.features.vector)
    wrong = (gold[task.pairs.chosen] < gold[task.pairs.rejected]).float()
    assert float(wrong.mean()) == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / len(wrong)) ** 0.5)


def test_what_cannot_be_measured_is_refused_in_one_line(sample, tmp_path):
    train, test, table = sample
    for change, message in (
        ({"methods": ("basis",)}, "did you mean 'base'"),
        ({"scenario": "sane"}, "did you mean 'same'"),
        ({"prompts": 10_000}, "expected at least 10000"),
    ):
        with pytest.raises(InputError, match=message):
            over_optimisation(
                train, test, table, tmp_path, quiet(), OverOptimisationSettings(**{"seeds": (0,)} | change)
            )
    with pytest.raises(InputError, match="share"):
        over_optimisation(train, train, table, tmp_path, quiet(), QUICK)


def test_a_reward_model_that_came_trained_is_refused(sample, tmp_path):
    class Trained:
        identity, dim = Identity("trained", "0123456789abcdef", "plain", 16), 2

        def embed(self, prompts, responses):
            return Embedded(np.ones((len(prompts), 2), np.float32), np.ones(len(prompts), np.float32))

    train, test, _ = sample
    table = build_features(Trained(), PreferenceSet("both", (*train, *test)), tmp_path / "features")
    with pytest.raises(InputError, match="came trained"):
        over_optimisation(train, test, table, tmp_path, quiet(), QUICK)


def test_the_figure_has_a_panel_per_family_and_a_curve_per_method():
    rows = curve_rows({seed: curves(seed, 0.1) for seed in (0, 1)})
    figure = over_optimisation_figure(rows)
    figure.savefig(BytesIO(), format="png")
    panels = figure.axes
    assert [axes.get_title() for axes in panels] == ["base", "fooled"]
    labels = [[text.get_text().split(",")[0] for text in axes.get_legend().get_texts()] for axes in panels]
    assert labels == [["base"], ["base", "fooled"]]
    line = panels[0].get_lines()[0]
    expected = [row.gold for row in rows if row.method == "base" and row.seed is None]
    np.testing.assert_array_equal(line.get_xdata(), best_of_n_kl(SIZES))
    np.testing.assert_array_equal(line.get_ydata(), expected)
    (above,) = panels[0].child_axes
    assert [text.get_text() for text in above.get_xticklabels()] == ["1", "10", "100"]
