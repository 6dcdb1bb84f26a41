"""The simulated payment application's data: a batch in SQLite, in two formats, and the step from one to the other.

Format 2 knows tips. Integrators of real applications find all of it explained in docs/data.md.
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

FORMATS = (1, 2)
STAN_LAST = 999_999
DATABASE = "batch.db"
TABLES = {1: "payments", 2: "transactions"}

STEP = '''\
#!/usr/bin/env python3
"""Data format 1 to 2: tips."""
import sqlite3, sys
if sys.argv[1:] != ["1", "2"]:
    sys.exit(1)
with sqlite3.connect("batch.db") as batch:
    batch.execute("ALTER TABLE payments RENAME TO transactions")
    batch.execute("ALTER TABLE transactions ADD COLUMN tip INTEGER NOT NULL DEFAULT 0")
    batch.execute("PRAGMA user_version = 2")
print("tips added")
'''

_SCHEMA = """\
CREATE TABLE {table} (id INTEGER PRIMARY KEY, stan INTEGER, type TEXT, currency TEXT, amount INTEGER, batch TEXT,
    reversal INTEGER{more});
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
INSERT INTO counters VALUES ('stan', 1);
PRAGMA user_version = {format};
"""

PARAMETERS_SCHEMA = {
    "type": "object",
    "properties": {
        "currencies": {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": "^[A-Z]{3}$"}},
        "limit": {"type": "integer", "minimum": 0},
    },
    "required": ["currencies"],
    "additionalProperties": False,
}
"""Of what the simulated payment program reads."""

CONFIG = """
[data]
format = {format}
root_dir = "{root}/data/merchant"
link = "{link}"
steps_dir = "{root}/booted/pos/migrate.d"
sources = ["batch.db"]
parameters_schema = "{root}/booted/pos/parameters.schema.json"
reload_command = ["{python}", "-m", "posagent.sim.cli", "reload", "{root}"]

[data.ledger]
kind = "sqlite"
path = "batch.db"
query = "SELECT stan, type, currency, amount, batch, reversal FROM {table} ORDER BY id"

[[data.counters]]
name = "stan"
path = "batch.db"
last = 999999
read = "SELECT value FROM counters WHERE name = 'stan'"
write = "UPDATE counters SET value = :value WHERE name = 'stan'"
"""


def config(root: Path, link: Path, form: int) -> str:
    """What an image with an application of that format declares."""
    return CONFIG.format(format=form, root=root, link=link, table=TABLES[form], python=sys.executable)


class Till:
    """The batch in `directory`, made where there is none. Raises ValueError for one of another format."""

    def __init__(self, directory: Path, form: int) -> None:
        self._table = TABLES[form]
        path = directory / DATABASE
        self._batch = sqlite3.connect(path, isolation_level=None)
        # With FULL the journal's name may come back with the power, and takes a payment back that was acknowledged.
        self._batch.execute("PRAGMA synchronous = EXTRA")
        if not self._format():  # also where the power went while it was made
            more = ", tip INTEGER NOT NULL DEFAULT 0" if form > 1 else ""
            self._batch.executescript("BEGIN;" + _SCHEMA.format(table=self._table, more=more, format=form) + "COMMIT;")
        found = self._format()
        if found != form:
            raise ValueError(f"{path} has format {found}, not {form}")

    def _format(self) -> int:
        return int(self._batch.execute("PRAGMA user_version").fetchone()[0])

    def take(self, amount: int) -> int:
        """A payment of so many cents, durable; its trace number."""
        self._batch.execute("BEGIN IMMEDIATE")
        stan = int(self._batch.execute("SELECT value FROM counters WHERE name = 'stan'").fetchone()[0])
        self._batch.execute("UPDATE counters SET value = ? WHERE name = 'stan'", (stan % STAN_LAST + 1,))
        self._batch.execute(
            f"INSERT INTO {self._table} (stan, type, currency, amount, batch) VALUES (?, 'sale', 'EUR', ?, '1')",
            (stan, amount),
        )
        self._batch.execute("COMMIT")
        return stan

    def payments(self) -> list[tuple[int, int]]:
        """(trace number, amount), oldest first."""
        return self._batch.execute(f"SELECT stan, amount FROM {self._table} ORDER BY id").fetchall()

    def close(self) -> None:
        self._batch.close()
