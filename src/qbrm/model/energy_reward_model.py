"""The class that users hold: a reward model and the energy score that refines its rewards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float64, UInt64
from torch import Tensor

from qbrm.durable import one_writer
from qbrm.energies import EnergyScore
from qbrm.energies.base import Clamped
from qbrm.energies.candidates import DEFAULT_SAMPLER, CandidateMachine, Candidates
from qbrm.energies.density import density, probability_greater
from qbrm.errors import InputError
from qbrm.model.candidates import CandidateReport, candidates_of, described, fit_machine
from qbrm.model.conversation import PromptLike as PromptLike
from qbrm.model.conversation import as_prompt
from qbrm.model.distribution import CandidateChoice, RewardCurves, RewardDistribution
from qbrm.model.from_preferences import PreferenceFit, Preferences
from qbrm.model.hardened import named_kinds
from qbrm.model.hub import upload
from qbrm.model.model_card import Provenance
from qbrm.model.persistence import Parts, load_model, save_model
from qbrm.model.score_choice import AUTO, Progress, named_score
from qbrm.preferences import Prompt
from qbrm.preferences.candidate_lists import CandidateSource, read_candidates
from qbrm.preferences.unlabelled import Unlabelled
from qbrm.refinement import REFINEMENTS
from qbrm.reward_models import Embedded, RewardModel, RewardModelOptions
from qbrm.samplers import Sampler

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
FINE_SPACING = 0.2


class EnergyRewardModel:
    """A frozen reward model refined by an energy score.

    Args:
        reward_model: text -> embedding and base reward.
        energy_score: f(e, r), trained on this reward model's features.
        refinement: one of `qbrm.refinement.REFINEMENTS`.
        provenance: data, settings and measured results for the model card, if known.
        training_prompts: digests of the prompts that the score was fitted on, if known.
        candidates: a machine across a prompt's candidates; see :meth:`fit_candidates`.

    Raises:
        InputError: if the score or the machine was made for another embedding size, or the refinement is unknown.
    """

    def __init__(
        self,
        reward_model: RewardModel,
        energy_score: EnergyScore,
        refinement: str = "mode",
        provenance: Provenance | None = None,
        training_prompts: UInt64[np.ndarray, " prompts"] | None = None,
        candidates: CandidateMachine | None = None,
    ) -> None:
        if energy_score.dim != reward_model.dim:
            sizes = f"embeddings of size {energy_score.dim}, {reward_model.identity} gives {reward_model.dim}"
            raise InputError(f"the score takes {sizes}; expected a score trained on this reward model's features.")
        if refinement not in REFINEMENTS:
            raise InputError(f"unknown refinement {refinement!r}; expected one of: {', '.join(REFINEMENTS)}.")
        self.reward_model, self.energy_score, self.refinement = reward_model, energy_score.eval(), refinement
        self.provenance, self.training_prompts = provenance, training_prompts
        if candidates is not None and candidates.dim != reward_model.dim:
            sizes = f"embeddings of size {candidates.dim}, {reward_model.identity} gives {reward_model.dim}"
            raise InputError(f"the machine across candidates takes {sizes}; expected one fitted to this reward model.")
        self.candidates = candidates

    @torch.no_grad()
    def score(self, prompts: Sequence[PromptLike], responses: Sequence[str]) -> RewardDistribution:
        """Refined rewards, and the whole distribution, of response i as an answer to prompt i.

        Args:
            prompts: strings, or lists of chat messages: ``role``, ``content``, and what else a chat template reads.
            responses: as many.

        Raises:
            InputError: if there are not as many prompts as responses.
        """
        energy_score, (embedding, base_reward) = self.energy_score, self._embedded(prompts, responses)
        clamped = energy_score.clamp(embedding, base_reward)
        fine = density(energy_score, clamped, FINE_SPACING)
        standard = REFINEMENTS[self.refinement](energy_score, clamped, torch.Generator().manual_seed(0))
        refined, deviation = energy_score.from_standard(standard), fine.std * energy_score.reward_scale
        candidates = None if self.candidates is None else candidates_of(refined, deviation, responses, embedding)
        return RewardDistribution(
            base=energy_score.from_standard(clamped.base_reward),
            refined=refined,
            mean=energy_score.from_standard(fine.mean),
            mode=energy_score.from_standard(energy_score.mode(clamped)),
            std=deviation,
            quantiles={level: energy_score.from_standard(fine.quantile(level)) for level in QUANTILES},
            standard=fine,
            curves=RewardCurves(
                reward=energy_score.from_standard(fine.lattice.rewards).expand_as(fine.mass),
                density=fine.mass / (fine.lattice.step * energy_score.reward_scale),
            ),
            candidates=candidates,
            machine=self.candidates,
        )

    def choose(self, prompt: PromptLike, responses: Sequence[str]) -> CandidateChoice:
        """The best of several candidates for one prompt, with their rewards and the probabilities that they are good.

        With a machine across candidates (:meth:`fit_candidates`), rewards depend on the other candidates; without one,
        they are the refined rewards of :meth:`score`.

        Raises:
            InputError: if there is no response.
        """
        return self.score([prompt] * len(responses), responses).choose()

    def score_set(self, prompt: PromptLike, responses: Sequence[str]) -> Float64[np.ndarray, " n"]:
        """Refined reward of each of several candidates for one prompt; see :meth:`choose`."""
        return self.choose(prompt, responses).rewards

    def fit_candidates(
        self, source: CandidateSource, *, sampler: str | Sampler = DEFAULT_SAMPLER, seed: int = 0
    ) -> CandidateReport:
        """Fit a machine across the candidates of a prompt to which of them are best; :meth:`choose` then uses it.

        A fifth of the prompts measures and trains nothing. Prompts that the score was fitted on are left out if they
        are known, because its rewards look better there than they are elsewhere.

        Args:
            source: a file or a list of {"prompt", "candidates": [{"response", "gold"}]}, or preferences of which those
                with several rejected responses are taken.
            sampler: draws the spins of sets of more than 20 candidates.
            seed: seeds the split and the draws.

        Returns:
            What choosing is worth on the held-out prompts, with the machine and without.

        Raises:
            InputError: if the source is not usable, or fewer than ten of its prompts are left.
        """
        fitted = fit_machine(self._described, read_candidates(source), self.training_prompts, sampler, seed)
        self.candidates = fitted.machine
        return fitted.report

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
        save_model(Path(folder), self.parts())

    def push_to_hub(self, name: str, *, private: bool | None = None, token: str | None = None) -> str:
        """Save to a model on the Hugging Face Hub, which is made if there is none; return the commit's address.

        The card states the data, settings and results of the comparison that trained the model. A reward model from a
        folder stays where it is: who loads the refined one says where theirs is.

        Args:
            name: id on the Hub, such as ``name/model``.
            private: whether a new model is; None for the account's default.
            token: of the account; None for the one that `hf auth login` stored.

        Raises:
            InputError: if the Hub refuses or cannot be reached.
        """
        with TemporaryDirectory() as folder:
            save_model(Path(folder), self.parts(), name)
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
        given = {"dtype": dtype, "device_map": device_map, "trust_remote_code": trust_remote_code or None}
        options = cast("RewardModelOptions", {key: value for key, value in given.items() if value is not None})
        return cls(*load_model(name, revision=revision, reward_model=reward_model, options=options))

    @classmethod
    def fit(
        cls,
        reward_model: str | Path | RewardModel,
        preferences: Preferences,
        *,
        score: str = AUTO,
        gate: bool = False,
        members: int = 1,
        hidden: int | None = None,
        deep: bool = False,
        sampler: str | Sampler | None = None,
        epochs: int | None = None,
        device: torch.device | str | None = None,
        seed: int = 0,
        out: str | Path | None = None,
        keep: Unlabelled | None = None,
        harden: bool | Sequence[str] = False,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> EnergyRewardModel:
        """Refine a reward model with preferences, and judge whether that helps: see `verdict`.

        A fifth of the prompts measures the verdict and chooses nothing. On the others, cross-validation by prompt
        chooses a score, and the greatest strength of its correction is taken that is shown not to lose a point of
        accuracy. If nothing beats the base rewards with one temperature, the model is those. A reward model without a
        score layer, such as the embedded default, gets one trained on half of the prompts first.

        Args:
            reward_model: a folder or an id on the Hugging Face Hub of a sequence classifier, the name of the embedded
                default, or a reward model.
            preferences: a path, a `datasets.Dataset`, or a list of {"prompt", "chosen", "rejected"} records.
            score: ``auto`` to choose one, or the energy score: one of `qbrm.energies.ENERGY_SCORES`.
            gate: whether the correction of a named score fades where embeddings are unfamiliar.
            members: scores, trained and validated on different prompts, whose mean is the result.
            hidden: hidden units of a Boltzmann machine; None for the score's default.
            deep: whether its fields read a small trunk of the embedding.
            sampler: draws the hidden spins of ``qbm`` or ``tqbm``: a sampler or its name; None sums over them.
            epochs: passes over the pairs; None for the score's default, or more if there are few pairs.
            device: where scores are trained; None for the first accelerator, or the CPU if there is none.
            seed: seeds split, initial weights, shuffling and noise.
            out: folder that keeps features and training states, for a later call to go on from; None keeps nothing.
            keep: prompts and responses on which the rewards' order is to stay, such as those that the reward model
                serves well: preferences, whose labels are ignored, or a path or a list of {"prompt", "responses"} or
                {"prompt", "response"} records. Corrections are held near zero there, and a gate closes there, whatever
                `gate` is. The verdict says how much of the order stayed, on a fifth of the prompts, which trains
                nothing.
            harden: whether to learn that known ways to game a reward model do not pay, from hacks of the training
                prompts' responses; or the names of the probes that make them. With True, a quarter of the kinds that
                must lose, which the seed draws, trains nothing: the verdict tells how hacks of both sorts do. The
                correction is applied even if it is not shown not to lose a point of accuracy.
            skip_bad: whether rows that are no preferences, or that the reward model cannot take, are left out.
            progress: called with (step, done, total), where step is ``features``, ``keep``, ``harden``, ``probes``,
                ``choosing`` or ``training``.

        Raises:
            InputError: if an argument is not usable; the message names it and what was expected.
            TrainingError: if the loss is no longer finite.
        """
        options = {"gate": gate, "members": members, "hidden": hidden, "deep": deep, "sampler": sampler}
        choice = named_score(score, **options, epochs=epochs, device=device)
        folder = None if out is None else Path(out)
        where = None if device is None else torch.device(device)
        kinds = named_kinds(harden, seed)
        fit = PreferenceFit(preferences, choice, folder, seed, where, skip_bad, progress, keep=keep, harden=kinds)
        with nullcontext() if folder is None else one_writer(folder):
            return cls(*fit.run(reward_model).parts)

    @property
    def verdict(self) -> Mapping[str, Any] | None:
        """Whether to use this model, as ``verdict.json`` has it; None if that was not measured."""
        return None if self.provenance is None else self.provenance.verdict

    def to(self, device: torch.device | str) -> EnergyRewardModel:
        """Move the energy score to a device, in place; the reward model is where it was loaded to."""
        self.energy_score.to(device)
        return self

    def parts(self) -> Parts:
        """The arguments of the constructor, as they are saved."""
        known = self.provenance, self.training_prompts, self.candidates
        return Parts(self.reward_model, self.energy_score, self.refinement, *known)

    @torch.no_grad()
    def _described(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Candidates:
        embedded = self.reward_model.embed(prompts, responses)
        return described(self.energy_score, self.refinement, *self._tensors(embedded), responses)

    def _clamp(self, prompts: Sequence[PromptLike], responses: Sequence[str]) -> Clamped:
        return self.energy_score.clamp(*self._embedded(prompts, responses))

    def _embedded(self, prompts: Sequence[PromptLike], responses: Sequence[str]) -> tuple[Tensor, Tensor]:
        if isinstance(prompts, str) or isinstance(responses, str):
            raise InputError("one string where a list was expected; expected a list of prompts and one of responses.")
        if len(prompts) != len(responses):
            raise InputError(f"{len(prompts)} prompts and {len(responses)} responses; expected as many of each.")
        for response in responses:
            if not isinstance(response, str):
                raise InputError(f"response {response!r}; expected a string.")
        return self._tensors(self.reward_model.embed([as_prompt(prompt) for prompt in prompts], responses))

    def _tensors(self, embedded: Embedded) -> tuple[Tensor, Tensor]:
        if embedded.reward is None:
            raise InputError(f"{self.reward_model.identity} gives no rewards; expected a model with a score head.")
        device = self.energy_score.device
        return torch.from_numpy(embedded.embedding).to(device), torch.from_numpy(embedded.reward).to(device)
