"""A whole simulated terminal whose payments name card numbers: none comes out of an update, whether it holds or not."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from posagent.sim.lab import Lab, SimulatedTerminal
from tests.planted import CARDS, card_numbers
from tests.support import outlets

RECEIPTS = 2000
PAID = 3
"""So many payments are taken before an update begins."""


def scanned() -> dict[str, Any]:
    """`card_numbers_found`, how many texts were `scanned` by where they come from, how many `cards_kept` in the data.
    Raises AssertionError where the updates did not go as they are to."""
    with tempfile.TemporaryDirectory(prefix="money-") as folder:
        lab = Lab(Path(folder) / "lab")
        try:
            terminal = lab.terminal("t", shop="petrol_24h", shop_speed=300.0)
            terminal.wait(lambda _: _count(terminal, "payments") > PAID, 60)
            _plant(terminal)
            _update(lab, terminal, "2.0.0", "committed", data_format=2)
            _update(lab, terminal, "3.0.0", "rolled_back", data_format=2, broken=f"card {CARDS[0]} refused")
            terminal.wait(lambda status: "ticket" in (status["last_outcome"] or {}), 30.0)
            kept = _count(terminal, "receipts")
            told = outlets.told(terminal, lab.keys / "vendor.pem", Path(folder))
        finally:
            lab.close()
    found = [number for texts in told.values() for text in texts for number in card_numbers(text)]
    return {
        "card_numbers_found": len(found),
        "scanned": {place: len(texts) for place, texts in told.items()},
        "cards_kept": kept,
    }


def _update(lab: Lab, terminal: SimulatedTerminal, version: str, expected: str, **how: Any) -> None:
    name = terminal.ask("update", source=lab.publish(version, lab.image(version, **how)))["id"]
    outcome = terminal.wait_outcome(name, 120)
    assert outcome["outcome"] == expected, outcome


def _plant(terminal: SimulatedTerminal) -> None:
    """The payment application keeps receipts beside its payments."""
    rows = [(CARDS[at % len(CARDS)], f"sale {at} with {CARDS[at % len(CARDS)]}") for at in range(RECEIPTS)]
    with closing(sqlite3.connect(_batch(terminal), timeout=30)) as batch, batch:
        batch.execute("CREATE TABLE receipts (id INTEGER PRIMARY KEY, card TEXT, text TEXT)")
        batch.executemany("INSERT INTO receipts (card, text) VALUES (?, ?)", rows)


def _count(terminal: SimulatedTerminal, table: str) -> int:
    try:
        with closing(sqlite3.connect(f"file:{_batch(terminal).resolve()}?mode=ro", uri=True)) as batch:
            return int(batch.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def _batch(terminal: SimulatedTerminal) -> Path:
    return terminal.layout.data_link / "batch.db"
