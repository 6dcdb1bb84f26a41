"""Who works for the agent, and errands: one verb each, with the time by which its worker must get further."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from posagent.agent import answers
from posagent.agent.conditions import Progress
from posagent.core.deadline import Deadline
from posagent.core.errors import PosagentError
from posagent.core.ports import Clock, Job, Message, Timers, Worker

GRACE_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    installer: Worker
    fetcher: Worker
    selftest: Worker
    support: Worker
    data: Worker | None = None
    """Where the terminal has merchants' data to keep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """Seconds within which a worker must report progress or end."""

    fetch_s: float = 90.0
    check_s: float = 120.0
    install_s: float = 120.0
    selftest_s: float = 300.0
    data_s: float = 180.0
    verb_s: float = 60.0


class Errand:
    """Open until `end`, which hangs up. `overdue_at` is by the monotonic clock; `stall` acts when it has come."""

    def __init__(self, clock: Clock, stall: Deadline, deadline_s: float) -> None:
        self._clock = clock
        self._stall = stall
        self._deadline_s = deadline_s
        self._job: Job | None = None
        self.open = True
        self.put_off()

    def put_off(self) -> None:
        """The worker got further."""
        self.overdue_at = self._clock.monotonic() + self._deadline_s
        self._stall.set(self.overdue_at)

    def given_to(self, job: Job) -> None:
        if self.open:  # it may have answered at once
            self._job = job

    def end(self) -> None:
        self.open = False
        self._stall.clear()
        if self._job is not None:
            self._job.cancel()


class Errands:
    """One job for the update at a time; a new one hangs up on the old. Nothing hangs up on the `first` look at the
    hardware, with which the agent starts: without it nothing would ever be decided again."""

    def __init__(self, clock: Clock, timers: Timers) -> None:
        self._clock, self._timers = clock, timers
        self._present: Errand | None = None
        self._first_look: Errand | None = None

    @property
    def in_time(self) -> bool:
        """False when work is long past its deadline and nothing ended it."""
        under_way = [errand for errand in (self._present, self._first_look) if errand is not None and errand.open]
        return all(self._clock.monotonic() < errand.overdue_at + GRACE_S for errand in under_way)

    def end(self) -> None:
        """Hang up on the worker."""
        present, self._present = self._present, None
        if present is not None:
            present.end()

    def begin(
        self,
        worker: Worker,
        verb: str,
        args: Mapping[str, Any],
        then: Callable[[Any], None],
        failed: Callable[[PosagentError], None],
        deadline_s: float,
        heard: Callable[[Progress], None],
        *,
        whole: bool = False,
        first: bool = False,
    ) -> None:
        """Ask a worker; `deadline_s` bounds each step, or the `whole` verb."""

        def end() -> None:
            errand.end()
            if not first and self._present is errand:
                self._present = None

        def stalled() -> None:
            end()
            failed(PosagentError("worker_stalled", f"{verb}: no progress for {deadline_s:.0f} s"))

        def notify(message: Message) -> None:
            if not errand.open:
                return
            try:
                told = answers.read(verb, message)
            except PosagentError as error:
                end()
                failed(error)
                return
            if not isinstance(told, Progress):
                end()
                then(told)
                return
            if not whole:
                errand.put_off()
            heard(told)

        errand = Errand(self._clock, Deadline(self._timers, self._clock, stalled), deadline_s)
        if first:
            self._first_look = errand
        else:
            self.end()
            self._present = errand
        errand.given_to(worker.start(verb, args, notify))
