"""Directories of the data on Linux: owners and modes are kept, and no link leads out of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from posagent.platform.trees import LinkPublisher, LinuxTrees


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir()
    return path


def test_links_and_pipes_are_told_apart(root: Path) -> None:
    (root / "file").touch()
    (root / "dir").mkdir()
    (root / "link").symlink_to("/etc")
    os.mkfifo(root / "pipe")
    trees = LinuxTrees(str(root))
    assert trees.entries(str(root)) == [("dir", "dir"), ("file", "file"), ("link", "link"), ("pipe", "other")]
    assert trees.entries(f"{root}/file") == trees.entries(f"{root}/link") == []


def test_a_tree_is_removed_and_what_its_links_lead_to_stays(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").touch()
    (root / "g-1/data/deep").mkdir(parents=True)
    (root / "g-1/data/out").symlink_to(tmp_path / "outside")
    trees = LinuxTrees(str(root))
    trees.remove_tree(f"{root}/g-1")
    trees.remove_tree(f"{root}/g-1")
    assert list(root.iterdir()) == [] and (tmp_path / "outside/file").exists()


@pytest.mark.parametrize("path", ["out/file", "out", "out/../../outside/file", "./file"])
def test_no_way_leads_through_a_link_or_out_of_the_root(root: Path, tmp_path: Path, path: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("secret")
    (root / "out").symlink_to(tmp_path / "outside")
    trees = LinuxTrees(str(root))
    for use in (lambda: trees.read(f"{root}/{path}"), lambda: trees.write(f"{root}/{path}", 0, b"x")):
        with pytest.raises(OSError, match=r"."):
            use()
    assert (tmp_path / "outside/file").read_text() == "secret"


def test_a_copy_gets_mode_and_times_but_no_special_bits(root: Path) -> None:
    old, new = root / "old", root / "new"
    old.touch()
    old.chmod(0o4751)
    os.utime(old, (1000, 2000))
    new.touch()
    LinuxTrees(str(root)).like(str(old), str(new))
    assert (oct(new.stat().st_mode & 0o7777), new.stat().st_mtime) == ("0o751", 2000)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to others, which only root may")
def test_a_directory_is_the_owners_when_it_is_adopted(root: Path) -> None:
    trees = LinuxTrees(str(root), "nobody")
    trees.make_dir(f"{root}/g-1/data")
    trees.adopt(f"{root}/g-1/data")
    found = (root / "g-1/data").stat()
    assert (found.st_uid, oct(found.st_mode & 0o777)) == (65534, "0o700") and (root / "g-1").stat().st_uid == 0


def test_who_may_pass_is_changed_back_and_forth(root: Path) -> None:
    trees = LinuxTrees(str(root))
    trees.make_dir(f"{root}/g-1")
    modes = []
    for passable in (False, True, False):
        trees.protect(f"{root}/g-1", passable=passable)
        modes.append((root / "g-1").stat().st_mode & 0o777)
    assert modes == [0o700, 0o711, 0o700]


def test_there_is_no_owner_of_an_unknown_name(root: Path) -> None:
    with pytest.raises(KeyError):
        LinuxTrees(str(root), "no-such-user")


def test_a_name_is_published_exchanged_and_withheld(tmp_path: Path) -> None:
    publisher = LinkPublisher(str(tmp_path / "run/current"))
    assert publisher.published() == ""
    publisher.withhold()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/current.new").symlink_to("/cut/short")
    for target in ("/data/g-1/data", "/data/g-2/data"):
        publisher.publish(target)
        assert publisher.published() == target
    publisher.publish(target, trial=True)
    assert (tmp_path / "run/current.trial").exists()
    publisher.publish(target)
    assert publisher.published() == target and not (tmp_path / "run/current.trial").exists()
    publisher.withhold()
    assert publisher.published() == "" and list((tmp_path / "run").iterdir()) == []
