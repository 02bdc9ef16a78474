"""From features on disk to a score with a verdict: choose, train, see how far to go, measure."""

from __future__ import annotations

import itertools
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int, Int64
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import Tensor, nn

import qbrm
from qbrm.data.device import default_device
from qbrm.data.pairs import PairData, Pairs
from qbrm.durable import make_folder, read_checked, write_atomically
from qbrm.energies import EnergyScore
from qbrm.errors import DamagedFileError
from qbrm.evaluation.robustness import Robustness
from qbrm.evaluation.verdict import Predictions, Verdict, compare_with_base
from qbrm.features.stream import Share, Source
from qbrm.fitting import Fold
from qbrm.fitting.fit import train_members
from qbrm.fitting.hardening import Harden
from qbrm.fitting.keeping import Keep
from qbrm.fitting.members import Members
from qbrm.model.division import Division
from qbrm.model.hardened import HardeningHacks
from qbrm.model.kept import KeptResponses
from qbrm.model.predictions import of_base, of_rewards_alone, of_score
from qbrm.model.probed import EmbeddedHacks, robustness
from qbrm.model.score_choice import Progress, ScoreChoice
from qbrm.selection import BASE, Candidate, Choice, Choosing, Guarantee, cross_validate, greatest_safe_strength
from qbrm.selection.candidates import Family, epochs_for
from qbrm.selection.cross_validation import TrainedFamily, tempered_base
from qbrm.selection.strength import accuracy_by_prompt

# Enough to tell candidates apart; more would only take longer.
MOST_CHOOSING_PAIRS = 10_000
COMPETITOR = ScoreChoice("residual")
CHOICE_FILE = "choice.safetensors"

logger = logging.getLogger(__name__)


class JudgedScore(NamedTuple):
    """A fitted score, what it was chosen from, how far it goes and how good it is.

    Attributes:
        score: what refines.
        refinement: how.
        choice: of the candidate; None if it was named.
        guarantee: of the strength; None for a score that can only be applied whole.
        verdict: on the test prompts.
        fitted: the score that was trained, with its number of passes; None if the choice fell on the base.
    """

    score: EnergyScore
    refinement: str
    choice: Choice | None
    guarantee: Guarantee | None
    verdict: Verdict
    fitted: ScoreChoice | None


