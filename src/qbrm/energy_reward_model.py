"""The one class that users hold: a reward model, the energy score that refines it, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from qbrm.energies import EnergyScore
from qbrm.energies.base import Clamped
from qbrm.energies.density import Density, density, probability_greater
from qbrm.errors import InputError
from qbrm.hub import upload
from qbrm.model_card import Provenance
from qbrm.persistence import Parts, load_model, save_model
from qbrm.preferences import Message, Prompt
from qbrm.refinement import REFINEMENTS
from qbrm.reward_models import RewardModel, RewardModelOptions

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
FINE_SPACING = 0.2

PromptLike: TypeAlias = str | Sequence[Mapping[str, str]]


class RewardCurves(NamedTuple):
    """p(r | e) of n responses at equally spaced rewards, in the reward model's units: what a plot shows.

    Attributes:
        reward: where it is known.
        density: p(r | e) there, per unit of reward.
    """

    reward: Float[Tensor, "n nodes"]
    density: Float[Tensor, "n nodes"]


class RewardDistribution(NamedTuple):
    """p(r | e) of n responses, in the reward model's units.

    Attributes:
        base: base rewards r0.
        refined: refined rewards r*, by the model's own refinement.
        mean: E[r | e].
        mode: the reward with the greatest density.
        std: standard deviation.
        quantiles: by probability.
        standard: the whole distribution, in standardised units.
        curves: the whole distribution, for plots.
    """

    base: Float[Tensor, " n"]
    refined: Float[Tensor, " n"]
    mean: Float[Tensor, " n"]
    mode: Float[Tensor, " n"]
    std: Float[Tensor, " n"]
    quantiles: dict[float, Float[Tensor, " n"]]
    standard: Density
    curves: RewardCurves

    def rows(self, rows: slice) -> RewardDistribution:
        """Some of the responses."""
        return RewardDistribution(
            base=self.base[rows],
            refined=self.refined[rows],
            mean=self.mean[rows],
            mode=self.mode[rows],
            std=self.std[rows],
            quantiles={level: quantile[rows] for level, quantile in self.quantiles.items()},
            standard=self.standard.rows(rows),
            curves=RewardCurves(self.curves.reward[rows], self.curves.density[rows]),
        )

    def preferences(self) -> Float[Tensor, "n n"]:
        """P(r_i > r_j) for every two responses i and j; one half on the diagonal."""
        n = len(self.base)
        wins = torch.full((n, n), 0.5)
        for i in range(n - 1):
            one, others = self.standard.rows(slice(i, i + 1)), self.standard.rows(slice(i + 1, n))
            wins[i, i + 1 :] = probability_greater(one, others)
            wins[i + 1 :, i] = 1 - wins[i, i + 1 :]
        return wins


class EnergyRewardModel:
    """A frozen reward model refined by an energy score.

    Args:
        reward_model: text -> embedding and base reward.
        energy_score: f(e, r), trained on this reward model's features.
        refinement: one of `qbrm.refinement.REFINEMENTS`.
        provenance: data, settings and measured results for the model card, if known.

    Raises:
        InputError: if the score was made for another embedding size, or the refinement is unknown.
    """

    def __init__(
        self,
        reward_model: RewardModel,
        energy_score: EnergyScore,
        refinement: str = "mode",
        provenance: Provenance | None = None,
    ) -> None:
        if energy_score.dim != reward_model.dim:
            raise InputError(
                f"the score takes embeddings of size {energy_score.dim}, {reward_model.identity} gives "
                f"{reward_model.dim}; expected a score trained on this reward model's features."
            )
        if refinement not in REFINEMENTS:
            raise InputError(f"unknown refinement {refinement!r}; expected one of: {', '.join(REFINEMENTS)}.")
        self.reward_model, self.energy_score, self.refinement = reward_model, energy_score.eval(), refinement
        self.provenance = provenance

    @torch.no_grad()
    def score(self, prompts: Sequence[PromptLike], responses: Sequence[str]) -> RewardDistribution:
        """Refined rewards, and the whole distribution, of response i as an answer to prompt i.

        Args:
            prompts: strings, or lists of chat messages with ``role`` and ``content``.
            responses: as many.

        Raises:
            InputError: if there are not as many prompts as responses.
        """
        energy_score = self.energy_score
        clamped = self._clamp(prompts, responses)
        fine = density(energy_score, clamped, FINE_SPACING)
        refined = REFINEMENTS[self.refinement](energy_score, clamped, torch.Generator().manual_seed(0))
        return RewardDistribution(
            base=energy_score.from_standard(clamped.base_reward),
            refined=energy_score.from_standard(refined),
            mean=energy_score.from_standard(fine.mean),
            mode=energy_score.from_standard(energy_score.mode(clamped)),
            std=fine.std * energy_score.reward_scale,
            quantiles={level: energy_score.from_standard(fine.quantile(level)) for level in QUANTILES},
            standard=fine,
            curves=RewardCurves(
                reward=energy_score.from_standard(fine.lattice.rewards).expand_as(fine.mass),
                density=fine.mass / (fine.lattice.step * energy_score.reward_scale),
            ),
        )

    @torch.no_grad()
    def prefer(self, prompt: PromptLike, a: str, b: str) -> float:
        """P(r_a > r_b): the probability that response `a` is better than response `b`."""
        clamped = self._clamp([prompt, prompt], [a, b])
        of_a, of_b = (density(self.energy_score, clamped.rows(slice(row, row + 1))) for row in (0, 1))
        return float(probability_greater(of_a, of_b))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json``, ``model.safetensors`` and a model card, without the reward model's own weights.

        Raises:
            InputError: if the folder cannot be written.
        """
        save_model(Path(folder), self._parts())

    def push_to_hub(self, name: str, *, private: bool | None = None, token: str | None = None) -> str:
        """Save to a model on the Hugging Face Hub, which is made if there is none.

        The card states the data, settings and results of the comparison that trained the model. A reward model from a
        folder stays where it is: who loads the refined one says where theirs is.

        Args:
            name: id on the Hub, such as ``name/model``.
            private: whether a new model is; None for the account's default.
            token: of the account; None for the one that `hf auth login` stored.

        Returns:
            The address of the commit.

        Raises:
            InputError: if the Hub refuses or cannot be reached.
        """
        with TemporaryDirectory() as folder:
            save_model(Path(folder), self._parts(), name)
            return upload(Path(folder), name, private=private, token=token)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        reward_model: str | None = None,
        dtype: str | None = None,
        device_map: str | None = None,
        trust_remote_code: bool = False,
    ) -> EnergyRewardModel:
        """Read what :meth:`save_pretrained` or :meth:`push_to_hub` wrote, and load its reward model.

        Args:
            name: a folder, or an id on the Hugging Face Hub.
            revision: of the Hub: commit, tag or branch.
            reward_model: folder or id of the reward model, if it is no longer where it was.
            dtype: number format of the reward model's weights; None for the one that the score was trained with.
            device_map: where the reward model goes, as in transformers.
            trust_remote_code: whether Python code that comes with the reward model may run.

        Raises:
            InputError: if a file is missing or damaged, holds missing, extra or wrongly shaped tensors, or the reward
                model is not the one that the score was trained on.
        """
        options = RewardModelOptions()
        if dtype is not None:
            options["dtype"] = dtype
        if device_map is not None:
            options["device_map"] = device_map
        if trust_remote_code:
            options["trust_remote_code"] = True
        return cls(*load_model(name, revision=revision, reward_model=reward_model, options=options))

    def _parts(self) -> Parts:
        return Parts(self.reward_model, self.energy_score, self.refinement, self.provenance)

    def _clamp(self, prompts: Sequence[PromptLike], responses: Sequence[str]) -> Clamped:
        if isinstance(prompts, str) or isinstance(responses, str):
            raise InputError("one string where a list was expected; expected a list of prompts and one of responses.")
        if len(prompts) != len(responses):
            raise InputError(f"{len(prompts)} prompts and {len(responses)} responses; expected as many of each.")
        for response in responses:
            if not isinstance(response, str):
                raise InputError(f"response {response!r}; expected a string.")
        embedded = self.reward_model.embed([_prompt(prompt) for prompt in prompts], responses)
        if embedded.reward is None:
            raise InputError(f"{self.reward_model.identity} gives no rewards; expected a model with a score head.")
        return self.energy_score.clamp(torch.from_numpy(embedded.embedding), torch.from_numpy(embedded.reward))


def _prompt(prompt: PromptLike) -> Prompt:
    if isinstance(prompt, str):
        return (Message("user", prompt),)
    try:
        messages = tuple(Message(message["role"], message["content"]) for message in prompt)
    except (TypeError, KeyError) as error:
        raise InputError(
            f"prompt {prompt!r}; expected a string or a list of {{'role', 'content'}} messages."
        ) from error
    if not all(isinstance(text, str) for message in messages for text in message):
        raise InputError(f"prompt {prompt!r}; expected strings as role and content.")
    return messages
