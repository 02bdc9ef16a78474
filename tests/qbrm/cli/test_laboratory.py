"""Without its extra the laboratory's commands are there, and say how to get them."""

import pytest

COMMANDS = ("bench", "compare", "demo", "study")


@pytest.fixture(autouse=True)
def without_the_extra(monkeypatch):
    monkeypatch.setattr("qbrm.cli.laboratory.missing_packages", lambda: ["matplotlib"])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_in_one_line_how_to_get_it(qbrm_command, name):
    line = qbrm_command(name).refused()
    assert line == f"{name}: the package matplotlib is not installed; pip install 'qbrm[lab]'."


def test_options_make_no_difference(qbrm_command):
    assert "pip install 'qbrm[lab]'" in qbrm_command("compare", "--train", "prefs.jsonl", "--out", "x").refused()


def test_help_lists_the_commands_and_what_they_need(qbrm_command):
    ended = qbrm_command("--help")
    assert (ended.code, ended.err) == (0, "")
    assert all(name in ended.out for name in COMMANDS)
    assert ended.out.count("qbrm[lab]") == len(COMMANDS)
