"""Files keep the same promises on Linux and on the simulated medium."""

from __future__ import annotations

from pathlib import Path

import pytest

from posagent.core import durable
from posagent.core.ports import Files
from posagent.crash.medium import Medium
from posagent.platform.storage import LinuxFiles


@pytest.fixture(params=["linux", "medium"])
def here(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Files, str]:
    """Files and an empty directory to use them in."""
    files: Files = LinuxFiles() if request.param == "linux" else Medium().files
    directory = str(tmp_path / "data") if request.param == "linux" else "/var/data"
    files.make_dir(directory)
    return files, directory


def test_a_missing_file_has_no_size_and_cannot_be_read(here: tuple[Files, str]) -> None:
    files, directory = here
    assert files.size(f"{directory}/none") is None
    assert files.size(f"{directory}/none/deeper") is None
    with pytest.raises(FileNotFoundError):
        files.read(f"{directory}/none")
    with pytest.raises(FileNotFoundError):
        files.sync(f"{directory}/none")
    with pytest.raises(FileNotFoundError):
        files.truncate(f"{directory}/none", 0)
    with pytest.raises(FileNotFoundError):
        files.rename(f"{directory}/none", f"{directory}/other")


def test_a_file_reads_back_what_was_written_where_it_was_written(here: tuple[Files, str]) -> None:
    files, directory = here
    path = f"{directory}/file"
    files.write(path, 0, b"hello world")
    files.write(path, 6, b"WORLD")
    assert files.read(path) == b"hello WORLD"
    assert files.read(path, 6, 3) == b"WOR"
    assert files.read(path, 6) == b"WORLD"
    assert files.read(path, 9, 100) == b"LD"
    assert files.read(path, 50, 4) == b""
    assert files.size(path) == 11


def test_a_gap_reads_as_zeros_and_a_truncated_file_is_short(here: tuple[Files, str]) -> None:
    files, directory = here
    path = f"{directory}/file"
    files.write(path, 4, b"x")
    assert files.read(path) == b"\0\0\0\0x"
    files.truncate(path, 2)
    assert files.read(path) == b"\0\0"
    files.truncate(path, 3)
    files.sync(path)
    assert files.size(path) == 3


def test_nothing_is_written_into_a_directory_that_does_not_exist(here: tuple[Files, str]) -> None:
    files, directory = here
    with pytest.raises(FileNotFoundError):
        files.write(f"{directory}/none/file", 0, b"x")
    with pytest.raises(FileNotFoundError):
        files.sync_dir(f"{directory}/none")


def test_names_are_sorted_and_include_directories(here: tuple[Files, str]) -> None:
    files, directory = here
    assert files.names(f"{directory}/none") == []
    files.write(f"{directory}/b", 0, b"")
    files.write(f"{directory}/a", 0, b"")
    files.make_dir(f"{directory}/c/d")
    files.make_dir(f"{directory}/c/d")
    assert files.names(directory) == ["a", "b", "c"]
    assert files.names(f"{directory}/c") == ["d"]


def test_a_replaced_file_has_the_new_content_and_leaves_nothing_behind(here: tuple[Files, str]) -> None:
    files, directory = here
    path = f"{directory}/record.json"
    for value in ({"n": 1}, {"n": 2}):
        durable.replace_json(files, path, value)
        assert durable.read_json(files, path) == value
    assert files.names(directory) == ["record.json"]
    durable.remove(files, path)
    files.unlink(path)
    assert files.names(directory) == []


def test_there_is_some_free_space(here: tuple[Files, str]) -> None:
    files, directory = here
    assert files.free_bytes(directory) > 1 << 20
