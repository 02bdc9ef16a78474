"""Heads other than one linear layer: the reward is what the model's authors say it is."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, LlamaModel, LlamaPreTrainedModel
from transformers.modeling_outputs import ModelOutput

from fixtures.conversations import PROMPTS, RESPONSES, own_logits, refused, reward_model
from fixtures.tiny_models import classifier, own_logit, save, tokenizer
from qbrm.reward_models import load_reward_model
from qbrm.reward_models.heads import HEADS

OBJECTIVES, QUANTILES = 3, 4


class Gate(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(size, OBJECTIVES)])

    def forward(self, hidden):
        return torch.softmax(self.layers[0](hidden), dim=1)


class GatedModel(LlamaPreTrainedModel):
    """Ends as ArmoRM does (one quantile) and QRM (several): written here from their papers."""

    def __init__(self, config):
        super().__init__(config)
        self.model = LlamaModel(config)
        self.quantiles = config.quantiles_of_test
        self.regression_layer = nn.Linear(config.hidden_size, OBJECTIVES * self.quantiles, bias=False)
        self.gating = Gate(config.hidden_size)
        self.post_init()

    def forward(self, input_ids, attention_mask=None, position_ids=None):
        hidden = self.model(input_ids, attention_mask=attention_mask, position_ids=position_ids).last_hidden_state
        rows = torch.arange(len(input_ids))
        last = (attention_mask if attention_mask is not None else torch.ones_like(input_ids)).cumsum(1).argmax(1)
        first = (input_ids == 1).int().argmax(1)  # the prompt's side of the gate: the token that begins the text
        objectives = self.regression_layer(hidden[rows, last]).reshape(-1, OBJECTIVES, self.quantiles).mean(-1)
        score = (self.gating(hidden[rows, first]) * objectives).sum(1)
        score = score if self.quantiles == 1 else score[:, None]  # ArmoRM's has one axis, QRM's two
        return ModelOutput(score=score, logits=score, rewards=objectives)


def gated(quantiles):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, pad_token_id=0
    )
    config.quantiles_of_test = quantiles
    model = GatedModel(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("quantiles", [1, QUANTILES], ids=["ArmoRM", "QRM"])
def test_a_gated_models_embedding_feeds_its_objectives(quantiles, side):
    model = gated(quantiles)
    found = reward_model(model, padding_side=side).embed(PROMPTS, RESPONSES)
    np.testing.assert_allclose(found.reward, own_scores(model), rtol=0, atol=5e-6)
    for row, prompt, response in zip(found.embedding, PROMPTS, RESPONSES, strict=True):
        _, ids = own_logit(model, tokenizer(), prompt, response)
        with torch.no_grad():
            objectives = model.regression_layer(torch.from_numpy(row)).reshape(OBJECTIVES, quantiles).mean(-1)
            expected = model(ids).rewards[0]
        np.testing.assert_allclose(objectives, expected, rtol=0, atol=5e-6)


def own_scores(model):
    with torch.no_grad():
        sequences = [own_logit(model, tokenizer(), *pair)[1] for pair in zip(PROMPTS, RESPONSES, strict=True)]
        return [float(model(ids).score) for ids in sequences]


def test_a_gate_is_seen_without_being_asked_for():
    assert "gated head" in reward_model(gated(1)).identity.template
    assert reward_model(gated(1)).settings()["head"] == "gated"


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("stated", [True, False])
def test_a_quantile_heads_reward_is_the_mean_of_its_quantiles(stated, side):
    model = classifier("llama", num_labels=QUANTILES)
    pairs = list(zip(PROMPTS, RESPONSES, strict=True))
    expected = [float(own_logit(model, tokenizer(), *pair)[0].mean()) for pair in pairs]
    if stated:
        model.config.num_quantiles = QUANTILES
    made = reward_model(model, head=None if stated else "quantiles", padding_side=side)
    np.testing.assert_allclose(made.embed(PROMPTS, RESPONSES).reward, expected, rtol=0, atol=2e-6)


def several(kind):
    model = classifier(kind, num_labels=3)
    model.config.id2label = {0: "helpful", 1: "honest", 2: "brief"}
    return model


def test_a_classifier_of_several_classes_lists_them_and_how_to_choose():
    message = refused(reward_model, several("deberta-v2"))
    assert "no score head of one output but 3 outputs, 0 helpful, 1 honest, 2 brief" in message
    assert "--output INDEX" in message
    assert "'quantiles'" in message


@pytest.mark.parametrize("kind", ["llama", "deberta-v2", "roberta"])
@pytest.mark.parametrize("output", [0, 2])
def test_the_output_that_is_chosen_is_the_reward(kind, output):
    model = several(kind)
    pairs = list(zip(PROMPTS, RESPONSES, strict=True))
    expected = [float(own_logit(model, tokenizer(), *pair)[0][output]) for pair in pairs]
    made = reward_model(model, output=output)
    np.testing.assert_allclose(made.embed(PROMPTS, RESPONSES).reward, expected, rtol=0, atol=2e-6)
    assert made.identity.output == made.settings()["output"] == output
    assert reward_model(model, output=1).identity != made.identity


def test_the_only_output_need_not_be_chosen_but_may_be():
    assert reward_model(output=0).identity == reward_model().identity


@pytest.mark.parametrize("output", [-1, 3])
def test_an_output_that_is_not_there_is_refused(output):
    message = refused(reward_model, several("llama"), output=output)
    assert f"output {output}" in message
    assert "2 brief" in message


def test_an_output_is_not_chosen_where_all_of_them_make_the_reward():
    assert "head 'quantiles'" in refused(reward_model, several("llama"), head="quantiles", output=1)


class NamedHeadModel(LlamaPreTrainedModel):
    """Scores every token in a layer of any name and returns the last token's."""

    def __init__(self, config):
        super().__init__(config)
        self.model = LlamaModel(config)
        self.head_name = config.head_name_of_test
        setattr(self, self.head_name, nn.Sequential(nn.Dropout(), nn.Linear(config.hidden_size, 1)))
        self.post_init()

    def forward(self, input_ids, attention_mask=None, position_ids=None):
        hidden = self.model(input_ids, attention_mask=attention_mask, position_ids=position_ids).last_hidden_state
        last = (attention_mask if attention_mask is not None else torch.ones_like(input_ids)).cumsum(1).argmax(1)
        scored = getattr(self, self.head_name)(hidden)
        return ModelOutput(logits=scored[torch.arange(len(input_ids)), last])


@pytest.mark.parametrize("name", ["v_head", "value_head", "reward_head"])
def test_a_score_layer_under_another_name_is_found(name):
    config = classifier("llama").config
    config.head_name_of_test = name
    torch.manual_seed(0)
    model = NamedHeadModel(config).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    found = reward_model(model).embed(PROMPTS, RESPONSES)
    np.testing.assert_allclose(found.reward, own_logits(model), rtol=0, atol=5e-6)


def test_a_head_that_the_model_does_not_have_is_refused():
    assert "has no gated head" in refused(reward_model, head="gated")
    assert "linear" in refused(reward_model, head="liner")
    assert set(HEADS) == {"linear", "gated", "quantiles"}


def test_a_language_model_is_no_reward_model(tmp_path):
    config = classifier("llama").config
    folder = save(tmp_path / "lm", LlamaForCausalLM(config))
    assert "lacks score.weight" in refused(load_reward_model, str(folder))


def test_a_language_model_in_memory_is_none_either():
    assert "has no score head" in refused(reward_model, AutoModelForCausalLM.from_config(classifier("qwen2").config))
