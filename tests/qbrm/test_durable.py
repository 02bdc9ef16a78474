"""Files are whole or absent and folders have one writer, whoever else is at work there."""

import os
import threading

import pytest

from fixtures.preference_files import write_preferences
from qbrm.durable import LOCK, SUMS, check_file, one_writer, read_checked, write_atomically
from qbrm.errors import DamagedFileError, InputError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_planted_link_is_not_followed(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    monkeypatch.setattr("qbrm.durable.secrets.token_hex", lambda size: "0" * 16)
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("file", "file.tmp"):
        (folder / name).symlink_to(victim)
    write_atomically(folder / "file", b"new")
    assert (victim.read_bytes(), (folder / "file").read_bytes()) == (b"mine", b"new")
    assert not (folder / "file").is_symlink()
    (folder / f"file.{'0' * 16}.tmp").symlink_to(victim)
    with pytest.raises(InputError, match="cannot be written: File exists"):
        write_atomically(folder / "file", b"newer")
    assert (victim.read_bytes(), (folder / "file").read_bytes()) == (b"mine", b"new")


def test_readers_beside_two_writers_see_whole_files_with_their_checksums(tmp_path):
    path, contents, over = tmp_path / "file", [bytes([letter]) * 50_000 for letter in b"abcd"], threading.Event()
    write_atomically(path, contents[0])
    failures = []

    def write(own):
        for number in range(25):
            write_atomically(path, contents[own + number % 2])

    def read():
        while not over.is_set():
            content = path.read_bytes()
            if content not in contents:
                failures.append(content[:10])

    writers = [threading.Thread(target=write, args=(own,)) for own in (0, 2)]
    readers = [threading.Thread(target=read) for _ in range(2)]
    for thread in readers + writers:
        thread.start()
    for thread in writers:
        thread.join()
    over.set()
    for thread in readers:
        thread.join()
    assert not failures
    assert read_checked(path) in contents
    assert names(tmp_path) == [SUMS, "file"]


def test_a_file_of_an_earlier_version_without_checksum_is_read(tmp_path):
    (tmp_path / "old").write_bytes(b"old")
    write_atomically(tmp_path / "new", b"new")
    assert (read_checked(tmp_path / "old"), read_checked(tmp_path / "new")) == (b"old", b"new")


def test_sha256sum_reads_the_checksums(tmp_path):
    write_atomically(tmp_path / "with space", b"1")
    write_atomically(tmp_path / "plain", b"2")
    write_atomically(tmp_path / "plain", b"3")
    assert os.system(f"cd {tmp_path} && sha256sum --check --strict --quiet {SUMS}") == 0


def test_another_content_is_named_with_both_checksums(tmp_path):
    write_atomically(tmp_path / "file", b"a")
    (tmp_path / "file").write_bytes(b"b")
    with pytest.raises(DamagedFileError, match=r"/file is not .* \(SHA-256 3e23e8160039 instead of ca978"):
        check_file(tmp_path / "file")


def test_a_folder_of_the_user_gets_no_list_of_checksums(tmp_path):
    write_atomically(tmp_path / "notes.md", b"text", listed=False)
    assert names(tmp_path) == ["notes.md"]


def test_a_second_writer_is_refused_in_one_line(command, tmp_path):
    prefs, out = write_preferences(tmp_path / "prefs.jsonl", 0, 12), tmp_path / "out"
    refused = "being written by another process; expected a folder of its own, or the end of that process."
    with one_writer(out):
        (out / "mine").touch()
        for line in (
            ("compare", "--train", prefs, "--out", out, "--seeds", 1),
            ("fit", prefs, "--out", out),
            ("study", "sampling", "--train", prefs, "--out", out, "--quick"),
        ):
            code, _, err = command(*line)
            assert (code, refused in err) == (2, True)
        assert names(out) == [LOCK, "mine"]


def test_a_refused_command_leaves_no_files(command, tmp_path):
    prefs = tmp_path / "prefs.jsonl"
    prefs.write_text('{"prompt": "a"}\n')
    for line in (
        ("compare", "--train", prefs),
        ("study", "robustness", "--train", prefs, "--quick"),
        ("study", "sampling", "--train", prefs),
        ("embed", prefs),
        ("fit", prefs),
        ("train", tmp_path / "nowhere"),
    ):
        out = tmp_path / "new" / "out"
        assert command(*line, "--out", out)[0] == 2
        assert not (tmp_path / "new").exists(), line
