"""How a worker is asked for the update under way, and when the agent looks again.

Owns: the one job and the one timer of the present work.
Rules: a new job hangs up on the old one and forgets its timer. After every verb that may have changed the slots they
are observed again before anything is made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from posagent.agent.engine import Engine, Progress
from posagent.agent.errand import Deadlines, Errands, Workers
from posagent.core.errors import PosagentError
from posagent.core.model import Command, Observation
from posagent.core.ports import Clock, Timer, Timers, Worker

Failed = Callable[[PosagentError], None]


class Asking:
    """Every answer goes to `then` or to `failed`, unless somebody has asked for something else meanwhile."""

    def __init__(self, engine: Engine, workers: Workers, timers: Timers, clock: Clock, deadlines: Deadlines) -> None:
        self._engine, self._workers, self._timers, self._deadlines = engine, workers, timers, deadlines
        self._errands = Errands(clock, timers)
        self._due: Timer | None = None

    @property
    def in_time(self) -> bool:
        """False when work is long past its deadline and nothing ended it: then the watchdog may bite."""
        return self._errands.in_time

    def stop(self) -> None:
        """Hang up on the worker and forget the timer."""
        due, self._due = self._due, None
        self._errands.end()
        if due is not None:
            due.cancel()

    def later(self, seconds: float, then: Callable[[], None]) -> None:
        """Instead of what was to be done later so far."""
        if self._due is not None:
            self._due.cancel()
        self._due = self._timers.call_later(seconds, then)

    def observe(self, then: Callable[[Observation], None], failed: Failed, first: bool = True) -> None:
        """Look at the hardware; the `first` look comes before anything is decided."""

        def seen(observation: Observation) -> None:
            self._engine.observation = observation
            then(observation)

        self.start(self._workers.installer, "observe", {}, seen, failed, self._deadlines.verb_s, first=first)

    def change_slots(
        self,
        verb: str,
        args: Mapping[str, Any],
        then: Callable[[Observation], None],
        failed: Failed,
        deadline_s: float,
        command: Command | None = None,
    ) -> None:
        """A verb of the installer's that may change them, then a new look."""

        def changed(_: object) -> None:
            self.observe(then, failed, first=False)

        self.start(self._workers.installer, verb, args, changed, failed, deadline_s, command)

    def data(
        self,
        verb: str,
        args: Mapping[str, Any],
        then: Callable[[Any], None],
        failed: Failed,
        heard: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        """A verb about the merchant's data, where the terminal has any to keep."""
        assert self._workers.data is not None
        self.start(self._workers.data, verb, args, then, failed, self._deadlines.data_s, heard=heard)

    def start(
        self,
        worker: Worker,
        verb: str,
        args: Mapping[str, Any],
        then: Callable[[Any], None],
        failed: Failed,
        deadline_s: float,
        command: Command | None = None,
        known: bool = True,
        whole: bool = False,
        first: bool = False,
        heard: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        """A verb of any worker, which must get further within `deadline_s`, or end where it is `whole`. Progress counts
        for `command`; `known`: the worker counts all there is to do. The `first` look leaves the present work alone."""

        def told(progress: Progress) -> None:
            heard(progress)
            if command is not None:
                self._engine.report_progress(progress, command, whole=known)

        if not first:
            self.stop()
        self._errands.begin(worker, verb, args, then, failed, deadline_s, told, whole=whole, first=first)
