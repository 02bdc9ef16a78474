"""An exported reward model gives its refined rewards in transformers and TRL, without QBRM."""

import ast
import re
import sys
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from fixtures.conversations import PROMPTS, RESPONSES
from fixtures.tiny_models import CHAT_TEMPLATE, classifier, save, tokenizer
from qbrm import EBRM, RBM, CoupledBoltzmannMachine, EnergyRewardModel, InputError, SemiQuantumRBM, load_reward_model
from qbrm.energies import Product, Residual
from qbrm.model.export.classifier import export_classifier
from qbrm.reward_models.quiet import quiet_transformers

pytestmark = pytest.mark.usefixtures("one_thread")
DIM = 16
MESSAGES = [[message.to_dict() for message in prompt] for prompt in PROMPTS]
ANSWERS = [{"role": "assistant", "content": response} for response in RESPONSES]
CONVERSATIONS = [[*prompt, answer] for prompt, answer in zip(MESSAGES, ANSWERS, strict=True)]
PLAIN = (["What is tea?", "x", "Hm? Well?"], ["A drink.", "Because it is so, and was so before anyone asked.", "Why?"])


def noisy(score, size=0.5):
    """A score as training might leave it: no parameter zero, units that are not one."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in score.parameters():
            parameter.add_(size * torch.randn_like(parameter))
        score.reward_loc.fill_(0.3)
        score.reward_scale.fill_(0.7)
        score.embedding_loc.normal_(std=0.2)
        score.embedding_scale.uniform_(0.5, 2)
    return score


def gated(score, kept=None):
    """With a gate that is open to some embeddings and closed to others."""
    score.set_gate(score.fitted_gate(torch.randn(40, DIM), 2 * torch.randn(40, DIM), kept))
    return score


def affine(score):
    """Hidden units without effect: the correction is a . e + a0."""
    with torch.no_grad():
        score.u.zero_()
    return score


def kept(score):
    """A score that keeps the base rewards."""
    with torch.no_grad():
        for part in (score.u, score.a, score.a0):
            part.zero_()
    return score


SCORES = {
    "sqrbm": lambda: noisy(SemiQuantumRBM(DIM, hidden=6, axes=3)),
    "rbm": lambda: noisy(RBM(DIM, hidden=6)),
    "gate": lambda: gated(noisy(SemiQuantumRBM(DIM, hidden=6))),
    "two-sided gate": lambda: gated(
        noisy(RBM(DIM, hidden=6)), kept=(torch.randn(40, DIM) + 1, torch.randn(40, DIM) + 1)
    ),
    "members": lambda: noisy(SemiQuantumRBM(DIM, hidden=3)).pooled([noisy(SemiQuantumRBM(DIM, hidden=3), 1.0)]),
    "not anchored": lambda: noisy(RBM(DIM, hidden=6, anchored=False)),
    "sharp": lambda: noisy(SemiQuantumRBM(DIM, hidden=6, coupling=9), 3.0),
    "deep": lambda: noisy(SemiQuantumRBM(DIM, hidden=6, deep=5)),
    "residual": lambda: noisy(Residual(DIM, deep=5)),
    "strength": lambda: gated(noisy(RBM(DIM, hidden=6, deep=5, strength=0.4))),
    "no strength": lambda: gated(noisy(RBM(DIM, hidden=6, strength=0.0))),
    "affine": lambda: affine(noisy(SemiQuantumRBM(DIM, hidden=6))),
    "kept": lambda: kept(noisy(SemiQuantumRBM(DIM, hidden=6))),
    "kept residual": lambda: kept(noisy(Residual(DIM, deep=5))),
    "merged": lambda: Product(
        [noisy(RBM(DIM, hidden=6)), noisy(SemiQuantumRBM(DIM, hidden=6, axes=3, deep=5), 0.8)], [1, 3]
    ),
    "merged by familiarity": lambda: Product(
        [gated(noisy(RBM(DIM, hidden=6))), gated(noisy(Residual(DIM, deep=5), 0.8)), gated(noisy(RBM(DIM)))]
    ),
    "linear residual": lambda: noisy(Residual(DIM, deep=0, strength=0.6)),
}

UNCHANGED = ("kept", "kept residual", "no strength")


def refined(folder, kind="llama", score="sqrbm", network=None, tok=None, **options):
    """A refined reward model whose reward model is in a folder, as users have them."""
    reward_model = load_reward_model(str(save(folder, network or classifier(kind), tok)), embedding="last", **options)
    return EnergyRewardModel(reward_model, SCORES[score]())


def loaded(folder, **options):
    with quiet_transformers():
        model, report = AutoModelForSequenceClassification.from_pretrained(
            folder, trust_remote_code=True, output_loading_info=True, **options
        )
    assert not any(report.values())
    return model.eval()


def logits(folder, *pairs):
    """What transformers gives for pairs of texts, or for conversations, in one padded batch, from the folder alone."""
    tok = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    if pairs:
        batch = tok(*pairs, padding=True, return_tensors="pt")
    else:
        texts = tok.apply_chat_template(CONVERSATIONS, tokenize=False)
        batch = tok(texts, padding=True, return_tensors="pt", add_special_tokens=False)
    assert not bool(batch["attention_mask"].all())
    with torch.inference_mode():
        out = loaded(folder)(**batch).logits
    assert out.shape == (len(batch["input_ids"]), 1)
    return out[:, 0]


@pytest.mark.parametrize("score", SCORES)
def test_the_logits_of_a_decoder_are_the_refined_rewards(score, tmp_path):
    model = refined(tmp_path / "base", score=score)
    exported = export_classifier(model, tmp_path / "out")
    expected = model.score(MESSAGES, RESPONSES)
    assert exported.remote_code == (
        score not in UNCHANGED
    )  # a Llama's score layer has no bias for the constant of `affine`
    torch.testing.assert_close(logits(tmp_path / "out"), expected.refined, rtol=0, atol=1e-5)
    moved = (expected.refined - expected.base).abs().max()
    assert moved < 1e-6 if score in UNCHANGED else moved > 0.05


@pytest.mark.parametrize("kind", ["gpt2", "gemma2", "gemma3, composite"])
def test_the_logits_are_the_refined_rewards_whatever_the_architecture(kind, tmp_path):
    model = refined(tmp_path / "base", kind)
    export_classifier(model, tmp_path / "out")
    expected = model.score(MESSAGES, RESPONSES).refined
    torch.testing.assert_close(logits(tmp_path / "out"), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("score", ["rbm", "gate", "affine", "linear residual", "kept"])
@pytest.mark.parametrize("kind", ["bert", "roberta", "deberta-v2"])
def test_the_logits_of_an_encoder_are_the_refined_rewards(kind, score, tmp_path):
    model = refined(tmp_path / "base", kind, score, tok=tokenizer(sep=True), template="plain")
    exported = export_classifier(model, tmp_path / "out")
    expected = model.score(*PLAIN).refined
    torch.testing.assert_close(logits(tmp_path / "out", *PLAIN), expected, rtol=0, atol=1e-5)
    assert exported.remote_code == (score in ("rbm", "gate"))
    assert exported.takes == "pair"


def test_a_linear_correction_needs_no_code_and_is_a_reward_model_again(tmp_path):
    model = refined(tmp_path / "base", "bert", "affine", tok=tokenizer(sep=True))
    export_classifier(model, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.py"))
    again = load_reward_model(str(tmp_path / "out")).embed(PROMPTS, RESPONSES).reward
    torch.testing.assert_close(torch.from_numpy(again), model.score(MESSAGES, RESPONSES).refined, rtol=0, atol=1e-5)


@pytest.mark.parametrize("score", ["sqrbm", "kept"])
def test_the_mean_of_quantiles_becomes_one_output(score, tmp_path):
    network = classifier(num_labels=5)
    model = refined(tmp_path / "base", score=score, network=network, head="quantiles")
    export_classifier(model, tmp_path / "out")
    expected = model.score(MESSAGES, RESPONSES).refined
    torch.testing.assert_close(logits(tmp_path / "out"), expected, rtol=0, atol=1e-5)


def test_the_correction_of_a_bfloat16_model_stays_in_float32(tmp_path):
    model = refined(tmp_path / "base", network=classifier().to(torch.bfloat16))
    export_classifier(model, tmp_path / "out")
    exported = loaded(tmp_path / "out")
    assert {parameter.dtype for parameter in exported.energy.parameters()} == {torch.float32}
    assert exported.base.dtype == torch.bfloat16
    expected = model.score(MESSAGES, RESPONSES).refined
    torch.testing.assert_close(logits(tmp_path / "out"), expected, rtol=0, atol=1e-4)


def test_mixed_precision_of_a_trainer_leaves_the_correction_in_float32(tmp_path):
    export_classifier(refined(tmp_path / "base"), tmp_path / "out")
    energy, inputs = loaded(tmp_path / "out").energy, (torch.randn(20, DIM), torch.randn(20))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = energy(*inputs)
    assert torch.equal(mixed, energy(*inputs))


def test_the_code_that_is_exported_imports_torch_and_transformers_only(tmp_path):
    export_classifier(refined(tmp_path / "base"), tmp_path / "out")
    (code,) = (tmp_path / "out").glob("*.py")
    nodes = list(ast.walk(ast.parse(code.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} - sys.stdlib_module_names == {"torch", "transformers"}


def test_without_trust_in_its_code_a_model_is_refused_not_misread(tmp_path):
    export_classifier(refined(tmp_path / "base"), tmp_path / "out")
    with pytest.raises(ValueError, match="trust_remote_code"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")


def test_a_pipeline_gives_the_refined_reward(tmp_path):
    model = refined(tmp_path / "base")
    export_classifier(model, tmp_path / "out")
    with quiet_transformers():
        classify = pipeline("text-classification", str(tmp_path / "out"), trust_remote_code=True)
    texts = classify.tokenizer.apply_chat_template(CONVERSATIONS, tokenize=False)
    answers = classify(texts, add_special_tokens=False, batch_size=2, padding=True)
    expected = model.score(MESSAGES, RESPONSES).refined.tolist()
    assert [answer["score"] for answer in answers] == pytest.approx(expected, abs=1e-5)
    assert {answer["label"] for answer in answers} == {"reward"}


@pytest.mark.parametrize(
    ("takes", "score", "options"),
    [
        ("conversation", "sqrbm", {}),
        ("pair", "rbm", {"kind": "bert", "tok": tokenizer(sep=True), "template": "plain"}),
        ("pair", "kept", {"kind": "bert", "tok": tokenizer(sep=True), "template": "plain"}),
        ("text", "sqrbm", {"template": "plain"}),
    ],
)
def test_the_code_in_the_card_gives_the_refined_reward(takes, score, options, tmp_path):
    model = refined(tmp_path / "base", score=score, **options)
    assert export_classifier(model, tmp_path / "out").takes == takes
    (code,) = re.findall(r"```python\n(.*?)\n```", (tmp_path / "out" / "README.md").read_text(), re.DOTALL)
    names = {}
    with quiet_transformers():
        exec(code.replace("FOLDER", str(tmp_path / "out")), names)
    expected = model.score(["How do I boil an egg?"], ["Eight minutes in boiling water."]).refined[0]
    assert names["reward"] == pytest.approx(float(expected), abs=1e-5)


def test_exporting_copies_no_weight_and_leaves_the_model_as_it_was(tmp_path, monkeypatch):
    from qbrm.model.export.modeling_qbrm import QBRMForSequenceClassification

    model = refined(tmp_path / "base")
    network = model.reward_model.parts().model
    before, config = model.score(MESSAGES, RESPONSES).refined, network.config.to_dict()
    tensors, saved = {parameter.data_ptr() for parameter in network.parameters()}, []
    save_pretrained = QBRMForSequenceClassification.save_pretrained

    def watched(self, folder):
        saved.extend(self.base.parameters())
        save_pretrained(self, folder)

    monkeypatch.setattr(QBRMForSequenceClassification, "save_pretrained", watched)
    export_classifier(model, tmp_path / "out")
    assert {parameter.data_ptr() for parameter in saved} < tensors
    assert torch.equal(model.score(MESSAGES, RESPONSES).refined, before)
    assert network.config.to_dict() == config


def test_a_model_without_a_padding_token_gets_one_that_ends_no_text(tmp_path):
    tok = tokenizer(pad=False)
    tok.pad_token = tok.eos_token  # as people write it; the template ends in it, and the model would pass over it
    model = refined(tmp_path / "base", network=classifier(pad=None), tok=tok)
    export_classifier(model, tmp_path / "out")
    expected = model.score(MESSAGES, RESPONSES).refined
    torch.testing.assert_close(logits(tmp_path / "out"), expected, rtol=0, atol=1e-5)


def test_one_of_several_outputs_becomes_the_only_one(tmp_path):
    model = refined(tmp_path / "base", network=classifier(num_labels=3), output=2)
    export_classifier(model, tmp_path / "out")
    expected = model.score(MESSAGES, RESPONSES).refined
    torch.testing.assert_close(logits(tmp_path / "out"), expected, rtol=0, atol=1e-5)


def test_system_messages_are_folded_by_the_exported_template_too(tmp_path):
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHAT_TEMPLATE
    model = refined(tmp_path / "base", tok=tokenizer(refusing), fold_system=True)
    export_classifier(model, tmp_path / "out")
    expected = model.score(MESSAGES, RESPONSES).refined
    torch.testing.assert_close(logits(tmp_path / "out"), expected, rtol=0, atol=1e-5)


def test_an_exported_template_writes_no_other_day_than_the_rewards_were_made_with(tmp_path):
    dated = CHAT_TEMPLATE.replace("<bos>", "<bos>{{ strftime_now('%d %b %Y') }}", 1)
    model = refined(tmp_path / "base", tok=tokenizer(dated))
    export_classifier(model, tmp_path / "out")
    expected = model.score(MESSAGES, RESPONSES).refined
    torch.testing.assert_close(logits(tmp_path / "out"), expected, rtol=0, atol=1e-5)


def other_code(model):
    model.reward_model.identity = SimpleNamespace(own_code=True, max_length=256)


def coupled(model):
    model.energy_score = CoupledBoltzmannMachine(DIM, hidden=3)


def neural(model):
    model.energy_score = EBRM(DIM)


def by_mean(model):
    model.refinement = "mean"


def with_more(model):
    model.energy_score.register_buffer("skew", torch.tensor(0.5))


def of_other_equations(model):
    from_standard = model.energy_score.from_standard
    model.energy_score.from_standard = lambda reward: 1.1 * from_standard(reward)


def without_classifier(model):
    from fixtures.refined_models import reward_model

    model.reward_model = reward_model()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (other_code, "code of its own"),
        (without_classifier, "no sequence classifier"),
        (coupled, "CoupledBoltzmannMachine"),
        (neural, "EBRM"),
        (by_mean, "'mean'"),
        (with_more, "skew"),
        (of_other_equations, "off by up to"),
    ],
)
def test_what_transformers_could_not_compute_is_refused_in_one_line(change, named, tmp_path):
    model = refined(tmp_path / "base")
    change(model)
    with pytest.raises(InputError, match=named) as error:
        export_classifier(model, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not [path for path in tmp_path.iterdir() if path.name != "base"]


def test_the_command_writes_the_folder_and_says_how_it_is_loaded(tmp_path, qbrm_command):
    model = refined(tmp_path / "base")
    model.save_pretrained(tmp_path / "model")
    printed = qbrm_command("export", tmp_path / "model", tmp_path / "out", "--format", "transformers")
    assert "trust_remote_code=True" in printed.out
    torch.testing.assert_close(logits(tmp_path / "out"), model.score(MESSAGES, RESPONSES).refined, rtol=0, atol=1e-5)
    again = qbrm_command("export", tmp_path / "model", tmp_path / "out", "--format", "transformers")
    assert "not empty" in again.refused()


def test_features_take_no_options_of_a_model(tmp_path, qbrm_command):
    ended = qbrm_command("export", tmp_path, tmp_path / "out.pt", "--dtype", "bfloat16")
    assert ended.refused() == "format ebrm-pt takes no --dtype; expected --format transformers with such options."


def test_a_folder_that_holds_something_is_not_written_into(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").touch()
    with pytest.raises(InputError, match="not empty"):
        export_classifier(refined(tmp_path / "base"), tmp_path / "out")


def test_a_score_that_could_read_means_and_changes_nothing_needs_no_code(tmp_path):
    reward_model = load_reward_model(str(save(tmp_path / "base", classifier())), embedding="mean")
    same = EnergyRewardModel(reward_model, kept(noisy(RBM(2 * DIM, hidden=6))))
    assert not export_classifier(same, tmp_path / "out").remote_code
    torch.testing.assert_close(logits(tmp_path / "out"), same.score(MESSAGES, RESPONSES).base, rtol=0, atol=1e-5)
