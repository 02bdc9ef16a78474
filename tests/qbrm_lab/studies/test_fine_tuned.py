"""Fine-tuning reaches the whole encoder, resumes, is saved whole, and never sees what its scores are judged by."""

import copy
import hashlib
import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from fixtures.checksums import forget_checksums
from fixtures.preference_files import write_preferences
from fixtures.tiny_models import ENCODER, tokenizer
from qbrm import EnergyRewardModel
from qbrm.cli.console import Reporter
from qbrm.data.pairs import PairData
from qbrm.energies import RBM
from qbrm.errors import InputError
from qbrm.fitting.checkpoint import read_progress
from qbrm.model.training_prompts import read_training_prompts
from qbrm.preferences import Message, response_id, sample_source, training_pairs
from qbrm.preferences.digest import prompt_digests
from qbrm.reward_models import REWARD_MODELS, load_reward_model
from qbrm.reward_models.encoder_reward_model import EncoderRewardModel
from qbrm.reward_models.fine_tuned import save_fine_tuned
from qbrm.reward_models.quiet import quiet_transformers
from qbrm.reward_models.sentence_encoder import SentenceEncoder
from qbrm.reward_models.trunk import Trunk
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.comparison.compare import prepare
from qbrm_lab.comparison.sources import read_sources
from qbrm_lab.reward_models.fine_tuning import EncoderAndTrunk, FineTuningSettings, PairsByPrompt, Texts, fine_tune
from qbrm_lab.scenarios import VARIANTS
from qbrm_lab.studies import fine_tuned
from qbrm_lab.studies.fine_tuned import SCENARIOS_OF, study_fine_tuned, training_data

pytestmark = pytest.mark.usefixtures("one_thread")

