"""Copies of a data directory have all of it, look like it, and are the same by their digest."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from posagent.core.errors import PosagentError
from posagent.data import copying
from posagent.platform.sqlite import SqliteDatabases
from posagent.platform.trees import LinuxTrees


class Place:
    """Two data directories, one of them with something in it."""

    def __init__(self, root: Path) -> None:
        self.old, self.new = root / "g-1/data", root / "g-2/data"
        self.old.mkdir(parents=True)
        self.new.mkdir(parents=True)
        self.trees, self.databases = LinuxTrees(str(root)), SqliteDatabases(str(root))

    def copy(self) -> str:
        return ended(copying.copy(self.trees, self.databases, str(self.old), str(self.new)))

    def digest(self, directory: Path) -> str:
        return ended(copying.digest(self.trees, self.databases, str(directory)))


def ended(work: copying.Steps) -> str:
    """What it ends with."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return str(end.value)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path / "root")
    (made.old / "empty").mkdir(mode=0o750)
    (made.old / "参数").mkdir()
    (made.old / "参数/终端 1\n.json").write_text("{}")
    (made.old / "large").write_bytes(os.urandom(copying.PIECE_BYTES * 2 + 1))
    (made.old / "nothing").touch()
    (made.old / "program").write_text("#!/bin/sh\n")
    (made.old / "program").chmod(0o751)
    os.utime(made.old / "program", (1000, 2000))
    with closing(sqlite3.connect(made.old / "ledger.db")) as db:
        db.execute("CREATE TABLE payments (stan INTEGER)")
        db.execute("INSERT INTO payments VALUES (1)")
        db.commit()
    return made


def test_a_copy_has_everything_and_the_same_digest(place: Place) -> None:
    assert place.copy() == place.digest(place.old) == place.digest(place.new)
    names = sorted(str(path.relative_to(place.new)) for path in place.new.rglob("*"))
    assert names == sorted(str(path.relative_to(place.old)) for path in place.old.rglob("*"))
    assert (place.new / "large").read_bytes() == (place.old / "large").read_bytes()
    found = (place.new / "program").stat()
    assert (found.st_mode & 0o777, found.st_mtime) == (0o751, 2000)
    assert (place.new / "empty").stat().st_mode & 0o777 == 0o750


def test_every_change_of_content_or_name_changes_the_digest(place: Place) -> None:
    seen = {place.digest(place.old)}
    changes: list[Callable[[], object]] = [
        lambda: (place.old / "nothing").write_text("x"),
        lambda: (place.old / "nothing").rename(place.old / "something"),
        lambda: (place.old / "empty").rmdir(),
        lambda: (place.old / "empty").touch(),
        lambda: os.truncate(place.old / "large", copying.PIECE_BYTES),
    ]
    for number, change in enumerate(changes, 2):
        change()
        seen.add(place.digest(place.old))
        assert len(seen) == number
    with closing(sqlite3.connect(place.old / "ledger.db")) as db:
        db.execute("UPDATE payments SET stan = 2")
        db.commit()
    assert place.digest(place.old) not in seen


def test_a_database_that_was_only_packed_anew_is_the_same(place: Place) -> None:
    before = place.digest(place.old)
    with closing(sqlite3.connect(place.old / "ledger.db")) as db:
        db.execute("PRAGMA page_size = 8192")
        db.execute("VACUUM")
        db.execute("PRAGMA journal_mode = WAL")
    assert place.digest(place.old) == before


def test_sockets_and_pipes_are_left_out_and_links_are_refused(place: Place) -> None:
    os.mkfifo(place.old / "pipe")
    assert place.copy() and not (place.new / "pipe").exists()
    (place.old / "link").symlink_to("large")
    with pytest.raises(PosagentError, match="link is a link"):
        place.digest(place.old)


def test_a_directory_without_end_is_refused(place: Place) -> None:
    deep = place.old
    for _ in range(copying.DEPTH_MAX + 2):
        deep = deep / "d"
        deep.mkdir()
    with pytest.raises(PosagentError, match="too many files, or too deep"):
        place.digest(place.old)


def test_everything_in_a_copy_is_made_durable_once(place: Place) -> None:
    place.copy()
    settled = list(copying.settle(place.trees, str(place.new)))
    assert len(settled) == len(set(settled)) == len([place.new, *place.new.rglob("*")])
