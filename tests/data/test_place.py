"""The directory of the data: who gets into what, and what there is room for."""

from __future__ import annotations

import errno
import sqlite3
from contextlib import closing
from pathlib import Path

from posagent.crash.merchant import NoDatabases
from posagent.data import copying
from posagent.data.place import Place
from posagent.data.record import Generation, Record
from posagent.data.reserve import NAME
from posagent.platform.sqlite import SqliteDatabases
from posagent.platform.trees import LinkPublisher, LinuxTrees
from tests.data.terminal import Terminal

FIRST = Generation(name="g-1", format=1)


def place_of(tmp_path: Path, trees: LinuxTrees | None = None) -> Place:
    root = str(tmp_path / "root")
    return Place(trees or LinuxTrees(root), NoDatabases(), LinkPublisher(str(tmp_path / "run/current")), root)


def modes(root: Path) -> dict[str, int]:
    return {one.name: one.stat().st_mode & 0o777 for one in root.iterdir() if one.is_dir()}


def test_where_nothing_is_published_nobody_gets_into_any_generation(tmp_path: Path) -> None:
    terminal = Terminal(base=tmp_path)
    terminal.boot("a", "1.0", 1)
    assert modes(terminal.root) == {"g-1": 0o711}
    terminal.boot("b", "1.1", 1, trial=True)
    assert modes(terminal.root) == {"g-1": 0o700}
    terminal.boot("a", "1.0", 1)
    assert modes(terminal.root) == {"g-1": 0o711}


def test_the_record_is_stored_on_a_full_medium_and_the_reserve_comes_back(tmp_path: Path) -> None:
    class SmallTrees(LinuxTrees):
        def write(self, path: str, offset: int, data: bytes) -> None:
            if self.size(f"{self._root}/{NAME}") and not path.endswith(NAME):
                raise OSError(errno.ENOSPC, "No space left on device", path)
            super().write(path, offset, data)

    place = place_of(tmp_path, SmallTrees(str(tmp_path / "root")))
    place.sweep(None)
    assert (tmp_path / "root/room.reserve").exists()
    place.begin_first(FIRST.name)
    place.store(Record(current=FIRST))
    assert place.load() == Record(current=FIRST) and not (tmp_path / "root/room.reserve").exists()
    place.sweep(Record(current=FIRST))
    assert (tmp_path / "root/room.reserve").exists()


def test_scratch_of_any_kind_is_swept(tmp_path: Path) -> None:
    place = place_of(tmp_path)
    place.begin_first(FIRST.name)
    for name in ("scratch", "scratch-x1/copy"):
        (tmp_path / "root" / name).mkdir(parents=True)
    assert place.sweep(Record(current=FIRST)) == ["scratch", "scratch-x1"]


def test_a_file_that_goes_while_it_is_looked_at_is_no_trouble(tmp_path: Path) -> None:
    class Paying(SqliteDatabases):
        """The application ends a transaction between two looks."""

        def is_database(self, path: str) -> bool:
            (data / "a.db-journal").unlink(missing_ok=True)
            return super().is_database(path)

    data = tmp_path / "data"
    data.mkdir()
    for name in ("a.db", "a.db-journal"):
        (data / name).write_text("x" * 100)
    trees = LinuxTrees(str(tmp_path))
    assert copying.size_of(trees, Paying(str(tmp_path)), str(data)) == 100


def test_a_database_that_is_open_needs_room_for_another_copy(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    trees, databases = LinuxTrees(str(tmp_path)), SqliteDatabases(str(tmp_path))
    with closing(sqlite3.connect(data / "a.db")) as application:
        application.execute("CREATE TABLE t (a)")
        assert copying.aside_of(trees, databases, str(data)) == 0
        application.execute("PRAGMA journal_mode = WAL")
        application.execute("CREATE TABLE u (a)")
        assert copying.aside_of(trees, databases, str(data)) >= (data / "a.db").stat().st_size
