"""Counters: what a version on trial left is not believed, and none is kept from going on by another."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from posagent.core.errors import PosagentError
from posagent.core.ledger import CounterSource
from posagent.data.money import NUMBER_MAX, Money
from posagent.data.reserve import BYTES, NAME, keep
from posagent.platform.sqlite import SqliteDatabases
from posagent.platform.trees import LinuxTrees

STAN = CounterSource(name="stan", path="counters/stan", last=999_999)
RECEIPT = CounterSource(name="receipt", path="counters/receipt")
BATCH = CounterSource(
    name="batch",
    path="ledger.db",
    read="SELECT value FROM counters WHERE name = 'batch'",
    write="UPDATE counters SET value = :value WHERE name = 'batch'",
)
ALL = (STAN, RECEIPT, BATCH)


class SmallTrees(LinuxTrees):
    """On a medium where nothing fits as long as the reserve is there."""

    def write(self, path: str, offset: int, data: bytes) -> None:
        if data and self.size(f"{self._root}/{NAME}"):
            raise OSError(errno.ENOSPC, "No space left on device", path)
        super().write(path, offset, data)


class Till:
    """A data directory with three counters."""

    def __init__(self, root: Path) -> None:
        self.root, self.data = root, root / "g-1/data"
        (self.data / "counters").mkdir(parents=True)
        (self.data / "counters/stan").write_text("41\n")
        (self.data / "counters/receipt").write_text("7\n")
        with closing(sqlite3.connect(self.data / "ledger.db")) as database, database:
            database.execute("CREATE TABLE counters (name, value INT CHECK (value < 1000))")
            database.execute("INSERT INTO counters VALUES ('batch', 3)")
        self.trees = LinuxTrees(str(root))

    @property
    def money(self) -> Money:
        return Money(self.trees, SqliteDatabases(str(self.root)))

    @property
    def counters(self) -> dict[str, int]:
        return self.money.counters(str(self.data), ALL)

    def raise_to(self, **wanted: int) -> list[str]:
        return self.money.raise_counters(str(self.data), ALL, wanted)


@pytest.fixture
def till(tmp_path: Path) -> Till:
    return Till(tmp_path)


@pytest.mark.parametrize("text", ["1000000", "-1", str(2**63), "9" * 40, "4 1", "x", "1e5"])
def test_a_number_that_a_counter_cannot_have_is_unreadable(till: Till, text: str) -> None:
    (till.data / "counters/stan").write_text(text)
    with pytest.raises(PosagentError, match="data_unreadable"):
        till.money.counters(str(till.data), [STAN])


def test_without_a_last_number_there_is_an_end_all_the_same(till: Till) -> None:
    (till.data / "counters/receipt").write_text(str(NUMBER_MAX))
    assert till.counters["receipt"] == NUMBER_MAX
    (till.data / "counters/receipt").write_text(str(NUMBER_MAX + 1))
    with pytest.raises(PosagentError, match="data_unreadable"):
        till.money.counters(str(till.data), [RECEIPT])


def test_one_that_cannot_be_read_hides_no_other(till: Till) -> None:
    (till.data / "counters/stan").unlink()
    os.mkfifo(till.data / "counters/stan")
    found, trouble = till.money.legible(str(till.data), ALL)
    assert found == {"receipt": 7, "batch": 3} and trouble is not None and trouble.code == "data_unreadable"
    with pytest.raises(PosagentError, match="data_unreadable"):
        till.raise_to(stan=50, receipt=9, batch=4)
    found, _ = till.money.legible(str(till.data), ALL)
    assert found == {"receipt": 9, "batch": 4}, "those were raised"


@pytest.mark.parametrize("number", [1000, 2**63])
def test_a_database_that_refuses_a_number_keeps_no_other_counter_from_it(till: Till, number: int) -> None:
    with pytest.raises(PosagentError, match="counter batch"):
        till.raise_to(batch=number, stan=50)
    assert till.counters == {"stan": 50, "receipt": 7, "batch": 3}


def test_on_a_full_medium_the_reserve_is_given_up_for_the_counters(till: Till) -> None:
    keep(till.trees, str(till.root))
    assert (till.root / NAME).stat().st_size == BYTES
    till.trees = SmallTrees(str(till.root))
    assert till.raise_to(stan=50, receipt=9) == ["stan", "receipt"]
    assert till.counters["stan"] == 50 and not (till.root / NAME).exists()


def test_where_there_is_no_reserve_a_full_medium_is_trouble_with_a_code(till: Till) -> None:
    class FullTrees(LinuxTrees):
        def write(self, path: str, offset: int, data: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", path)

    till.trees = FullTrees(str(till.root))
    keep(till.trees, str(till.root))
    with pytest.raises(PosagentError, match="data_no_space"):
        till.raise_to(stan=50, batch=4)
    assert till.counters == {"stan": 41, "receipt": 7, "batch": 4}
