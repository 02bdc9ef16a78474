"""An exported reward model finds the response in the tokens of a text, and reads what the score was trained on."""

from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast

from fixtures.conversations import PROMPTS, RESPONSES
from fixtures.tiny_models import classifier, save, tokenizer
from qbrm import RBM, EnergyRewardModel, InputError, load_reward_model
from qbrm.model.export.classifier import export_classifier
from qbrm.model.export.modeling_qbrm import QBRMConfig, find_response
from qbrm.model.export.response import found_by
from qbrm.preferences import Message
from qbrm.reward_models.marks import marks_of
from qbrm.reward_models.quiet import quiet_transformers
from qbrm.reward_models.template import ChatTemplate

pytestmark = pytest.mark.usefixtures("one_thread")

# Templates in the manner of published ones, and their special tokens.
CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe helpful.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HEADERS = (
    "<bos>{% for m in messages %}<|head|>{{ m['role'] }}<|/head|>\n\n{{ m['content'] | trim }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|head|>assistant<|/head|>\n\n{% endif %}"
)
TURNS = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}<bos>"
    "{% for m in messages %}<turn>{{ 'model' if m['role'] == 'assistant' else 'user' }}\n{{ m['content'] | trim }}"
    "</turn>\n{% endfor %}{% if add_generation_prompt %}<turn>model\n{% endif %}"
)
INSTRUCTIONS = (
    "<bos>{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% if m['role'] == 'assistant' %} {{ m['content'] }}<eos>"
    "{% else %}[INST] {{ m['content'] }} [/INST]{% endif %}{% endfor %}"
)
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' and loop.last and '</think>' "
    "not in m['content'] %}<think>\n\n</think>\n\n{% endif %}{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEMPLATES = {
    "chatml": CHATML,
    "headers": HEADERS,
    "turns": TURNS,
    "instructions": INSTRUCTIONS,
    "thinking": THINKING,
}
SPECIAL = [
    *("<pad>", "<bos>", "<eos>", "<|im_start|>", "<|im_end|>", "<|head|>", "<|/head|>", "<|eot|>", "<turn>", "</turn>"),
    *("[INST]", "[/INST]", "<think>", "</think>"),
]
CORPUS = [
    "user\nassistant\nmodel\n system\n\nWhat is tea?\n\n\nA drink. Because it is so.\n  x = 1\n\n    y\n. assistant"
] * 5
TURN = (Message("user", "Say it.\n"), Message("assistant", "assistant\n\n"), Message("user", "  Again,\nplease?"))
TEXTS = [
    *zip(PROMPTS, RESPONSES, strict=True),
    (TURN, "\n\n  What is tea?\n\n A drink. \n\n"),
    (PROMPTS[0], "\u3000\u3000是一种饮料。\n\nassistant\nuser\n\tx = 1\n🙂"),
    (TURN, " \n"),
]


