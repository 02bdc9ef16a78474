"""Training on features that stay on disk is training on the same features in memory."""

import numpy as np
import pytest
import torch

from fixtures.checksums import forget_checksums
from fixtures.feature_folders import DIM, IDENTITY, PROMPTS, ROW_BYTES, windows_of, write_table
from qbrm.data.pairs import PairData
from qbrm.energies import RBM
from qbrm.errors import InputError
from qbrm.features import FeatureTable
from qbrm.features.manifest import Manifest
from qbrm.features.pair_list import read_pairs
from qbrm.features.stream import Share, Source, StreamedPairs, open_sources
from qbrm.fitting import TrainingSettings, train
from qbrm.fitting.objectives import PreferenceLikelihood
from qbrm.reward_models.base import Identity

pytestmark = pytest.mark.usefixtures("one_thread", "small_blocks")
ALL = Share(0.0, 1.0, 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="module")
def sources(folder):
    return open_sources([folder])


def in_memory(source):
    """The same pairs, read by keys: no row numbers, no blocks, no windows."""
    table = FeatureTable.open(source.table.folder)
    features = table.rows(table.keys())
    return PairData(*map(torch.from_numpy, features), *(torch.from_numpy(np.array(c)) for c in source.pairs[:2]))


def rows_of(batches):
    """Each pair as the numbers of its two embeddings, in the order they come."""
    return [
        tuple(row) for b in batches for row in torch.cat([b.chosen, b.rejected, b.chosen_reward[:, None]], 1).tolist()
    ]


def new_score(pairs):
    torch.manual_seed(0)
    score = RBM(DIM, hidden=4)
    score.standardise(*pairs.responses())
    return score


PLAN = TrainingSettings(epochs=3, batch_pairs=16, learning_rate=0.01)


def test_what_fits_into_one_window_trains_to_the_same_bits_as_in_memory(sources):
    streamed, memory = StreamedPairs(sources, ALL), in_memory(sources[0])
    scores = []
    for pairs in (streamed, memory):
        score = new_score(pairs)
        train(score, PreferenceLikelihood(), pairs, memory, PLAN, seed=3)
        scores.append(score.state_dict())
    assert not torch.equal(scores[0]["W"], new_score(memory).W)
    for name, value in scores[0].items():
        assert torch.equal(value, scores[1][name]), name


