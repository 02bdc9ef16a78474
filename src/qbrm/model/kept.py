"""Responses whose order is to stay: embedded once, divided by prompt, held while training, counted after it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qbrm.energies import EnergyScore
from qbrm.errors import InputError
from qbrm.evaluation.verdict import Kept, count_kept
from qbrm.features.build import Progress
from qbrm.features.embed import embed
from qbrm.features.pair_list import KeyPair, write_pairs
from qbrm.features.stream import Share, Source, StreamedPairs, cut_off, open_sources
from qbrm.fitting.arrays import VALIDATION_SHARE
from qbrm.fitting.keeping import DEFAULT_WEIGHT, Keep
from qbrm.model.division import FEWEST_PROMPTS, MEMORY_BYTES, TEST_SHARE
from qbrm.model.predictions import of_base, of_score
from qbrm.model.trained_head import with_rewards
from qbrm.preferences import PreferenceSet
from qbrm.preferences.quoting import one_line
from qbrm.reward_models import RewardModel

FOLDER, WITH_HEAD = "keep", "keep-with-head"
# Each response is paired with so many that follow it: all of a prompt's pairs, unless it has very many.
MOST_PARTNERS = 32


@dataclass(frozen=True)
class KeptResponses:
    """Features of responses to keep the order of, and the pairs of those that answer one prompt.

    A fifth of the prompts counts how much of the order stayed and trains nothing; an eighth of the others sets a gate's
    threshold; the rest trains.

    Attributes:
        name: of their source.
        source: features and pairs on disk.
        seed: divides the prompts, and resamples them for the interval.
        weight: of the penalty on corrections.
    """

    name: str
    source: Source
    seed: int
    weight: float = DEFAULT_WEIGHT

    def __repr__(self) -> str:
        return f"KeptResponses({self.source.table.digest!r}, {self.pairs}, {self.weight!r})"

    @property
    def prompts(self) -> int:
        """How many prompts there are."""
        return self.source.pairs.prompts

    @property
    def pairs(self) -> int:
        """How many pairs there are."""
        return len(self.source.pairs.chosen)

    def keep(self) -> Keep:
        """What training and gate need, in memory; a part of it where that would be too much."""
        test, held_out = self._cuts
        table = self.source.table
        share = min(1.0, MEMORY_BYTES / (len(table) * table.dim * 4))
        ends = (held_out, held_out + share * (1 - held_out)), (test, test + share * (held_out - test))
        pairs, held = (self._pairs(*end).load() for end in ends)
        return Keep(pairs, held, self.weight)

    def count(self, score: EnergyScore, refinement: str) -> Kept:
        """Count the pairs whose order a score leaves as it was, on prompts that trained nothing."""
        pairs = self._pairs(0.0, self._cuts[0])
        base, refined = of_base(pairs).margin, of_score(score, refinement, pairs).margin
        return count_kept(self.name, pairs.prompts(), base, refined, seed=self.seed)

    @property
    def _cuts(self) -> tuple[float, float]:
        shares = TEST_SHARE, TEST_SHARE + VALIDATION_SHARE * (1 - TEST_SHARE)
        test, held_out = (cut_off([self.source], share, self.seed) for share in shares)
        return test, held_out

    def _pairs(self, low: float, high: float) -> StreamedPairs:
        return StreamedPairs((self.source,), Share(low, high, self.seed))


def embed_kept(
    encoder: RewardModel,
    model: RewardModel,
    responses: PreferenceSet,
    folder: Path,
    seed: int,
    progress: Progress | None = None,
    *,
    skip_bad: bool = False,
) -> KeptResponses:
    """Embed responses to keep the order of into `folder`/keep; what is there already is read.

    Args:
        encoder: embeds.
        model: the same, or the encoder with a trained score layer, which gives the rewards then.
        responses: as :func:`without_prompts` gives them.
        folder: of the fit.
        seed: divides the prompts.
        progress: called with (rows there, rows wanted).
        skip_bad: whether rows whose texts the model cannot take are left out.

    Raises:
        RefusedTextsError: if the model cannot take some of the texts.
    """
    table, taken = embed(responses, folder / FOLDER, lambda: encoder, progress=progress, skip_bad=skip_bad)
    table = with_rewards(model, table, list(taken.responses()), folder / WITH_HEAD)
    write_pairs(table.folder, pairs_to_keep(taken), taken.name)
    (source,) = open_sources([table.folder])
    return KeptResponses(taken.name, source, seed)


def without_prompts(responses: PreferenceSet, preferences: PreferenceSet) -> PreferenceSet:
    """The responses to prompts that preferences are not about: what a label says comes first.

    Raises:
        InputError: if too few prompts with two different responses are left.
    """
    left = responses.of_prompts(set(responses.prompt_ids) - set(preferences.prompt_ids))
    several = len({first[0] for first, _ in pairs_to_keep(left)})
    if several < FEWEST_PROMPTS:
        raise InputError(
            f"{one_line(responses.name)} has {several} prompts with two or more different responses and without a "
            f"preference; expected at least {FEWEST_PROMPTS} to keep the order on."
        )
    return left


def pairs_to_keep(responses: PreferenceSet) -> list[KeyPair]:
    """Pairs of different responses to one prompt, by the ids that feature tables know them by."""
    by_prompt: dict[str, list[str]] = {}
    for prompt, response in responses.responses():
        by_prompt.setdefault(prompt, []).append(response)
    return [
        ((prompt, first), (prompt, second))
        for prompt, of_prompt in by_prompt.items()
        for number, first in enumerate(of_prompt)
        for second in of_prompt[number + 1 : number + 1 + MOST_PARTNERS]
    ]
