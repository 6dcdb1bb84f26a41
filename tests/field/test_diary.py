"""What is written down of a terminal: fed with what a whole simulated one says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from posagent.core.errors import PosagentError
from posagent.field.diary import NOTES_MAX, PROBLEMS_MAX, Diary, Stage
from posagent.sim import layout
from posagent.sim.inprocess import InProcessTerminal
from tests.conftest import Desk


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def diary(clock: Clock) -> Diary:
    return Diary("pos-1", "/dev/ttyUSB0", clock, lambda: None)


def phases(diary: Diary) -> dict[str, float]:
    return {one["phase"]: one["seconds"] for one in diary.record()["phases"]}


def test_a_whole_update_is_written_down_phase_by_phase(
    diary: Diary, clock: Clock, desk: Desk, in_process: Callable[..., InProcessTerminal]
) -> None:
    terminal = in_process()
    diary.status(terminal.ask("status"))
    assert diary.row().stage == Stage.LOOKING, "a terminal in idle has no stage of its own"
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    seen: list[str] = []
    while terminal.state.value != "idle":
        clock.now += 0.5
        status = terminal.ask("status")
        diary.status(status)
        seen.append(status["state"])
        terminal.step()
    diary.end("committed")
    assert list(phases(diary)) == ["looking", *dict.fromkeys(seen)]
    assert phases(diary)["download"] == 0.5 * seen.count("download")
    assert sum(phases(diary).values()) == pytest.approx(clock.now - Clock.now)


def test_a_gate_that_was_waited_for_is_kept_with_its_seconds(
    diary: Diary, clock: Clock, desk: Desk, in_process: Callable[..., InProcessTerminal]
) -> None:
    terminal = in_process()
    layout.set_power(terminal.layout, battery=20, mains=False)
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    terminal.run_until(lambda one: one.state.value == "ready")
    for _ in range(3):
        diary.status(terminal.ask("status"))
        clock.now += 10
    layout.set_power(terminal.layout, battery=80, mains=True)
    terminal.run_until(lambda one: one.state.value != "ready")
    diary.status(terminal.ask("status"))
    (gate,) = diary.record()["gates"]
    assert (gate["gate"], gate["seconds"]) == ("power_install", 30.0)
    assert gate["reason"] and gate["reason_zh"] and gate["remedy"] and gate["remedy_zh"]


def test_pulled_cables_are_counted_and_ports_remembered(diary: Diary, clock: Clock) -> None:
    diary.plugged("/dev/ttyUSB0")
    assert diary.record()["pulled"]["times"] == 0, "the first time it was not pulled"
    for port, seconds in (("/dev/ttyUSB3", 7.0), ("/dev/ttyUSB3", 3.0)):
        diary.pulled()
        diary.pulled()
        clock.now += seconds
        assert diary.row().pulled
        diary.plugged(port)
    assert diary.record()["pulled"] == {"times": 2, "seconds": 10.0}
    assert (diary.record()["ports"], diary.row().port) == (["/dev/ttyUSB0", "/dev/ttyUSB3"], "/dev/ttyUSB3")


def test_sending_says_how_much_is_there_and_how_long_it_still_takes(diary: Diary) -> None:
    diary.enter(Stage.SENDING)
    diary.sent(600, 1500, 90.0)
    assert (diary.row().part, diary.row().left_s, diary.record()["bytes_sent"]) == (0.4, 90.0, 600)


def test_an_ending_is_final(diary: Diary, clock: Clock) -> None:
    diary.end("failed", "selftest_failed", "no answer")
    clock.now += 100
    diary.end("committed")
    record = diary.record()
    assert (record["outcome"], record["code"]) == ("failed", "selftest_failed")
    assert record["ended_at"] == record["started_at"]


def test_who_leaves_before_the_end_leaves_it_at_work(diary: Diary, clock: Clock) -> None:
    diary.enter("install")
    clock.now += 4
    record = diary.record()
    assert (record["outcome"], record["ended_at"], phases(diary)["install"]) == ("left", None, 4.0)


def test_it_stays_small_however_long_it_lasts(diary: Diary, clock: Clock) -> None:
    for number in range(1000):
        diary.note(f"{number} " + "x" * 1000)
        diary.problem(PosagentError("fetch_network"))
        diary.status(closed(f"gate {number}"))
        clock.now += 1
    record = diary.record()
    assert len(diary.row().notes) == NOTES_MAX and max(map(len, diary.row().notes)) <= 200
    assert len(record["problems"]) == PROBLEMS_MAX and len(record["gates"]) == 16


def closed(gate: str) -> dict[str, Any]:
    return {
        "state": "ready",
        "critical": False,
        "update": {"version": "2.0.0", "bytes_done": 0, "bytes_total": 0, "bytes_refetched": 0},
        "gates": [{"gate": gate, "needed_for": "install", "open": False, "reason": "no"}],
    }
