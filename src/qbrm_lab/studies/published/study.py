"""Both parts of the study, seed by seed, and the files that it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qbrm.cli.console import Reporter
from qbrm.durable import write_atomically
from qbrm.preferences import PreferenceSet, split_by_prompt
from qbrm_lab.comparison import ComparisonSettings
from qbrm_lab.comparison.compare import Prepared, prepare
from qbrm_lab.comparison.side_by_side import each_seed
from qbrm_lab.comparison.sources import Sources, check_domains, read_sources
from qbrm_lab.scenarios import VARIANTS, by_domain
from qbrm_lab.studies.cache import cached, of_seed, settings_of
from qbrm_lab.studies.json_files import write_json
from qbrm_lab.studies.published.agreement import Agreement, agreement_of, agreement_rows
from qbrm_lab.studies.published.code import PublishedCode, code_digest
from qbrm_lab.studies.published.features import Extent, bootstrap_of, rewarded, share
from qbrm_lab.studies.published.page import published_markdown
from qbrm_lab.studies.published.rows import PublishedResults
from qbrm_lab.studies.published.scaled import EBRMInUnits
from qbrm_lab.studies.published.situation import Tried, methods, situation_of, situation_rows

RESULTS_FILE, PAGE_FILE = "published.json", "published.md"
FULL = Extent(train_prompts=560, test_prompts=240, noise_samples=64, deviations=(0.5, 1.0, 2.0, 4.0))
QUICK = Extent(train_prompts=200, test_prompts=100, noise_samples=8, deviations=(1.0, 4.0))


class Study(NamedTuple):
    """What all seeds share."""

    prepared: Prepared
    extent: Extent
    published: Path | None

    @property
    def test(self) -> PreferenceSet:
        """All test preferences."""
        return next(iter(self.prepared.sources.tests.values()))

    @property
    def domains(self) -> list[str]:
        """Of the training preferences, the one that a reward model learns first."""
        return list(by_domain(self.prepared.sources.train))

    @property
    def target(self) -> PreferenceSet:
        """The test preferences of the other domains."""
        known = by_domain(self.test)[self.domains[0]]
        return self.test.of_prompts(set(self.test.prompt_ids) - set(known.prompt_ids))


class SeedOutcome(NamedTuple):
    """What one seed found in both parts."""

    agreement: Agreement
    situation: list[Tried]


def study_published(settings: ComparisonSettings, published: Path | None, quick: bool, reporter: Reporter) -> Path:
    """Hold our EBRM against the published code, and EBRM against other methods where the base is near chance.

    Writes published.json and published.md to `settings.out`, where features and finished seeds are kept.

    Args:
        settings: source, folder, reward model and seeds; scenarios and methods are the study's own.
        published: folder of a checkout of the published code, whose functions are run; None to leave it out.
        quick: fewer prompts, deviations and noise samples.
        reporter: shows progress.

    Returns:
        The path of published.md.

    Raises:
        InputError: if something given is not usable.
        TrainingError: if a training cannot go on.
        WorkerError: if a process that runs a seed is killed.
    """
    if published is not None:
        PublishedCode(published)
    extent = QUICK if quick else FULL
    sources = _some(read_sources(settings), extent, settings.seed)
    check_domains(sources)
    study = Study(prepare(settings, reporter, sources), extent, published)
    seeds = range(settings.seed, settings.seed + settings.seeds)
    outcomes = list(each_seed(partial(_of_seed, study), seeds, settings.workers, reporter, "published"))
    results = _results(study, outcomes)
    write_json(settings.out / RESULTS_FILE, results)
    path = settings.out / PAGE_FILE
    write_atomically(path, published_markdown(results).encode())
    return path


def _some(sources: Sources, extent: Extent, seed: int) -> Sources:
    tests = {name: _some_prompts(test, extent.test_prompts, seed) for name, test in sources.tests.items()}
    return sources._replace(train=_some_prompts(sources.train, extent.train_prompts, seed), tests=tests)


def _some_prompts(preferences: PreferenceSet, most: int, seed: int) -> PreferenceSet:
    """So many random prompts, of every category in proportion."""
    total = len(preferences.prompt_ids)
    if total <= most:
        return preferences
    return replace(split_by_prompt(preferences, most / total, seed)[1], left_out=preferences.left_out)


def _of_seed(study: Study, seed: int, reporter: Reporter) -> SeedOutcome:
    prepared, extent = study.prepared, study.extent
    epochs = prepared.settings.epochs
    ebrm = [EBRMInUnits("ebrm", deviation, extent.noise_samples, epochs) for deviation in extent.deviations]
    compared = methods(extent, epochs)
    asked = of_seed(prepared, seed)
    folder = prepared.settings.out / "published"

    def agreement() -> Agreement:
        roles = VARIANTS["same"].share_out(prepared.sources.train, seed)
        known = rewarded(prepared, roles, seed)
        code = PublishedCode(study.published) if study.published else None
        task = known.task(roles.refinement, roles.validation, seed)
        return agreement_of(task, known.pairs(study.test), ebrm, code)

    def situation() -> list[Tried]:
        roles = VARIANTS["shift"].share_out(prepared.sources.train, seed)
        known = rewarded(prepared, roles, seed)
        return list(situation_of(known, roles, study.target, compared, seed))

    reporter.status(f"agreement, seed {seed}")
    codes = {"ours": [settings_of(method) for method in ebrm], "published": _digest(study.published)}
    agreed = cached(folder / f"agreement-seed-{seed}.json", {**asked, **codes}, Agreement, agreement)
    reporter.status(f"situation, seed {seed}")
    tried = {"methods": [settings_of(method) for method in compared]}
    situated = cached(folder / f"situation-seed-{seed}.json", {**asked, **tried}, list[Tried], situation)
    reporter.status(None)
    return SeedOutcome(agreed, situated)


def _digest(published: Path | None) -> str | None:
    return None if published is None else code_digest(published)


def _results(study: Study, outcomes: Sequence[SeedOutcome]) -> PublishedResults:
    prepared, train = study.prepared, study.prepared.sources.train
    agreements = [outcome.agreement for outcome in outcomes]
    bootstrap = bootstrap_of(prepared, study.test)
    rows, differences = agreement_rows(agreements, bootstrap)
    return PublishedResults(
        command=prepared.settings.command,
        reward_model=prepared.model.identity.title,
        trained=prepared.embedded.reward is not None,
        seeds=len(outcomes),
        epochs=prepared.settings.epochs,
        noise_samples=study.extent.noise_samples,
        train_prompts=len(train.prompt_ids),
        train_pairs=train.pair_count.distinct,
        agreed_pairs=round(sum(one.agreed_pairs for one in agreements) / len(agreements)),
        test_prompts=len(study.test.prompt_ids),
        test_pairs=len(agreements[0].base),
        base=share(bootstrap, np.array([one.base for one in agreements])),
        agreement=rows,
        differences=differences,
        same_weights=agreements[0].same_weights,
        domains=study.domains,
        target_prompts=len(study.target.prompt_ids),
        target_pairs=len(outcomes[0].situation[0].right),
        situation=situation_rows([outcome.situation for outcome in outcomes], bootstrap_of(prepared, study.target)),
    )
