"""What a person sees during long work."""

import io

from rich.console import Console

from qbrm.cli import console
from qbrm.cli.console import Reporter


def test_the_clock_beside_a_long_step_goes_on_between_two_messages(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    screen = Console(file=io.StringIO(), force_terminal=True, width=80)
    reporter = Reporter(screen)
    reporter.status("fresh, 5 seeds side by side")
    spinner = reporter._spinner
    spinner.stop()
    with screen.capture() as first:
        screen.print(spinner.renderable)
    now[0] += 75
    with screen.capture() as second:
        screen.print(spinner.renderable)
    assert "fresh, 5 seeds side by side · 0 s" in first.get()
    assert "fresh, 5 seeds side by side · 75 s" in second.get()


def test_without_a_terminal_a_line_now_and_then_says_what_goes_on(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    file = io.StringIO()
    reporter = Reporter(Console(file=file, width=80))
    for seconds in (1, 20, 1):
        now[0] += seconds
        reporter.status("fresh, seed 0")
    assert file.getvalue().splitlines() == ["working on             fresh, seed 0 · 21 s"]


def test_a_silent_reporter_prints_nothing(capsys):
    reporter = Reporter.silent()
    reporter.fact("fresh", "5 seeds")
    reporter.status("fresh, seed 0")
    reporter.status(None)
    assert capsys.readouterr() == ("", "")
