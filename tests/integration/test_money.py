"""A shop's unsettled payments through real updates: data worker, SQLite, steps of the image, payment application."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from posagent.core.errors import PosagentError
from posagent.sim.lab import Lab, SimulatedTerminal
from posagent.sim.till import TABLES, Till
from tests.integration.conftest import noisy

pytestmark = pytest.mark.real


@pytest.fixture
def terminal(lab: Lab, request: pytest.FixtureRequest) -> Iterator[SimulatedTerminal]:
    """It has taken some payments."""
    made = lab.terminal(f"m{zlib.crc32(request.node.name.encode())}", shop="petrol_24h", shop_speed=300.0)
    made.wait(lambda _: len(paid(made)) > 2, 60)
    yield made
    made.down()


def paid(terminal: SimulatedTerminal) -> list[Any]:
    """Trace numbers and amounts, oldest first, as the payment application has them now."""
    path = terminal.layout.data_link / "batch.db"
    try:
        with sqlite3.connect(f"file:{path.resolve()}?mode=ro", uri=True) as batch:
            form = batch.execute("PRAGMA user_version").fetchone()[0]
            return batch.execute(f"SELECT stan, amount FROM {TABLES[form]} ORDER BY id").fetchall() if form else []
    except sqlite3.OperationalError:
        return []


def form(terminal: SimulatedTerminal) -> int:
    with sqlite3.connect(f"file:{(terminal.layout.data_link / 'batch.db').resolve()}?mode=ro", uri=True) as batch:
        return int(batch.execute("PRAGMA user_version").fetchone()[0])


def posagent(terminal: SimulatedTerminal, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "posagent.cli", "--socket", str(terminal.layout.api), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, input="yes\n")


def test_a_batch_is_migrated_payments_go_on_and_a_broken_version_after_it_touches_nothing(
    lab: Lab, terminal: SimulatedTerminal
) -> None:
    before = paid(terminal)
    outcome = update(lab, terminal, "2.7.0")
    assert (outcome["outcome"], outcome["migrated"]) == ("committed", "1>2")
    terminal.wait(lambda _: len(paid(terminal)) > len(before) + 2, 60)
    assert form(terminal) == 2
    now = paid(terminal)
    assert now[: len(before)] == before, "nothing is lost and nothing is in another order"
    stans = [stan for stan, _ in now]
    assert stans == sorted(set(stans)), "no trace number comes twice"
    with pytest.raises(PosagentError, match="rollback_data"):
        terminal.ask("rollback")
    outcome = update(lab, terminal, "3.7.0", broken="no parameters")
    assert (outcome["outcome"], outcome["code"]) == ("rolled_back", "selftest_failed")
    terminal.wait(lambda _: len(paid(terminal)) > len(now), 60)
    later = paid(terminal)
    assert (form(terminal), later[: len(now)]) == (2, now)
    assert [stan for stan, _ in later] == sorted({stan for stan, _ in later})


def test_what_is_kept_is_shown_and_a_restore_that_loses_payments_is_refused(
    lab: Lab, terminal: SimulatedTerminal
) -> None:
    name = update(lab, terminal, "2.7.1", data_format=1)["id"]
    shown = posagent(terminal, "data")
    assert shown.returncode == 0, shown.stdout
    assert "the data is whole" in shown.stdout and name in shown.stdout
    count = len(paid(terminal))
    terminal.wait(lambda _: len(paid(terminal)) > count, 60)
    told = posagent(terminal, "data", "restore", name, "--dry-run")
    assert "would be lost" in told.stdout, told.stdout
    answers = []

    def answered(_: object) -> bool:
        """On a busy machine the payment application may find the agent away, and tries again after a second."""
        answers.append(posagent(terminal, "data", "restore", name))
        return "no payment application is connected" not in answers[-1].stderr

    terminal.wait(answered, 60)
    assert answers[-1].returncode == 3 and "data_restore_loses" in answers[-1].stderr, answers[-1].stderr
    assert len(paid(terminal)) >= count


def test_a_power_cut_while_the_data_is_taken_over_loses_nothing(lab: Lab, terminal: SimulatedTerminal) -> None:
    bundle = lab.bundle("2.7.2", lab.image("2.7.2", data_format=2))
    before = paid(terminal)
    name = terminal.ask("update", source=str(bundle))["id"]
    terminal.wait(lambda status: status["state"] == "selftest", 60)
    terminal.control("cut", off_s=0.1)
    outcome = terminal.wait_outcome(name)
    assert outcome["outcome"] == "committed"
    terminal.wait(lambda _: len(paid(terminal)) > len(before), 60)
    assert (form(terminal), paid(terminal)[: len(before)]) == (2, before)


def test_a_till_of_another_format_is_refused(tmp_path: Path) -> None:
    Till(tmp_path, 1).close()
    with pytest.raises(ValueError, match="has format 1, not 2"):
        Till(tmp_path, 2)


def update(lab: Lab, terminal: SimulatedTerminal, version: str, **how: Any) -> dict[str, Any]:
    """How it ended."""
    image = noisy(lab, version, **{"data_format": 2, **how})
    return terminal.wait_outcome(terminal.ask("update", source=lab.publish(version, image))["id"])