@pytest.mark.parametrize("window", [1, 3, 7])
def test_a_shuffled_pass_has_every_pair_once_in_the_generators_order(sources, window):
    pairs, memory = StreamedPairs(sources, ALL, window_bytes=windows_of(window)), in_memory(sources[0])
    first, again, other = (rows_of(pairs.batches(8, torch.Generator().manual_seed(seed))) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert sorted(first) == sorted(other) == sorted(rows_of(memory.batches(8)))
    assert rows_of(pairs.batches(8)) == rows_of(memory.batches(8))
    assert pairs.n_pairs == 2 * PROMPTS == memory.n_pairs


def test_a_window_mixes_blocks_from_all_over_the_table(sources):
    window = 6
    pairs = StreamedPairs(sources, ALL, window_bytes=windows_of(window))
    place = {row: number for number, row in enumerate(rows_of(pairs.batches(8)))}
    shuffled = rows_of(pairs.batches(8, torch.Generator().manual_seed(0)))
    blocks = [{place[row] // 16 for row in shuffled[start : start + 16]} for start in range(0, len(shuffled), 16)]
    assert np.mean([len(touched) for touched in blocks]) > 4  # 16 draws from 6 blocks meet 5.7 of them on average
    assert np.mean([max(touched) - min(touched) for touched in blocks]) > 2 * PROMPTS / 16 / 3


def test_no_more_than_a_window_of_embeddings_is_read_at_a_time(sources, monkeypatch):
    held = []
    take = FeatureTable.take
    monkeypatch.setattr(FeatureTable, "take", lambda table, rows: held.append(len(rows)) or take(table, rows))
    pairs = StreamedPairs(sources, ALL, window_bytes=windows_of(3))
    list(pairs.batches(8, torch.Generator().manual_seed(0)))
    pairs.responses()
    assert max(held) * ROW_BYTES <= windows_of(3)
    assert len(held) == -(-len(pairs._blocks) // 3) + 1


def test_progress_counts_the_pairs_of_a_pass(sources):
    seen = []
    pairs = StreamedPairs(sources, ALL, window_bytes=windows_of(9), progress=lambda *counts: seen.append(counts))
    list(pairs.batches(8, torch.Generator().manual_seed(0)))
    assert [total for _, total in seen] == [2 * PROMPTS] * 5
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1][0] == 2 * PROMPTS


def test_conflicts_are_left_out_as_in_memory(sources):
    pairs = StreamedPairs(sources, ALL, window_bytes=windows_of(2)).without_conflicts()
    memory = in_memory(sources[0]).without_conflicts()
    assert 0 < pairs.n_pairs == memory.n_pairs < 2 * PROMPTS
    assert rows_of(pairs.batches(8)) == rows_of(memory.batches(8))


@pytest.mark.parametrize("seed", [0, 1])
def test_a_share_and_its_rest_have_every_pair_once_and_no_prompt_in_both(sources, seed):
    held, rest = (StreamedPairs(sources, Share(*ends, seed)) for ends in ((0.0, 0.25), (0.25, 1.0)))
    assert held.n_pairs / (2 * PROMPTS) == pytest.approx(0.25, abs=0.08)  # three deviations of 300 draws
    together = rows_of(held.batches(8)) + rows_of(rest.batches(8))
    assert sorted(together) == sorted(rows_of(StreamedPairs(sources, ALL).batches(8)))
    prompts = [set(sources[0].pairs.prompt[pairs.share.holds(sources[0].pairs.prompt)]) for pairs in (held, rest)]
    assert not prompts[0] & prompts[1]
    assert sum(map(len, prompts)) == PROMPTS


def test_another_seed_holds_out_other_prompts(sources):
    prompt = sources[0].pairs.prompt
    held = [Share(0.0, 0.25, seed).holds(prompt) for seed in (0, 1)]
    both = (held[0] & held[1]).mean()
    assert both == pytest.approx(0.25**2, abs=0.05)


def test_several_folders_are_one_set_of_pairs(tmp_path):
    parts = open_sources([write_table(tmp_path / "a", range(100)), write_table(tmp_path / "b", range(100, 150))])
    pairs = StreamedPairs(parts, ALL, window_bytes=windows_of(4))
    expected = [row for source in parts for row in rows_of(in_memory(source).batches(8))]
    assert sorted(rows_of(pairs.batches(8, torch.Generator().manual_seed(0)))) == sorted(expected)
    assert rows_of(pairs.load().batches(8)) == expected


def test_digest_tells_features_pairs_and_shares_apart(tmp_path, sources):
    other = open_sources([write_table(tmp_path / "other", range(1, 1 + PROMPTS))])
    pairs = sources[0].pairs
    fewer = (Source(sources[0].table, pairs._replace(chosen=pairs.chosen[:-1], rejected=pairs.rejected[:-1])),)
    variants = [
        StreamedPairs(sources, ALL),
        StreamedPairs(sources, ALL).without_conflicts(),
        StreamedPairs(sources, Share(0.0, 0.5, 0)),
        StreamedPairs(other, ALL),
        StreamedPairs(fewer, ALL),
    ]
    assert len({pairs.digest() for pairs in variants}) == len(variants)
    assert StreamedPairs(open_sources([sources[0].table.folder]), ALL).digest() == variants[0].digest()


def test_features_of_different_models_are_refused(tmp_path, folder):
    other = write_table(tmp_path, identity=Identity("other", "fedcba9", "plain", 16))
    with pytest.raises(InputError, match=r"come from other@fedcba9, those in .* from made up@0123456\."):
        open_sources([folder, other])


def test_features_that_are_not_complete_are_refused_whatever_else_they_lack(tmp_path):
    Manifest(IDENTITY, DIM, wanted=900).write(tmp_path)
    with pytest.raises(InputError, match="are not complete: 0 of 900 responses; run qbrm embed again"):
        open_sources([tmp_path])


def test_features_without_rewards_are_refused(tmp_path):
    write_table(tmp_path, reward=False)
    with pytest.raises(InputError, match="have no rewards: made up@0123456 has no score layer"):
        open_sources([tmp_path])


def test_pairs_older_than_the_features_are_refused(tmp_path):
    write_table(tmp_path)
    pairs = (tmp_path / "pairs.arrow").read_bytes()
    write_table(tmp_path, range(10, 10 + PROMPTS))
    (tmp_path / "pairs.arrow").write_bytes(pairs)
    with pytest.raises(InputError, match="is not as it was written"):
        read_pairs(FeatureTable.open(tmp_path))
    forget_checksums(tmp_path)
    with pytest.raises(InputError, match="is older than the features beside it"):
        read_pairs(FeatureTable.open(tmp_path))
