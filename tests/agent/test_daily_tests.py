"""The security tests run after each start and once a day; what they find is a problem until they pass again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from posagent.agent.daily_tests import AFTER_START_S, AGAIN_S, EVERY_S, DailyTests
from posagent.agent.errand import Deadlines
from posagent.agent.inspection import Inspection
from posagent.core.errors import PosagentError
from posagent.core.model import State
from posagent.sim.inprocess import InProcessTerminal
from tests.agent.conftest import Lies
from tests.conftest import Desk

Make = Callable[[], InProcessTerminal]
FAILED = {
    "name": "tamper circuit",
    "kind": "state",
    "suite": "security",
    "passed": False,
    "seconds": 0.1,
    "detail": "says '3', must be '0'",
    "measure": "state",
    "value": "3",
    "limit": "0",
}


class Round:
    """The daily round of one terminal."""

    def __init__(self, terminal: InProcessTerminal) -> None:
        self.ended: list[tuple[bool, str]] = []
        self.terminal = terminal
        self.tests = Inspection(
            workers=terminal._workers(), timers=terminal.time, clock=terminal.time, deadlines=Deadlines()
        ).tests
        self.began = terminal.time.monotonic()
        DailyTests(
            engine=terminal._engine,
            tests=self.tests,
            timers=terminal.time,
            on_ended=lambda passed, detail: self.ended.append((passed, detail)),
        ).begin()

    def wait(self, rounds: int) -> float:
        """Until so many rounds have ended; the seconds since it began."""
        self.terminal.run_until(lambda _: len(self.ended) >= rounds)
        return self.terminal.time.monotonic() - self.began

    @property
    def problem(self) -> str:
        found = self.terminal._engine.problems.get("selftest_daily")
        return found.detail if found else ""


@pytest.fixture
def daily(in_process: Make) -> Iterator[Round]:
    terminal = in_process()
    terminal.settle()
    yield Round(terminal)


def test_it_runs_soon_after_a_start_and_then_within_each_day(daily: Round) -> None:
    assert AFTER_START_S <= daily.wait(1) < AFTER_START_S + 60
    assert EVERY_S <= daily.wait(2) < 86400
    assert daily.ended == [(True, "")] * 2 and not daily.problem


def test_a_failure_is_a_problem_until_the_tests_pass_again(daily: Round, lies: Lies) -> None:
    lies["run"] = {"result": {"passed": False, "deadline": False, "checks": [FAILED]}}
    daily.wait(1)
    assert daily.ended == [(False, "tamper circuit: says '3', must be '0'")]
    assert daily.problem == "tamper circuit: says '3', must be '0'"
    [shown] = [one for one in daily.terminal.ask("status")["problems"] if one["code"] == "selftest_daily"]
    assert shown["remedy"] and shown["remedy_zh"]
    lies.clear()
    daily.wait(2)
    assert not daily.problem


def test_whoever_has_tests_run_comes_first_and_a_worker_in_trouble_is_asked_again(daily: Round, lies: Lies) -> None:
    lies["run"] = {"error": PosagentError("worker_lost").as_dict()}
    daily.terminal.run_until(lambda one: one.time.monotonic() - daily.began > AFTER_START_S + 1)
    assert daily.ended == [] and daily.problem.startswith("they could not be made")
    lies.clear()
    assert AFTER_START_S + AGAIN_S <= daily.wait(1) < AFTER_START_S + 2 * AGAIN_S
    assert not daily.problem


def test_it_waits_while_an_update_is_in_its_critical_section(daily: Round, desk: Desk) -> None:
    daily.terminal.silent.add("write")
    daily.terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    daily.terminal.run_until(lambda one: one.state is State.INSTALL)
    daily.terminal.run_until(lambda one: one.time.monotonic() - daily.began > AFTER_START_S + 2 * AGAIN_S)
    assert daily.ended == []
