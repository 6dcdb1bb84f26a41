"""Virtual time and in-process workers: a whole terminal in one process, one step at a time.

The code under test is the real one; only the clock, the timers and the process boundary are replaced.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any

from posagent.core.errors import PosagentError
from posagent.core.ports import Message, Notify, Verb


class VirtualTimer:
    """core.ports.Timer."""

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        self.action = None


class VirtualTime:
    """core.ports.Clock and core.ports.Timers: time passes only by `step`."""

    def __init__(self, wall: float = 1_800_000_000.0) -> None:
        self._wall = wall
        self._now = 0.0
        self._order = itertools.count()
        self._timers: list[tuple[float, int, VirtualTimer]] = []
        self._begun: list[LocalJob] = []
        """Work of this terminal. Kept, because a generator that is thrown away would still run its clean-up."""

    def monotonic(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._wall + self._now

    def call_later(self, seconds: float, action: Callable[[], None]) -> VirtualTimer:
        timer = VirtualTimer(action)
        heapq.heappush(self._timers, (self._now + max(seconds, 0.0), next(self._order), timer))
        return timer

    def let_pass(self, seconds: float) -> None:
        """Somebody waited so long without looking at timers."""
        self._now += seconds

    def next_at(self) -> float | None:
        """Monotonic seconds of the next timer that was not cancelled."""
        while self._timers and self._timers[0][2].action is None:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def step(self) -> bool:
        """Go to the next timer and run it; False when there is none."""
        while self._timers:
            at, _, timer = heapq.heappop(self._timers)
            if timer.action is not None:
                self._now = max(self._now, at)
                timer.action()
                return True
        return False

    def forget(self) -> None:
        """Power cut: whatever was planned will not happen, and nothing that was begun is tidied up either."""
        self._timers = []

    def begun(self, job: LocalJob) -> None:
        self._begun = [one for one in self._begun if one.open]
        self._begun.append(job)

    def end(self) -> None:
        """Nobody looks any more: throw away what power cuts have ended, as long as the files are there that it uses."""
        self.forget()
        for job in self._begun:
            with suppress(PosagentError, OSError):  # of work that ended long ago
                job.cancel()


class LocalJob:
    """core.ports.Job over a verb's generator; one message a step."""

    def __init__(self, messages: Iterator[Message], notify: Notify, time: VirtualTime, step_s: float) -> None:
        self._messages: Iterator[Message] | None = messages
        self._notify = notify
        self._time = time
        self._step_s = step_s
        time.begun(self)
        time.call_later(step_s, self._go_on)

    @property
    def open(self) -> bool:
        return self._messages is not None

    def cancel(self) -> None:
        messages, self._messages = self._messages, None
        close = getattr(messages, "close", None)
        if close is not None:
            close()

    def _go_on(self) -> None:
        if self.open:
            self._deliver(self._next())

    def _next(self) -> Message:
        """What the worker says next; that it was lost where it says nothing more."""
        assert self._messages is not None
        try:
            message = next(self._messages, None)
        except PosagentError as error:
            message = {"error": error.as_dict()}
        return {"error": PosagentError("worker_lost").as_dict()} if message is None else message

    def _deliver(self, message: Message) -> None:
        if "progress" not in message:
            self._messages = None
        else:
            self._time.call_later(self._step_s, self._go_on)
        self._notify(message)


class SilentJob:
    """core.ports.Job of a worker that hangs."""

    def cancel(self) -> None:
        return None


class LocalWorker:
    """core.ports.Worker: the verbs of a worker process, in this process. Verbs in `silent` hang."""

    def __init__(
        self, verbs: Mapping[str, Verb], time: VirtualTime, silent: Collection[str] = (), step_s: float = 0.01
    ) -> None:
        self._verbs = verbs
        self._time = time
        self._silent = silent
        self._step_s = step_s

    def start(self, verb: str, args: Mapping[str, Any], notify: Notify) -> LocalJob | SilentJob:
        if verb in self._silent:
            return SilentJob()
        messages = self._verbs[verb](args) if verb in self._verbs else _unknown(verb)
        return self._job(verb, iter(messages), notify)

    def _job(self, verb: str, messages: Iterator[Message], notify: Notify) -> LocalJob:
        return LocalJob(messages, notify, self._time, self._step_s)


def _unknown(verb: str) -> Iterator[Message]:
    """As the frame of the real workers answers (posagent.worker)."""
    yield {"error": PosagentError("unknown_verb", f"no verb {verb[:40]!r}").as_dict()}
