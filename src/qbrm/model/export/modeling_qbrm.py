r"""A reward model refined by a Boltzmann machine, for transformers: its one logit is the refined reward r*.

.. math:: r^* = \arg\max_r f(e, r), \qquad
          f(e, r) = -\frac{(r - \mu)^2}{2\tau^2} + \frac{g}{K} \Bigl(
          \sum_j \log\cosh\lVert b_j\rVert - \frac{|u|^2 r^2}{2}\Bigr), \qquad
          b_j = W_j \phi(e) + c_j + r\,u_j, \qquad \mu = r_0 + g\,(a^\top \phi(e) + a_0)

e is what enters the score layer of the frozen reward model, joined to means over the response of what some of its
modules give if the score reads such, r0 its reward, phi(e) = tanh(V e + v) or e itself, g(e) the strength of the
correction, times a gate if there is one, and K the number of machines of which this is the mean.
Without hidden units r* is mu. Of machines that were merged, f is the weighted mean. Written by
``qbrm export --format transformers``; needs torch and transformers, not qbrm::

    model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

MIN_TAU = 0.02
# A Newton step of this size (relative to 1 + |r|) leaves an error of about its square, below float32's rounding.
SMALL_STEP = 1e-4
MAX_STEPS = 60
# What describes a machine, beside the size of embeddings.
MACHINE = ("hidden", "axes", "members", "anchored", "gate_rank", "deep", "strength")


class QBRMConfig(PretrainedConfig):
    """Configuration of a refined reward model.

    Args:
        base_config: of the reward model, a sequence classifier of transformers.
        score_layer: name of its score layer, whose input is the beginning of the embedding e.
        score_bias: whether the reward r0 has a constant.
        score_dim: size of that input; None for all of e.
        averaged: names of the modules whose output, averaged over the response, is the rest of e.
        header: tokens right before a response.
        preamble: tokens that may be between header and response.
        ending: tokens behind a response.
        blanks: tokens of white space, which count for no response at its ends.
        dim: embedding size D.
        hidden: number of hidden units M.
        axes: components of each hidden unit's field.
        members: K.
        anchored: whether mu contains r0.
        gate_rank: rank of the gate, ranks of both sides of one that has two, or None for a machine without one.
        deep: size of phi(e), or 0 for e itself.
        strength: share of the correction that is applied, 0 to 1.
        machines: of a model that was merged: `hidden` to `strength` of each; these arguments then mean nothing here.
        weights: of these machines; None for weights by whose the embedding is, as their gates know it.
        **options: of every configuration of transformers.
    """

    model_type = "qbrm"
    sub_configs: ClassVar[dict[str, Any]] = {"base_config": AutoConfig}

    def __init__(
        self,
        base_config: PretrainedConfig | dict[str, Any] | None = None,
        score_layer: str = "score",
        score_bias: bool = False,
        score_dim: int | None = None,
        averaged: Sequence[str] = (),
        header: Sequence[int] = (),
        preamble: Sequence[int] = (),
        ending: Sequence[int] = (),
        blanks: Sequence[Sequence[int]] = (),
        dim: int = 1,
        hidden: int = 0,
        axes: int = 1,
        members: int = 1,
        anchored: bool = True,
        gate_rank: int | Sequence[int] | None = None,
        deep: int = 0,
        strength: float = 1.0,
        machines: Sequence[dict[str, Any]] = (),
        weights: Sequence[float] | None = None,
        **options: Any,
    ) -> None:
        self.base_config = AutoConfig.for_model(**base_config) if isinstance(base_config, dict) else base_config
        self.score_layer, self.score_bias, self.score_dim = score_layer, score_bias, score_dim
        self.averaged, self.header, self.preamble, self.ending = (
            list(averaged),
            list(header),
            list(preamble),
            list(ending),
        )
        self.blanks = [list(blank) for blank in blanks]
        self.dim, self.hidden, self.axes, self.members = dim, hidden, axes, members
        self.anchored, self.gate_rank, self.deep, self.strength = anchored, gate_rank, deep, strength
        self.machines, self.weights = list(machines), weights
        super().__init__(**options)

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> PretrainedConfig:
        """The reward model's own; its padding token is the one that counts."""
        return self if self.base_config is None else self.base_config.get_text_config(decoder, encoder)


