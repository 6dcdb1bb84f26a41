"""The crew: what one thread meets must not touch the others, and whoever leaves leaves everything as it is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from posagent.field.crew import Crew, exit_code
from posagent.field.link import LineLost
from posagent.field.places import Berth, Places
from posagent.field.signing import Engineer
from posagent.field.visit import Plan

PORTS = {"/dev/a": "pos-a", "/dev/b": "pos-b", "/dev/nobody": ""}
STATUS = {
    "state": "idle",
    "critical": False,
    "booted": "a",
    "slots": {"a": {"version": "1.0.0", "digest": "00", "state": "booted", "tries_left": 3}},
    "update": None,
    "gates": [],
    "power": {},
    "problems": [],
}


class Line:
    """A line to a terminal that says `STATUS` and then does as told; `closed` once it was hung up."""

    def __init__(self, then: Callable[[], None]) -> None:
        self._then = then
        self.closed = threading.Event()

    def call(self, verb: str, args: object = None, *, on_progress: object = None, timeout_s: float = 0) -> Any:
        self._then()
        return STATUS

    def unlock(self, role: str, sign: object) -> Any:
        if not self.closed.wait(20):
            raise AssertionError("nobody left")
        raise LineLost("the line was closed")

    def upload(self, path: Path, *, name: str = "", on_progress: object = None) -> Any:
        raise AssertionError

    def download(self, what: str, out: Path, *, on_progress: object = None) -> Path:
        raise AssertionError

    def follow(self, update_id: str, on_status: object, *, quiet_s: float = 0) -> Any:
        raise AssertionError

    def tend(self, seconds: float) -> None:
        return None

    def estimate_s(self, count: int) -> float:
        return 0.0

    def close(self) -> None:
        self.closed.set()


def crew(engineer: Engineer, out: Path, then: dict[str, Callable[[], None]]) -> tuple[Crew, dict[str, Line]]:
    lines = {terminal: Line(then.get(terminal, lambda: None)) for terminal in PORTS.values() if terminal}

    def connect(berth: Berth) -> Line:
        return lines[berth.terminal]

    def open_port(port: str) -> Any:
        raise OSError(port)

    places = Places(lambda: list(PORTS), open_port)
    made = Crew(places=places, connect=connect, ask=PORTS.__getitem__, plan=Plan(engineer=engineer, out=out))
    made.start()
    return made, lines


def wait(made: Crew, reached: Callable[[], bool]) -> None:
    for _ in range(200):
        if reached():
            return
        made.wait(0.1)
    raise AssertionError([row.stage for row in made.rows()])


def test_a_fault_of_ours_at_one_terminal_leaves_the_others_at_work(engineer: Engineer, tmp_path: Path) -> None:
    def fault() -> None:
        raise ZeroDivisionError("ours")

    made, lines = crew(engineer, tmp_path, {"pos-a": fault})
    wait(made, lambda: [row.ended for row in sorted(made.rows(), key=lambda row: row.terminal)] == [True, False])
    broken = next(record for record in made.records() if record["terminal"] == "pos-a")
    assert (broken["outcome"], broken["code"], broken["detail"]) == ("lost", "internal", "ZeroDivisionError: ours")
    assert lines["pos-a"].closed.is_set() and not made.done(0) and not made.done(1)
    made.leave()


def test_whoever_leaves_has_the_records_as_they_were_and_hangs_up(engineer: Engineer, tmp_path: Path) -> None:
    made, lines = crew(engineer, tmp_path, {})
    wait(made, lambda: [row.stage for row in made.rows()] == ["unlocking"] * 2)
    assert [record["outcome"] for record in made.leave()] == ["left", "left"], "not lost: it was we who left"
    assert all(line.closed.is_set() for line in lines.values())


@pytest.mark.parametrize(
    ("endings", "code"),
    [
        ([], 5),
        (["committed", "current"], 0),
        (["committed", "refused"], 3),
        (["lost", "committed"], 5),
        (["refused", "lost"], 4),
        (["rolled_back", "refused"], 4),
        (["left"], 4),
    ],
)
def test_the_exit_code_tells_the_worst(endings: list[str], code: int) -> None:
    assert exit_code(endings) == code
