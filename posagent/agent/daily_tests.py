"""The security tests that run after each start and then once a day (PCI PTS: integrity and authenticity).

Rules: they wait for whoever else has tests run, and for a critical section, which tests for itself. What they find is
shown as a problem until they pass again, and stands in the audit log; nothing else follows from it: a person decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from posagent.agent.engine import Engine
from posagent.agent.inspection import Aside
from posagent.config_selftest import SECURITY
from posagent.core.errors import PosagentError, Refusal
from posagent.core.ports import Message, Timers

AFTER_START_S = 120.0
"""By then the system has come to rest, and an update on trial has tested itself."""
EVERY_S = 23 * 3600.0
"""Less than a day, so that it stays one although a run takes its time."""
AGAIN_S = 600.0
CODE = "selftest_daily"
GIVES_WAY = "critical_section"
"""The code with which tests end when an update needs the terminal."""


class DailyTests:
    """`on_ended` hears whether they passed, and the first failure. `begin` it when the hardware is known."""

    def __init__(self, *, engine: Engine, tests: Aside, timers: Timers, on_ended: Callable[[bool, str], None]) -> None:
        self._engine, self._tests, self._timers, self._on_ended = engine, tests, timers, on_ended

    def begin(self) -> None:
        self._timers.call_later(AFTER_START_S, self._run)

    def _run(self) -> None:
        if self._engine.critical:
            self._timers.call_later(AGAIN_S, self._run)
            return
        try:
            self._tests.ask(self._told, {"suite": SECURITY})
        except Refusal:  # somebody else has tests run
            self._timers.call_later(AGAIN_S, self._run)

    def _told(self, message: Message) -> None:
        if "progress" in message:
            return
        if "result" not in message:
            self._timers.call_later(AGAIN_S, self._run)
            error = PosagentError.from_dict(message["error"])
            if error.code != GIVES_WAY:
                self._engine.report_problem(PosagentError(CODE, f"they could not be made: {error.detail}"))
            return
        self._timers.call_later(EVERY_S, self._run)
        wrong = _first_failure(message["result"])
        self._engine.problems.pop(CODE, None)
        if wrong:
            self._engine.report_problem(PosagentError(CODE, wrong))
        self._on_ended(not wrong, wrong)


def _first_failure(result: Mapping[str, Any]) -> str:
    return next((f"{one['name']}: {one['detail']}" for one in result["checks"] if not one["passed"]), "")