class QBRMForSequenceClassification(PreTrainedModel):
    """The frozen reward model, its score layer taken out, and what turns embedding and reward into r*."""

    config_class = QBRMConfig
    _keep_in_fp32_modules_strict: ClassVar[list[str]] = ["energy"]
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True

    def __init__(self, config: QBRMConfig) -> None:
        super().__init__(config)
        self.base = AutoModelForSequenceClassification.from_config(config.base_config)
        config.base_config = self.base.config
        self.base.set_submodule(config.score_layer, nn.Identity())
        self.score = nn.Linear(config.score_dim or config.dim, 1, bias=config.score_bias)
        self.energy = energy_of(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The reward model's."""
        embeddings: nn.Module = self.base.get_input_embeddings()
        return embeddings

    def forward(
        self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, **inputs: Any
    ) -> SequenceClassifierOutput:
        """Refined rewards r*, as logits of shape (batch, 1), in the reward model's units."""
        inputs |= {"input_ids": input_ids, "attention_mask": attention_mask, "return_dict": True}
        with self.averaged(input_ids, attention_mask) as means:
            scored = self.base(**inputs).logits  # without its score layer, the classifier returns what enters it
        embedding = torch.cat([scored.float(), *(mean.to(scored.device) for mean in means.values())], 1)
        reward = self.energy(embedding, self.score(scored)[:, 0])
        return SequenceClassifierOutput(logits=reward[:, None])

    @contextmanager
    def averaged(self, input_ids: Tensor | None, attention_mask: Tensor | None) -> Iterator[dict[str, Tensor]]:
        """Means over each response of what the modules named in the configuration give within the context."""
        means = dict.fromkeys(self.config.averaged, torch.empty(0))
        if not means:
            yield means
            return
        if input_ids is None:
            raise ValueError("input_ids is None; expected token ids, by which the response is found.")
        weights = answer_weights(input_ids, attention_mask, self.config)
        with ExitStack() as stack:
            for name in means:

                def keep(module: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
                    states = output if isinstance(output, Tensor) else output[0]
                    means[name] = torch.bmm(weights.to(states.device)[:, None], states.float())[:, 0]

                stack.callback(self.base.get_submodule(name).register_forward_hook(keep).remove)
            yield means


def answer_weights(ids: Tensor, attended: Tensor | None, config: QBRMConfig) -> Tensor:
    """Weights (batch, tokens) of the mean over each response; of an empty one, the text's last token counts."""
    if attended is None:  # up to the last token that is no padding, as the model pools
        attended = (ids != config.get_text_config().pad_token_id).long().flip(1).cummax(1).values.flip(1)
    weights = torch.zeros(ids.shape, device=ids.device)
    for row, tokens, mask in zip(weights, ids, attended.bool(), strict=True):
        places = mask.nonzero()[:, 0]
        answer = places[find_response(tokens[places].tolist(), config)]
        answer = answer if len(answer) else places[-1:]
        row[answer] = 1 / max(len(answer), 1)
    return weights


def find_response(tokens: list[int], config: QBRMConfig) -> slice:
    """Where the response is in a text: behind its last header, or all of it without one, and before its ending."""
    header, preamble, ending = config.header, config.preamble, config.ending
    end = len(tokens) - len(ending)
    if end < 0 or tokens[end:] != ending:
        end = len(tokens)
    ends = range(end, len(header) - 1, -1)
    start = next((at for at in ends if tokens[at - len(header) : at] == header), 0)
    if tokens[start : start + len(preamble)] == preamble:
        start += len(preamble)
    while size := next((len(blank) for blank in config.blanks if tokens[start:end][: len(blank)] == blank), 0):
        start += size
    while size := next((len(blank) for blank in config.blanks if tokens[start:end][-len(blank) :] == blank), 0):
        end -= size
    return slice(start, end)


class Concave(NamedTuple):
    """f of a batch of examples: its derivatives f' and f'' in one reward each, where its mode may be, a first guess."""

    slope: Callable[[Tensor], tuple[Tensor, Tensor]]
    low: Tensor
    high: Tensor
    start: Tensor


class Energy(nn.Module):
    """The Boltzmann machine; rewards inside are standardised with `reward_loc` and `reward_scale`, embeddings too."""

    def __init__(
        self,
        dim: int,
        hidden: int,
        axes: int,
        members: int,
        anchored: bool,
        gate_rank: int | Sequence[int] | None,
        deep: int,
        strength: float,
    ) -> None:
        super().__init__()
        self.members, self.anchored, self.strength = members, anchored, strength
        read = deep or dim
        self.reward_loc, self.reward_scale = _parameter(), _parameter()
        self.embedding_loc, self.embedding_scale = _parameter(dim), _parameter(dim)
        self.W, self.c, self.u = _parameter(axes, hidden, read), _parameter(axes, hidden), _parameter(axes, hidden)
        self.a, self.a0, self.log_tau = _parameter(read), _parameter(), _parameter()
        self.gate = None if gate_rank is None else Gate.of_rank(dim, gate_rank)
        self.trunk = nn.Linear(dim, deep) if deep else None

    @torch.no_grad()
    def forward(self, embedding: Tensor, base_reward: Tensor) -> Tensor:
        """Refined rewards r* (batch,) of embeddings (batch, dim) and rewards r0 (batch,)."""
        with torch.autocast(embedding.device.type, enabled=False):
            return mode(self.clamp(embedding, base_reward)) * self.reward_scale + self.reward_loc

    def clamp(self, embedding: Tensor, base_reward: Tensor) -> Concave:
        """F as a function of standardised rewards."""
        standard = self.standard(embedding)
        reward = (base_reward.to(self.W.dtype) - self.reward_loc) / self.reward_scale
        read = standard if self.trunk is None else torch.tanh(self.trunk(standard))
        gate = self.strength * (torch.ones_like(reward) if self.gate is None else self.gate(standard))
        mean = gate * (read @ self.a + self.a0) + (reward if self.anchored else 0)
        field = torch.einsum("bd,amd->bam", read, self.W) + self.c
        return concave(field, mean, self.u, self.log_tau.exp().clamp_min(MIN_TAU), gate / self.members)

    def standard(self, embedding: Tensor) -> Tensor:
        """Standardised embeddings."""
        return (embedding.to(self.W.dtype) - self.embedding_loc) / self.embedding_scale


class Product(nn.Module):
    """Machines that were trained apart, merged: f is the mean of theirs, with weights that sum to one."""

    def __init__(self, dim: int, machines: Sequence[dict[str, Any]], weights: Sequence[float] | None) -> None:
        super().__init__()
        self.weights = weights
        self.reward_loc, self.reward_scale = _parameter(), _parameter()
        self.machines = nn.ModuleList(Energy(dim, **machine) for machine in machines)

    @torch.no_grad()
    def forward(self, embedding: Tensor, base_reward: Tensor) -> Tensor:
        """Refined rewards r* (batch,) of embeddings (batch, dim) and rewards r0 (batch,)."""
        with torch.autocast(embedding.device.type, enabled=False):
            machines = self.each()
            parts = [machine.clamp(embedding, base_reward) for machine in machines]
            scales = [self.reward_scale / machine.reward_scale for machine in machines]
            shifts = [(self.reward_loc - machine.reward_loc) / machine.reward_scale for machine in machines]
            shares = self.shares(embedding)

            def slope(reward: Tensor) -> tuple[Tensor, Tensor]:
                first, second = torch.zeros_like(reward), torch.zeros_like(reward)
                for part, share, scale, shift in zip(parts, shares, scales, shifts, strict=True):
                    own = part.slope(reward * scale + shift)
                    first, second = first + share * scale * own[0], second + share * scale.square() * own[1]
                return first, second

            own = list(zip(parts, scales, shifts, strict=True))
            low = torch.stack([(part.low - shift) / scale for part, scale, shift in own]).amin(0)
            high = torch.stack([(part.high - shift) / scale for part, scale, shift in own]).amax(0)
            return mode(Concave(slope, low, high, (low + high) / 2)) * self.reward_scale + self.reward_loc

    def shares(self, embedding: Tensor) -> Tensor:
        """The weights of the machines, of shape (machines, batch)."""
        if self.weights is not None:
            return self.reward_loc.new_tensor(self.weights)[:, None].expand(-1, len(embedding))
        gates = [(machine, machine.gate) for machine in self.each() if machine.gate is not None]
        known = [
            gate.log_density(machine.standard(embedding)) - machine.embedding_scale.log().sum()
            for machine, gate in gates
        ]
        return torch.softmax(torch.stack(known) / torch.stack([gate.width for _, gate in gates]).mean(), 0)

    def each(self) -> list[Energy]:
        """The machines."""
        return [machine for machine in self.machines if isinstance(machine, Energy)]


def energy_of(config: QBRMConfig) -> Energy | Product:
    """What a configuration describes."""
    if config.machines:
        return Product(config.dim, config.machines, config.weights)
    return Energy(config.dim, **{name: getattr(config, name) for name in MACHINE})


class Gate(nn.Module):
    """How familiar an embedding is, from 0 to 1: a sigmoid of its log-density under a Gaussian of low rank.

    A gate with two sides weighs that against the log-density of embeddings at which rewards are kept.
    """

    def __init__(self, dim: int, rank: int, kept_rank: int | None = None) -> None:
        super().__init__()
        self.mean, self.directions, self.variances = _parameter(dim), _parameter(rank, dim), _parameter(rank)
        self.rest, self.threshold, self.width = _parameter(), _parameter(), _parameter()
        self.kept = None if kept_rank is None else Gate(dim, kept_rank)

    @classmethod
    def of_rank(cls, dim: int, rank: int | Sequence[int]) -> Gate:
        """A gate with one side or two."""
        return cls(dim, rank) if isinstance(rank, int) else cls(dim, *rank)

    def forward(self, standard: Tensor) -> Tensor:
        """g(e) of standardised embeddings."""
        evidence = self.log_density(standard)
        evidence = evidence if self.kept is None else evidence - self.kept.log_density(standard)
        return torch.sigmoid((evidence - self.threshold) / self.width)

    def log_density(self, standard: Tensor) -> Tensor:
        """Log of the Gaussian's density."""
        centred = standard - self.mean
        along = centred @ self.directions.T
        outside = (centred.square().sum(1) - along.square().sum(1)).clamp_min(0)
        rank, dim = self.directions.shape
        volume = self.variances.log().sum() + (dim - rank) * self.rest.log() + dim * math.log(2 * math.pi)
        return -(along.square() @ self.variances.reciprocal() + outside / self.rest + volume) / 2


def concave(field: Tensor, mean: Tensor, coupling: Tensor, tau: Tensor, weight: Tensor) -> Concave:
    """F of one machine.

    With x = |b_j|, s = b_j . u_j and k = tanh(x) / x, hidden unit j adds k s to f' and k |u_j|^2 + (sech^2 x - k)
    s^2 / x^2 to f''.

    Args:
        field: W e + c, of shape (batch, axes, hidden).
        mean: mu, of shape (batch,).
        coupling: u, of shape (axes, hidden).
        tau: standard deviation of the reward without hidden units.
        weight: g(e) / K, of shape (batch,).
    """
    precision, lengths_2 = tau.pow(-2), coupling.square().sum(0)
    confinement = lengths_2.sum()
    square_0, along_0 = field.square().sum(1), (field * coupling).sum(1)

    def slope(reward: Tensor) -> tuple[Tensor, Tensor]:
        along = along_0 + reward[:, None] * lengths_2
        square = (square_0 + reward[:, None] * (along_0 + along)).clamp_min(1e-8)
        ratio = square.sqrt().tanh() / square.sqrt()
        bend = ratio * lengths_2 + (1 - square * ratio.square() - ratio) * along.square() / square
        first = weight * ((ratio * along).sum(1) - confinement * reward) - precision * (reward - mean)
        return first, weight * (bend.sum(1) - confinement) - precision

    # Hidden units pull with at most sum_j |u_j| times their weight.
    stiffness = precision + weight * confinement
    centre, reach = mean * precision / stiffness, weight * lengths_2.sqrt().sum() / stiffness
    return Concave(slope, centre - reach, centre + reach, mean)


def mode(f: Concave) -> Tensor:
    """The reward of greatest f: the root of f', which falls everywhere, by Newton's method between two bounds."""
    low, high = f.low, f.high
    reward = f.start.clamp(low, high)
    for _ in range(MAX_STEPS):
        first, second = f.slope(reward)
        low, high = torch.where(first > 0, reward, low), torch.where(first > 0, high, reward)
        proposal, slack = reward - first / second, SMALL_STEP * (1 + reward.abs())
        outside = (proposal < low - slack) | (proposal > high + slack)
        proposal = torch.where(outside, (low + high) / 2, proposal)
        settled, reward = (proposal - reward).abs() <= slack, proposal
        if settled.all():
            break
    return reward


def _parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape))


QBRMConfig.register_for_auto_class()
QBRMForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")