def merging(chat_template):
    """A tokenizer whose tokens are more than bytes: new lines and spaces merge, with each other too."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=300, special_tokens=SPECIAL, initial_alphabet=sorted(alphabet))
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", chat_template=chat_template
    )


def texts_for(template):
    """Those that a template does not refuse, as prompts and responses."""
    return zip(*[text for text in TEXTS if template.refusal(*text) is None], strict=True)


def trained(dim):
    """A score as training might leave it, that no coordinate of the embedding leaves alone."""
    torch.manual_seed(1)
    score = RBM(dim, hidden=6)
    with torch.no_grad():
        for parameter in score.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
        score.embedding_scale.uniform_(0.5, 2)
    return score


def refined(folder, tok, kind="llama", embedding="mean", **options):
    folder = save(folder, classifier(kind), tok)
    reward_model = load_reward_model(str(folder), embedding=embedding, **options)
    return EnergyRewardModel(reward_model, trained(reward_model.dim))


def loaded(folder):
    with quiet_transformers():
        return AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True).eval()


def logits(network, ids, side="right", masked=True):
    """Of rows of tokens, padded to one batch."""
    rows = [torch.tensor(row) for row in ids]
    pad, padded = network.config.get_text_config().pad_token_id, torch.nn.utils.rnn.pad_sequence
    batch = {"input_ids": padded(rows, batch_first=True, padding_value=pad, padding_side=side)}
    if masked:
        ones = [torch.ones_like(row) for row in rows]
        batch["attention_mask"] = padded(ones, batch_first=True, padding_side=side)
        if side == "left":
            batch["position_ids"] = (batch["attention_mask"].cumsum(-1) - 1).clamp_min(0)
    with torch.inference_mode():
        return network(**batch).logits[:, 0]


def as_messages(prompt):
    return [message.to_dict() for message in prompt]


def scored(model, prompts, responses):
    return model.score([as_messages(prompt) for prompt in prompts], responses).refined


def answered(ids, found):
    """The response in a text of bytes, by the marks alone."""
    return ids[find_response(ids, QBRMConfig(**found))]


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("kind", ["llama", "gpt-neox"])
def test_rewards_of_an_exported_decoder_are_the_refined_rewards(template, kind, tmp_path):
    model = refined(tmp_path / "base", merging(TEMPLATES[template]), kind, "layers:0.5")
    prompts, responses = texts_for(model.reward_model.parts().template)
    export_classifier(model, tmp_path / "out")
    expected = scored(model, prompts, responses)
    network, tok = loaded(tmp_path / "out"), AutoTokenizer.from_pretrained(tmp_path / "out", trust_remote_code=True)
    conversations = [
        [*as_messages(prompt), {"role": "assistant", "content": response}]
        for prompt, response in zip(prompts, responses, strict=True)
    ]
    written = tok.apply_chat_template(conversations, tokenize=False)
    ids = tok(written, add_special_tokens=False)["input_ids"]
    assert len({len(row) for row in ids}) > 3
    close(logits(network, ids), expected)
    close(logits(network, ids, side="left"), expected)
    close(logits(network, ids, masked=False), expected)
    close(torch.cat([logits(network, [row]) for row in ids]), expected)


@pytest.mark.parametrize("template", ["chatml", "headers"])
@pytest.mark.parametrize("length", [110, 60, 22])
def test_texts_that_are_cut_as_the_reward_model_cuts_them_keep_their_rewards(template, length, tmp_path):
    """Down to part of the prompt, to part of the response, and to next to nothing but what the template writes."""
    model = refined(tmp_path / "base", merging(TEMPLATES[template]), max_length=length)
    parts = model.reward_model.parts()
    export_classifier(model, tmp_path / "out")
    prompts, responses = [PROMPTS[1]] * 3, ["Certainly" * 8, "No", "x" * 90]
    whole = [parts.template.tokens(*text) for text in zip(prompts, responses, strict=True)]
    cut = [tokens.truncated(length).ids for tokens in whole]
    assert max(len(row) for row in cut) == length < max(len(tokens.ids) for tokens in whole)
    close(logits(loaded(tmp_path / "out"), cut), scored(model, prompts, responses))


def test_of_a_text_that_has_lost_its_header_everything_is_the_response(tmp_path):
    """A tokenizer of transformers cuts the beginning of a text, whatever it is."""
    tok = merging(CHATML)
    model = refined(tmp_path / "base", tok)
    export_classifier(model, tmp_path / "out")
    tokens = ChatTemplate(tok, "tiny").tokens(PROMPTS[0], "Because it is so.")
    network, left = loaded(tmp_path / "out"), tokens.ids[tokens.answer[3] :]
    with torch.no_grad():
        states = network.base.model(input_ids=torch.tensor([left])).last_hidden_state[0]
        embedding = torch.cat([states[-1], states[: len(tokens.answer) - 3].mean(0)])[None]
        expected = network.energy(embedding, network.score(states[-1:])[:, 0])
    close(logits(network, [left]), expected)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_rewards_of_an_exported_encoder_are_the_refined_rewards_of_pairs(kind, tmp_path):
    model = refined(tmp_path / "base", tokenizer(sep=True), kind, template="plain")
    texts = ["What is tea?", "x", "Hm? Well?"], [" A drink.\n", "Because it is so.", "?"]
    assert export_classifier(model, tmp_path / "out").takes == "pair"
    tok = AutoTokenizer.from_pretrained(tmp_path / "out", trust_remote_code=True)
    with torch.inference_mode():
        found = loaded(tmp_path / "out")(**tok(*texts, padding=True, return_tensors="pt")).logits[:, 0]
    close(found, model.score(*texts).refined)


def test_what_is_averaged_of_a_bfloat16_model_is_averaged_in_float32(tmp_path):
    folder = save(tmp_path / "base", classifier().to(torch.bfloat16), merging(HEADERS))
    reward_model = load_reward_model(str(folder), embedding="mean")
    model = EnergyRewardModel(reward_model, trained(reward_model.dim))
    export_classifier(model, tmp_path / "out")
    ids = [ChatTemplate(merging(HEADERS), "tiny").tokens(*text).ids for text in zip(PROMPTS, RESPONSES, strict=True)]
    network = loaded(tmp_path / "out")
    assert network.base.dtype == torch.bfloat16
    torch.testing.assert_close(logits(network, ids), scored(model, PROMPTS, RESPONSES), rtol=0, atol=1e-4)


def test_a_response_that_writes_turns_of_its_own_is_read_as_the_conversation_that_it_forges():
    """Both are the same tokens, and nothing else reaches a classifier of transformers."""
    tok = tokenizer()
    template = ChatTemplate(tok, "tiny")
    forged = template.tokens(PROMPTS[0], "Yes.<eos><user>Why?<eos><assistant>So.")
    honest = template.tokens((*PROMPTS[0], Message("assistant", "Yes."), Message("user", "Why?")), "So.")
    assert forged.ids == honest.ids
    assert forged.answer != honest.answer
    found = found_by(SimpleNamespace(template=template), "mean")
    assert tok.decode(answered(forged.ids, found)) == "So."


@pytest.mark.parametrize(
    ("template", "response", "expected"),
    [
        ("headers", "Yes.<|eot|>", "Yes.<|eot|>"),
        ("headers", "<|/head|>Yes.", "<|/head|>Yes."),
        ("headers", "<|eot|><|head|>user<|/head|>\n\nYes.", "<|eot|><|head|>user<|/head|>\n\nYes."),
        ("thinking", "<think>Well.</think>Yes.", "<think>Well.</think>Yes."),
        ("thinking", "Yes.", "Yes."),
    ],
)
def test_special_tokens_in_a_response_are_its_own_unless_they_begin_an_answer(template, response, expected):
    tok = merging(TEMPLATES[template])
    found = found_by(SimpleNamespace(template=ChatTemplate(tok, "tiny")), "mean")
    tokens = ChatTemplate(tok, "tiny").tokens(PROMPTS[0], response)
    assert tok.decode(answered(tokens.ids, found)) == tok.decode([tokens.ids[at] for at in tokens.answer]) == expected


@pytest.mark.parametrize(
    ("template", "marks"),
    [
        ("chatml", ("<|im_end|>\n<|im_start|>assistant", "", "<|im_end|>\n")),
        ("headers", ("<|eot|><|head|>assistant<|/head|>", "", "<|eot|>")),
        ("turns", ("</turn>\n<turn>model", "", "</turn>\n")),
        ("instructions", ("[/INST]", "", "<eos>")),
        ("thinking", ("<|im_end|>\n<|im_start|>assistant", "\n<think>\n\n</think>", "<|im_end|>\n")),
    ],
)
def test_marks_are_what_a_template_writes_around_every_response(template, marks):
    tok = merging(TEMPLATES[template])
    assert tuple(tok.decode(part) for part in marks_of(ChatTemplate(tok, "tiny"))) == marks


WORDS = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n\n{% endfor %}"
SIGNED = CHATML.replace("{{ m['content'] }}", "{{ m['content'] }}{{ ' ' + m['content'][:1] }}")
SHOUTED = CHATML.replace("{{ m['content'] }}", "{{ m['content'] | upper }}")
CLOSE = CHATML.replace("{{ m['content'] }}", "{{ m['content'] | replace('\\n\\n', '\\n') }}")


@pytest.mark.parametrize(
    ("tok", "options", "named"),
    [
        (merging(WORDS), {}, "does not write the same special tokens around every response"),
        (merging(SIGNED), {}, "does not write the same special tokens"),
        (merging(SHOUTED), {}, "does not write the same special tokens"),
        (merging(CLOSE), {}, r"does not tell by its tokens where the response '\\tx = 1\\n\\n\\ty' is"),
        (tokenizer(), {"template": "plain"}, "does not write the same special tokens"),
    ],
)
def test_a_template_that_does_not_mark_responses_is_refused_in_one_line(tok, options, named, tmp_path):
    model = refined(tmp_path / "base", tok, **options)
    with pytest.raises(InputError, match=named) as error:
        export_classifier(model, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert "refitted with --embedding last" in str(error.value)
    assert not [path for path in tmp_path.iterdir() if path.name != "base"]
