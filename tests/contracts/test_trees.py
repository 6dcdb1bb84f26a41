"""Directories of the data keep the same promises on Linux and on the simulated medium."""

from __future__ import annotations

from pathlib import Path

import pytest

from posagent.core.ports import Trees
from posagent.crash.medium import Medium
from posagent.platform.trees import LinuxTrees


@pytest.fixture(params=["linux", "medium"])
def here(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Trees, str]:
    """Trees and an empty directory to use them in."""
    directory = str(tmp_path / "data") if request.param == "linux" else "/var/data"
    trees: Trees = LinuxTrees(directory) if request.param == "linux" else Medium().files
    trees.make_dir(directory)
    return trees, directory


def test_entries_are_sorted_and_have_kinds(here: tuple[Trees, str]) -> None:
    trees, directory = here
    trees.make_dir(f"{directory}/g-1/data")
    trees.write(f"{directory}/file", 0, b"x")
    assert trees.entries(directory) == [("file", "file"), ("g-1", "dir")]
    assert trees.entries(f"{directory}/g-1") == [("data", "dir")]
    assert trees.names(directory) == ["file", "g-1"]
    assert trees.entries(f"{directory}/none") == trees.entries(f"{directory}/none/deeper") == []


def test_a_tree_is_gone_with_all_that_is_in_it(here: tuple[Trees, str]) -> None:
    trees, directory = here
    trees.make_dir(f"{directory}/g-1/data/deep")
    trees.write(f"{directory}/g-1/data/deep/file", 0, b"x")
    trees.remove_tree(f"{directory}/g-1")
    trees.remove_tree(f"{directory}/g-1")
    assert trees.entries(directory) == []
    trees.make_dir(f"{directory}/g-1/data")
    assert trees.entries(f"{directory}/g-1/data") == []


def test_a_file_moves_from_one_directory_into_another(here: tuple[Trees, str]) -> None:
    trees, directory = here
    trees.make_dir(f"{directory}/g-1/data")
    trees.write(f"{directory}/g-1/data/counter", 0, b"1")
    trees.write(f"{directory}/g-1/new", 0, b"2")
    trees.sync(f"{directory}/g-1/new")
    trees.rename(f"{directory}/g-1/new", f"{directory}/g-1/data/counter")
    assert trees.entries(f"{directory}/g-1") == [("data", "dir")]
    assert trees.read(f"{directory}/g-1/data/counter") == b"2"


def test_owners_and_modes_change_nothing_of_what_is_in_it(here: tuple[Trees, str]) -> None:
    trees, directory = here
    trees.make_dir(f"{directory}/g-1/data")
    trees.write(f"{directory}/g-1/data/file", 0, b"x")
    trees.adopt(f"{directory}/g-1/data")
    trees.protect(f"{directory}/g-1", passable=True)
    trees.like(f"{directory}/g-1/data", f"{directory}/g-1/data/file")
    assert trees.read(f"{directory}/g-1/data/file") == b"x"
    trees.sync_dir(f"{directory}/g-1/data")