LENGTH = 24
SETTINGS = FineTuningSettings(epochs=3, batch_pairs=4, max_length=LENGTH, encoder_learning_rate=1e-3)
ASKED = (Message("user", "Which one?"),)
# A response that occurs twice, one that is cut off, an empty one, and a conversation.
TEXTS = [
    (ASKED, "this one"),
    (ASKED, "that one " * 20),
    (ASKED, ""),
    *(((Message("user", f"question {i}"),), answer) for i in range(4) for answer in ("this one", f"no {i}")),
    ((Message("system", "Be brief."), Message("user", "Why?")), "Because."),
    ((Message("system", "Be brief."), Message("user", "Why?")), "For a great many reasons."),
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A random BERT in a folder, for an encoder that has all but the size in common with the embedded one."""
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    with quiet_transformers():
        BertModel(BertConfig(**ENCODER)).save_pretrained(folder)
    tokenizer().backend_tokenizer.save(str(folder / "tokenizer.json"))
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    return lambda max_length=LENGTH: SentenceEncoder(max_length, folder=folder, sha256=digest)


def random_trunk(encoder, seed=1):
    torch.manual_seed(seed)
    trunk = Trunk(encoder.dim, size=4, width=8)
    torch.nn.init.normal_(trunk.head.weight)
    return trunk


def few_pairs():
    chosen, rejected = [0, 0, 1, 3, 5, 7, 9, 11], [1, 2, 2, 4, 6, 8, 10, 12]
    blank = torch.zeros(len(TEXTS), 1)
    return PairData(blank, blank[:, 0], torch.tensor(chosen), torch.tensor(rejected))


def tune(tiny, **options):
    encoder = tiny()
    trunk = random_trunk(encoder)
    training = fine_tune(encoder, trunk, TEXTS, few_pairs(), few_pairs(), SETTINGS, seed=3, **options)
    weights = {**encoder.network.state_dict(), **{f"trunk.{k}": v for k, v in trunk.state_dict().items()}}
    return encoder, trunk, training, weights


def test_a_training_batch_gives_the_rewards_of_the_frozen_model(tiny):
    encoder = tiny()
    trunk = random_trunk(encoder)
    expected = EncoderRewardModel(encoder, trunk).embed(*zip(*TEXTS, strict=True)).reward
    together = EncoderAndTrunk(encoder, trunk, Texts.read(encoder, TEXTS)).eval()
    order = torch.tensor([4, 0, 2, 2, 11, 1, 3, 5, 6, 7, 8, 9, 10, 12, 0])
    with torch.no_grad():
        found = together(order[:, None], torch.zeros(len(order)))
    np.testing.assert_allclose(found, expected[order], rtol=0, atol=1e-5)


def test_every_part_of_the_encoder_that_a_mean_depends_on_learns(tiny):
    before = {name: value.clone() for name, value in tiny().network.state_dict().items()}
    *_, after = tune(tiny)
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    unread = {"pooler.dense.weight", "pooler.dense.bias"}
    assert set(before) - moved <= unread
    assert {"embeddings.word_embeddings.weight", "encoder.layer.0.attention.self.query.weight"} <= moved


def test_fine_tuning_learns_what_a_frozen_encoder_gets_wrong(tiny):
    *_, training, _ = tune(tiny)
    losses = [epoch["validation_loss"] for epoch in training.epochs]
    assert training.best == losses.index(min(losses)) > 0


def test_a_killed_fine_tuning_resumes_to_the_same_weights(tiny, tmp_path):
    def die(epoch):
        if epoch["epoch"] == 1:
            raise KeyboardInterrupt

    checkpoint = tmp_path / "checkpoint.safetensors"
    with pytest.raises(KeyboardInterrupt):
        tune(tiny, checkpoint=checkpoint, on_epoch=die)
    resumed = []
    *_, found = tune(tiny, checkpoint=checkpoint, on_epoch=lambda epoch: resumed.append(epoch["epoch"]))
    *_, expected = tune(tiny)
    assert resumed == [2, 3]
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0)
    *_, again = tune(tiny, checkpoint=checkpoint, on_epoch=die)  # finished: no epoch is left that could die
    torch.testing.assert_close(again, expected, rtol=0, atol=0)


def test_killed_within_an_epoch_it_resumes_at_the_last_kept_batch(tiny, tmp_path, monkeypatch):
    *_, uninterrupted, expected = tune(tiny)
    monkeypatch.setattr(FineTuningSettings, "checkpoint_seconds", 0.0)
    checkpoint, steps = tmp_path / "checkpoint.safetensors", []
    step = torch.optim.AdamW.step

    def count(self, *options):
        steps.append(self)
        if len(steps) == 4:  # three batches an epoch: the second of epoch 2 is under way
            raise KeyboardInterrupt
        return step(self, *options)

    monkeypatch.setattr(torch.optim.AdamW, "step", count)
    with pytest.raises(KeyboardInterrupt):
        tune(tiny, checkpoint=checkpoint)
    within = read_progress(checkpoint)["within"]
    *_, training, found = tune(tiny, checkpoint=checkpoint)
    batches = len(list(PairsByPrompt(few_pairs(), Texts.read(tiny(), TEXTS)).batches(SETTINGS.batch_pairs)))
    assert within["batches"] == 3 % batches
    assert len(steps) == SETTINGS.epochs * batches + 1
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert training.epochs == uninterrupted.epochs


def test_a_batch_has_whole_prompts_and_all_batches_every_pair_once(tiny):
    pairs = few_pairs()
    texts = Texts.read(tiny(), TEXTS)
    for generator in (None, torch.Generator().manual_seed(0)):
        batches = list(PairsByPrompt(pairs, texts).batches(2, generator))
        rows = [tuple(torch.cat([batch.chosen, batch.rejected], 1).tolist()) for batch in batches]
        seen = [tuple(pair) for batch in rows for pair in batch]
        assert sorted(seen) == sorted(zip(pairs.chosen.tolist(), pairs.rejected.tolist(), strict=True))
        prompts = [{int(texts.prompt[chosen]) for chosen, _ in batch} for batch in rows]
        assert sum(map(len, prompts)) == len(set().union(*prompts))


def test_the_digest_of_the_data_changes_with_a_token_and_with_a_label(tiny):
    def digest(texts=TEXTS, pairs=None):
        return PairsByPrompt(pairs or few_pairs(), Texts.read(tiny(), texts)).digest()

    other = copy.copy(TEXTS)
    other[0] = (ASKED, "this two")
    assert len({digest(), digest(other), digest(pairs=few_pairs().with_flipped_labels(1.0, 0))}) == 3
    assert digest() == digest()


def test_a_saved_model_and_a_score_saved_on_it_give_the_same_rewards(tiny, tmp_path):
    encoder, trunk, *_ = tune(tiny)
    asked, answers = zip(*TEXTS, strict=True)
    expected = EncoderRewardModel(encoder, trunk).embed(asked, answers)
    save_fine_tuned(tmp_path / "base", encoder, trunk)
    base = load_reward_model(str(tmp_path / "base"))
    np.testing.assert_array_equal(base.embed(asked, answers).reward, expected.reward)
    np.testing.assert_array_equal(base.embed(asked, answers).embedding, expected.embedding)
    refined = EnergyRewardModel(base, RBM(base.dim, hidden=2))
    refined.save_pretrained(tmp_path / "refined")
    question, answer = "Which one?", "this one"
    loaded = EnergyRewardModel.from_pretrained(tmp_path / "refined")
    assert loaded.score([question], [answer]).base == expected.reward[0]
    (tmp_path / "base").rename(tmp_path / "moved")
    with pytest.raises(InputError, match="which is not a folder here; say where it is with --reward-model"):
        EnergyRewardModel.from_pretrained(tmp_path / "refined")
    moved = EnergyRewardModel.from_pretrained(tmp_path / "refined", reward_model=str(tmp_path / "moved"))
    assert moved.score([question], [answer]).base == expected.reward[0]


def test_damaged_and_other_weights_are_refused(tiny, tmp_path):
    encoder = tiny()
    save_fine_tuned(tmp_path, encoder, random_trunk(encoder))
    revision = load_reward_model(str(tmp_path)).identity.revision
    assert load_reward_model(str(tmp_path), revision=revision).identity.revision == revision
    with pytest.raises(InputError, match=f"has the digest {revision}; expected the revision asked for, abc"):
        load_reward_model(str(tmp_path), revision="abc")
    with pytest.raises(InputError, match="takes no max_length"):
        load_reward_model(str(tmp_path), max_length=12)
    save_fine_tuned(tmp_path, encoder, random_trunk(encoder, seed=2))
    assert load_reward_model(str(tmp_path)).identity.revision != revision
    trunk = tmp_path / "trunk.safetensors"
    trunk.write_bytes(trunk.read_bytes()[:-1])
    forget_checksums(tmp_path)
    with pytest.raises(InputError, match="is no fine-tuned reward model that can be read"):
        load_reward_model(str(tmp_path))
    save_fine_tuned(tmp_path, encoder, random_trunk(encoder))
    (tmp_path / "encoder" / "model.safetensors").write_bytes(b"else")
    with pytest.raises(InputError, match="have SHA-256"):
        load_reward_model(str(tmp_path))


@pytest.fixture(scope="module")
def sources():
    return read_sources(ComparisonSettings(sample_source(), Path("nowhere")))


@pytest.mark.parametrize(("name", "scenario"), [(name, each) for name, all_ in SCENARIOS_OF.items() for each in all_])
def test_no_score_meets_a_prompt_that_its_encoder_was_tuned_on(sources, name, scenario):
    seen = set(VARIANTS[name].share_out(sources.train, 0).reward_model.prompt_ids)
    roles = VARIANTS[scenario].share_out(sources.train, 0)
    assert not seen & set(roles.validation.prompt_ids)
    assert not seen & {prompt for test in sources.tests.values() for prompt in test.prompt_ids}
    if scenario == "same":
        assert seen == set(roles.refinement.prompt_ids)
    else:
        assert not seen & set(roles.refinement.prompt_ids)


@pytest.fixture
def tiny_study(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(REWARD_MODELS, "all-MiniLM-L6-v2", tiny)
    monkeypatch.setattr(fine_tuned, "SentenceEncoder", tiny)
    return ComparisonSettings(sample_source(), tmp_path, seeds=2, epochs=1)


def test_noise_flips_a_quarter_of_the_encoders_labels(tiny_study):
    frozen = prepare(tiny_study, Reporter())
    roles = VARIANTS["noise"].share_out(frozen.sources.train, 0)
    true = {pair[:3] for part in (roles.reward_model, roles.reward_model_validation) for pair in training_pairs(part)}
    pairs, validation = training_data(frozen, roles)
    keys = frozen.responses.keys
    named = [
        (*keys[chosen], keys[rejected][1])
        for part in (pairs, validation)
        for chosen, rejected in zip(part.chosen.tolist(), part.rejected.tolist(), strict=True)
    ]
    turned = [(prompt, rejected, chosen) in true and (prompt, chosen, rejected) not in true
              for prompt, chosen, rejected in named]  # fmt: skip
    assert np.mean(turned) == pytest.approx(0.25, abs=0.06)
    texts = fine_tuned._texts(frozen)
    assert all(response_id(texts[row][1]) == key[1] for row, key in enumerate(keys))


def test_a_second_study_call_on_its_encoders_trains_nothing_again(tiny_study, no_pictures, tmp_path, monkeypatch):
    tiny_study = replace(tiny_study, train=write_preferences(tmp_path / "prefs.jsonl", 0, 80))
    monkeypatch.setattr(fine_tuned, "SCENARIOS_OF", {"fresh": ("small-50", "fresh")})
    settings, methods = FineTuningSettings(epochs=1, max_length=LENGTH), ("base", "rbm")
    results = read_results(study_fine_tuned(tiny_study, Reporter(), methods, settings).parent)
    assert {(row["scenario"], row["seed"]) for row in results["rows"]} == set(product(("small-50", "fresh"), (0, 1)))
    assert sum("accuracy on the test, frozen and fine-tuned" in note for note in results["notes"]) == 1
    monkeypatch.setattr("torch.optim.AdamW.step", None)  # a step would be an error
    again = read_results(study_fine_tuned(tiny_study, Reporter(), methods, settings).parent)
    assert again["summary"] == results["summary"]
    roles = VARIANTS["fresh"].share_out(read_sources(tiny_study).train, 0)
    tuned_on = prompt_digests([*roles.reward_model.prompt_ids, *roles.reward_model_validation.prompt_ids])
    folder = tiny_study.out / "fine-tuned" / "fresh"
    np.testing.assert_array_equal(read_training_prompts(folder / "reward-model"), np.unique(tuned_on))
    for seed in (0, 1):  # the second seed's split would be another one
        known = read_training_prompts(folder / "models" / f"rbm-fresh-seed-{seed}")
        np.testing.assert_array_equal(known, np.unique([*tuned_on, *prompt_digests(roles.refinement.prompt_ids)]))


def read_results(folder):
    return json.loads((folder / "results.json").read_text())
