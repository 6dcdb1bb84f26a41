"""What the owner of data may leave in a directory: it is read or refused, and can always be removed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from posagent.core.errors import PosagentError
from posagent.platform.trees import LinuxTrees


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "stan")
    with pytest.raises(PosagentError, match="is no file"):
        LinuxTrees(str(tmp_path)).read(f"{tmp_path}/stan")


def test_a_second_name_of_a_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("of root's")
    (tmp_path / "data").mkdir()
    os.link(tmp_path / "key", tmp_path / "data/stan")
    trees = LinuxTrees(str(tmp_path))
    with pytest.raises(PosagentError, match="another name"):
        trees.read(f"{tmp_path}/data/stan")
    (tmp_path / "key").unlink()
    assert trees.read(f"{tmp_path}/data/stan", 3) == b"root's"


def test_a_tree_that_is_very_deep_or_wide_is_removed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").touch()
    top = tmp_path / "g-1"
    top.mkdir()
    (top / "1.removed").mkdir()
    (top / "1.removed/file").touch()
    (top / "2.removed").touch()
    here = os.open(top, os.O_DIRECTORY)
    for depth in range(3000):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = inner
        if depth % 1000 == 0:
            os.symlink(tmp_path / "outside", "out", dir_fd=here)
            os.mkfifo("pipe", dir_fd=here)
            for number in range(10):
                os.mkdir(f"{number}.removed", dir_fd=here)
                os.mkdir(f"{number}.removed/d", dir_fd=here)
    os.close(here)
    trees = LinuxTrees(str(tmp_path))
    try:
        trees.remove_tree(str(top))
        trees.remove_tree(str(top))
        assert not top.exists()
    finally:  # pytest could not
        subprocess.run(["/bin/rm", "-rf", str(top)], check=True)
    assert [one.name for one in tmp_path.iterdir()] == ["outside"] and (tmp_path / "outside/file").exists()


def test_what_is_no_tree_is_not_removed_as_one(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "link").symlink_to("outside")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(NotADirectoryError):
            LinuxTrees(str(tmp_path)).remove_tree(f"{tmp_path}/{name}")
    assert (tmp_path / "outside").exists()