@dataclass(frozen=True)
class JudgedFit:
    """Everything that fitting with a verdict needs.

    Attributes:
        sources: features and pairs.
        named: the score to fit; None to choose one.
        head_dim: how many coordinates of the embedding the reward model's head reads; None for all.
        folder: keeps what was judged and trained, to resume from; None keeps nothing.
        length: characters of the response in each row; None if texts are not known.
        seed: seeds every random number generator.
        device: where scores are trained.
        progress: called with (step, done, total); the steps are ``choosing`` and ``training``.
        on_choice: called as soon as a score is chosen.
        kept: responses whose order is to stay; None for none.
        hardening: hacks that are to lose; None for none.
        hacks: of test prompts, that tell how often they win; None if texts are not known.
    """

    sources: Sequence[Source]
    named: ScoreChoice | None = None
    head_dim: int | None = None
    folder: Path | None = None
    length: Int64[np.ndarray, " rows"] | None = None
    seed: int = 0
    device: torch.device | None = None
    progress: Progress | None = None
    on_choice: Callable[[Choice], None] | None = None
    kept: KeptResponses | None = None
    hardening: HardeningHacks | None = None
    hacks: EmbeddedHacks | None = None

    def run(self) -> JudgedScore:
        """Choose, train, see how far to go, and measure.

        Raises:
            InputError: if there are too few prompts, or the score cannot be fitted to them.
            TrainingError: if training cannot go on.
        """
        if self.named is not None:
            return self._fitted(self.named, None, {})
        choice, trained = self._chosen()
        if choice.candidate.family is None:
            verdict = replace(self._verdict_on_base(), candidates=_measured(choice))
            return JudgedScore(self._tempered, "mode", choice, None, verdict, None)
        family, gate, members = choice.candidate.family, choice.candidate.gate, choice.candidate.members
        named = ScoreChoice(family.score, gate, members, deep=family.deep, device=self._device)
        return self._fitted(named, choice, trained)

    @cached_property
    def division(self) -> Division:
        """Which prompts do what."""
        return Division.of(self.sources, self.seed)

    @property
    def _device(self) -> torch.device:
        return self.device or default_device()

    @cached_property
    def _choosing(self) -> Choosing:
        """The pairs that choose: all training pairs if there are not too many."""
        most = min(MOST_CHOOSING_PAIRS, self.division.most_in_memory)
        share = self.division.sample(self.division.training, most)
        loaded = self._loaded if share == self._loaded_share else self.division.pairs(share).load_with_prompts()
        return Choosing(*loaded, self.seed, self._device, self._keep, self._harden)

    @cached_property
    def _loaded_share(self) -> Share:
        """The training prompts, or as many of them as fit into memory."""
        return self.division.sample(self.division.training, self.division.most_in_memory)

    @cached_property
    def _loaded(self) -> tuple[PairData, Int[Tensor, " responses"]]:
        """Their pairs, read once, and the number of the prompt that each response answers."""
        return self.division.pairs(self._loaded_share).load_with_prompts()

    @cached_property
    def _tempered(self) -> EnergyScore:
        """The base rewards with one temperature."""
        return tempered_base(self._loaded[0], self._device)

    @cached_property
    def _keep(self) -> Keep | None:
        return None if self.kept is None else self.kept.keep()

    @cached_property
    def _harden(self) -> Harden | None:
        division = self.division
        return None if self.hardening is None else self.hardening.harden(division.training, division.validation)

    def _chosen(self) -> tuple[Choice, Mapping[Family, TrainedFamily]]:
        losses = self._known_losses()
        trained: dict[Family, TrainedFamily] = {}
        choice = cross_validate(
            self._choosing,
            known=losses,
            keep=self._keep_losses,
            progress=self._follow("choosing"),
            on_trained=trained.__setitem__,
        )
        if self.on_choice is not None:
            self.on_choice(choice)
        return choice, trained

    def _fitted(
        self, named: ScoreChoice, choice: Choice | None, trained: Mapping[Family, TrainedFamily]
    ) -> JudgedScore:
        fold, family = self._fold(named.members), named.family
        named = replace(named, epochs=named.epochs or epochs_for(named.settings, fold.pairs.n_pairs))
        committee = train_members(
            lambda: named.build(fold.pairs.dim, self.head_dim), fold, named.settings, progress=self._follow("training")
        )
        gate = committee.members.gate() if named.gate else None
        guarantee = self._guarantee(named, committee.members, gate, family, trained)
        strength = 1.0 if guarantee is None else guarantee.strength
        unproven = strength == 0
        if self.hardening is not None:
            # What it is for does not show in accuracy: it is applied, and the verdict says what it costs.
            strength = strength or 1.0
        score, kept_base = committee.members.combined(gate, strength or 1.0, rival=self.hardening is None)
        if kept_base or strength == 0:
            verdict = replace(
                self._verdict_on_base(), candidates=_measured(choice), tried=named.label, unproven=not kept_base
            )
            return JudgedScore(self._tempered, "mode", choice, None if kept_base else guarantee, verdict, named)
        score.prepare_evaluation(self.seed)
        verdict = self._verdict(named.label, strength, score, named.refinement, fold.validation)
        verdict = replace(verdict, candidates=_measured(choice), unproven=unproven)
        return JudgedScore(score.eval(), named.refinement, choice, guarantee, verdict, named)

    def _follow(self, step: str) -> Callable[[int, int], None] | None:
        return None if self.progress is None else partial(self.progress, step)

    def _fold(self, members: int) -> Fold:
        division, checkpoint = self.division, self.folder and self.folder / "checkpoint.safetensors"
        rest = division.training._replace(low=division.validation.high)
        if not division.fits_in_memory(division.training):
            validation = division.pairs(division.sample(division.validation, division.most_in_memory)).load()
            return Fold(division.pairs(rest), validation, self.seed, checkpoint, keep=self._keep, harden=self._harden)
        data, prompt = self._loaded
        held = torch.from_numpy(division.validation.holds(division.pairs(division.training).prompts()))
        shared = prompt if members > 1 else None
        return Fold(data.only(~held), data.only(held), self.seed, checkpoint, shared, self._keep, self._harden)

    def _guarantee(
        self,
        named: ScoreChoice,
        members: Members[EnergyScore],
        gate: nn.Module | None,
        family: Family,
        trained: Mapping[Family, TrainedFamily],
    ) -> Guarantee | None:
        if not named.scalable or named.sampler is not None:
            return None
        if self.division.vouching is not None:
            pairs = self.division.pairs(self.division.vouching)
            prompt = pairs.prompts()
            base = of_base(pairs).right

            def difference(strength: float) -> Float64[np.ndarray, " prompts"]:
                score = members.combined(gate, strength, rival=False).score
                return accuracy_by_prompt(of_score(score, named.refinement, pairs).right - base, prompt)

            prompts = len(np.unique(prompt))
            return Guarantee(greatest_safe_strength(difference), prompts)
        judges = trained.get(family) or self._judges(family)
        right = judges.refined_right(Candidate(family, named.gate, named.members))
        prompt, base = self._choosing.prompt[self._choosing.data.chosen].numpy(), of_base(self._choosing.data).right

        def cross_fitted(strength: float) -> Float64[np.ndarray, " prompts"]:
            return accuracy_by_prompt(right(strength) - base, prompt)

        return Guarantee(greatest_safe_strength(cross_fitted), len(np.unique(prompt)), cross_fitted=True)

    def _judges(self, family: Family) -> TrainedFamily:
        """Members of one family by the groups that they have not seen; a kill loses them."""
        follow, done = self._follow("judging"), itertools.count(1)
        total = math.comb(len(self._choosing.groups), 2)
        return self._choosing.trained(family, lambda: None if follow is None else follow(next(done), total))

    def _verdict_on_base(self) -> Verdict:
        return self._verdict(BASE.name, 0.0, self._tempered, "mode")

    def _verdict(
        self, name: str, strength: float, score: EnergyScore, refinement: str, validation: Pairs | None = None
    ) -> Verdict:
        test = self.division.pairs(self.division.test)
        tempered = of_score(self._tempered, "mode", test)
        refined = (
            of_score(score, refinement, test)
            if score.anchored or validation is None
            else of_rewards_alone(score, refinement, test, validation)
        )
        competitors = {} if name == COMPETITOR.label else {COMPETITOR.label: self._competitor(test)}
        verdict = compare_with_base(
            name,
            strength,
            test.prompts(),
            of_base(test),
            tempered,
            refined,
            competitors,
            length=self._length_difference(),
            keep=None if self.kept is None else self.kept.count(score, refinement),
            seed=self.seed,
        )
        return replace(verdict, probes=self._robustness(score, refinement))

    def _robustness(self, score: EnergyScore, refinement: str) -> Robustness | None:
        if self.hacks is None:
            return None
        kinds = () if self.hardening is None else self.hardening.kinds
        return robustness(self.hacks.wins(score, refinement), kinds, self.seed)

    def _competitor(self, test: Pairs) -> Predictions:
        """What a user would try first, on the same pairs."""
        fold = replace(self._fold(1), checkpoint=None, keep=None, harden=None)
        named = replace(COMPETITOR, device=self._device, epochs=epochs_for(COMPETITOR.settings, fold.pairs.n_pairs))
        committee = train_members(lambda: named.build(fold.pairs.dim, None), fold, named.settings)
        return of_score(committee.members.combined(rival=False).score, "mode", test)

    def _length_difference(self) -> Int64[np.ndarray, " pairs"] | None:
        if self.length is None:
            return None
        chosen, rejected = self.division.rows(self.division.test)
        difference: Int64[np.ndarray, " pairs"] = self.length[chosen] - self.length[rejected]
        return difference

    def _question(self) -> str:
        """What the losses on disk answer: another question is asked anew."""
        asked = {
            "qbrm": qbrm.__version__,
            "seed": self.seed,
            "data": self._choosing.data.digest(),
            "keep": repr(self.kept),
            "harden": repr(self.hardening),
        }
        return json.dumps(asked, sort_keys=True)

    def _known_losses(self) -> dict[str, Float64[np.ndarray, " pairs"]]:
        path = None if self.folder is None else self.folder / CHOICE_FILE
        if path is None or not path.is_file():
            return {}
        try:
            stored = load(read_checked(path))
            question = stored.pop("question", np.zeros(0, np.uint8)).tobytes().decode()
        except (DamagedFileError, SafetensorError, ValueError) as error:
            logger.warning("%s The candidates are judged again.", error)
            return {}
        return stored if question == self._question() else {}

    def _keep_losses(self, losses: Mapping[str, Float64[np.ndarray, " pairs"]]) -> None:
        if self.folder is not None:
            make_folder(self.folder)
            question = np.frombuffer(self._question().encode(), np.uint8)
            write_atomically(self.folder / CHOICE_FILE, save({**losses, "question": question}))


def _measured(choice: Choice | None) -> dict[str, dict[str, float]]:
    """What was measured of each candidate, by its name."""
    if choice is None:
        return {}
    best = float(choice.loss.min())
    return {
        judged.candidate.name: {"nll": loss, "behind": loss - best, "error": error}
        for judged, loss, error in zip(choice.judged, choice.loss.tolist(), choice.error.tolist(), strict=True)
    }
