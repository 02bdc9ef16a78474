"""What the page says of scenarios, data and origin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from qbrm_lab.report.parts import methods_of
from qbrm_lab.results import Results
from qbrm_lab.results.facts import EncoderFineTuned, FeaturesEmbedded, Remark
from qbrm_lab.results.study_rows import CurveRow
from qbrm_lab.studies.page.files import StudyFiles
from qbrm_lab.studies.page.times import time_taken


def scenarios(results: Results) -> list[str]:
    """The scenarios that were run, in order."""
    return list(dict.fromkeys(row.scenario for row in results.summary))


def remarks(results: Results) -> list[str]:
    """What a study says of its protocol and of the encoders that it fine-tuned."""
    return [fact.sentence for fact in results.facts if isinstance(fact, Remark | EncoderFineTuned)]


def not_on_this_base(first: Results | None, second: Results) -> str:
    """Which scenarios and methods of the embedded base were not run on the second one, as a sentence; empty if none."""
    if first is None:
        return ""
    missing = [name for name in scenarios(first) if name not in scenarios(second)]
    missing += [name for name in methods_of(first.summary) if name not in methods_of(second.summary)]
    return f"Not run on it: {', '.join(f'`{name}`' for name in missing)}." if missing else ""


def counted(tried: Mapping[str, int]) -> str:
    """Names with their numbers."""
    return ", ".join(f"{what} {number}" for what, number in tried.items())


def seeds(results: Results) -> str:
    """The seeds, as the beginning of a sentence."""
    numbers = sorted({row.seed for row in results.rows})
    return f"Seeds {', '.join(map(str, numbers))} were" if len(numbers) > 1 else f"Seed {numbers[0]} was"


def seed_count(rows: Iterable[CurveRow]) -> str:
    """How many seeds rows are of; those that are of all seeds have none."""
    number = len({row.seed for row in rows} - {None})
    return f"{number} seed{'' if number == 1 else 's'}"


def origin(files: StudyFiles) -> str:
    """Command lines, environment, features and time, one line each."""
    contents = files.robustness, files.fine_tuned, files.over_optimisation, files.coverage
    commands = dict.fromkeys(content.command for content in contents if content is not None)
    results = files.robustness or files.fine_tuned
    assert results is not None
    environment = results.environment
    features = [fact.sentence for fact in results.facts if isinstance(fact, FeaturesEmbedded)]
    lines = [
        f"Commands: {', '.join(f'`{command}`' for command in commands)}.",
        f"Environment: qbrm {environment['qbrm']}, Python {environment['python']}, torch {environment['torch']}, "
        f"{environment['cores']} cores ({environment['processor']}), {environment['platform']}.",
        *(f"{sentence[0].upper()}{sentence[1:]}." for sentence in features),
        *([time_taken(files.calls)] if files.calls else []),
    ]
    return "\n\n".join(lines)
