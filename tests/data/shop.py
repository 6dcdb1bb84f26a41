"""A merchant's data with a database in it, and backups of it, for tests."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from posagent.core.errors import PosagentError
from posagent.core.ports import Databases, Trees
from posagent.data.backup import Backups
from posagent.data.generations import result_of
from posagent.data.keys import FileKeys, KeyStore
from posagent.platform.host import LinuxClock
from posagent.platform.sqlite import SqliteDatabases
from posagent.platform.storage import LinuxFiles
from posagent.platform.trees import LinuxTrees

SOURCES = ("ledger.db", "params", "counters")
CARD = "4761739001010010"
"""A test card's number: it may be in a backup."""
ABOUT = {"update_id": "u-1", "slot": "a", "version": "1.0", "terminal": "till-7"}


class Shop:
    """What is on the data partition."""

    def __init__(self, base: Path, *, trees: Trees | None = None, databases: Databases | None = None) -> None:
        self.root = base / "posagent-data"
        self.data = self.root / "g-1/data"
        self.trees: Trees = trees or LinuxTrees(str(self.root))
        self.databases: Databases = databases or SqliteDatabases(str(self.root))
        self.keys: KeyStore = FileKeys(LinuxFiles(0o600), str(self.root / "key"))

    def open(self) -> Shop:
        """Some payments, two parameter files, a counter; and what is no source, or excluded."""
        (self.data / "params/emv").mkdir(parents=True)
        (self.data / "params/terminal.json").write_text('{"merchant": "Bäckerei", "limit": 5000}')
        (self.data / "params/emv/caps.bin").write_bytes(random.Random(1).randbytes(150_000))
        (self.data / "params/emv/new.tmp").write_text("half of it")
        (self.data / "counters").mkdir()
        (self.data / "counters/stan").write_text("41\n")
        (self.data / "log").write_text("not a source")
        self.sql("CREATE TABLE payments (id INTEGER PRIMARY KEY, stan INT, card TEXT, amount INT, receipt BLOB)")
        self.take(500)
        return self

    def sql(self, text: str, *rows: Sequence[Any], path: str = "ledger.db") -> None:
        with closing(sqlite3.connect(self.data / path)) as database, database:
            database.executemany(text, rows) if rows else database.execute(text)

    def take(self, payments: int) -> None:
        blob = random.Random(2).randbytes(payments)
        rows = [(at, CARD, 100 * at, blob[at : at + 40]) for at in range(payments)]
        self.sql("INSERT INTO payments (stan, card, amount, receipt) VALUES (?, ?, ?, ?)", *rows)

    @property
    def backups(self) -> Backups:
        return Backups(
            trees=self.trees,
            databases=self.databases,
            keys=self.keys,
            clock=LinuxClock(),
            root_dir=str(self.root),
            sources=SOURCES,
            excluded=("*.tmp",),
        )

    def make(self, name: str = "u-1") -> dict[str, Any]:
        return result_of(self.backups.make(str(self.data), name=name, **ABOUT))

    def file(self, name: str = "u-1") -> Path:
        return self.root / "backups" / f"{name}.backup"

    def restored(self, name: str = "u-1") -> Path:
        """A directory with all of the backup in it."""
        target = self.root / "g-2/data"
        result_of(self.backups.restore(name, str(target)))
        return target

    def left(self) -> set[str]:
        """What is in the root directory."""
        return {path.name for path in self.root.iterdir()}

    def refused(self, code: str, name: str = "u-1") -> PosagentError:
        """To make a backup; and nothing of it is left."""
        with pytest.raises(PosagentError) as caught:
            self.make(name)
        assert caught.value.code == code, caught.value
        assert list((self.root / "backups").iterdir()) == []
        assert "scratch" not in self.left()
        return caught.value


def rows(path: Path, table: str = "payments") -> list[Any]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()
