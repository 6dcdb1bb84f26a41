"""Who works for the agent, and an errand: one verb with the time by which its worker must get further."""

from __future__ import annotations

from dataclasses import dataclass

from posagent.core.deadline import Deadline
from posagent.core.ports import Clock, Job, Worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    installer: Worker
    fetcher: Worker
    selftest: Worker
    support: Worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """Seconds within which a worker must report progress or end."""

    fetch_s: float = 90.0
    check_s: float = 120.0
    install_s: float = 120.0
    selftest_s: float = 300.0
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
