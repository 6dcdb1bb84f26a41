"""Timers for times that are set again and again: a worker's next progress, a session's idle minutes, the next frame.

Rules: a timer that is cancelled stays in the loop's heap until its time, so one a typed byte would fill the memory.
"""

from __future__ import annotations

from collections.abc import Callable

from posagent.core.ports import Clock, Timers


class Deadline:
    """Runs `action` at the time set last, in seconds of the monotonic clock; a time set later is never earlier."""

    def __init__(self, timers: Timers, clock: Clock, action: Callable[[], None]) -> None:
        self._timers = timers
        self._clock = clock
        self._action = action
        self._at: float | None = None
        self._armed = False

    def set(self, at: float) -> None:
        self._at = at
        self._arm()

    def clear(self) -> None:
        self._at = None

    def _arm(self) -> None:
        if self._at is not None and not self._armed:
            self._armed = True
            self._timers.call_later(self._at - self._clock.monotonic(), self._fire)

    def _fire(self) -> None:
        self._armed = False
        if self._at is not None and self._clock.monotonic() >= self._at:
            self._at = None
            self._action()
        else:
            self._arm()


class Alarm:
    """Runs `action` at the time set last, which may be earlier or later than the one before."""

    def __init__(self, timers: Timers, clock: Clock, action: Callable[[], None]) -> None:
        self._timers = timers
        self._clock = clock
        self._action = action
        self._at: float | None = None
        self._armed: float | None = None

    def set(self, at: float) -> None:
        self._at = at
        if self._armed is None or at < self._armed:
            self._armed = at
            self._timers.call_later(at - self._clock.monotonic(), lambda: self._fire(at))

    def clear(self) -> None:
        self._at = None

    def _fire(self, armed: float) -> None:
        if armed != self._armed:
            return  # an earlier one was set after it
        self._armed = None
        if self._at is None:
            return
        if self._clock.monotonic() >= self._at:
            self._at = None
            self._action()
        else:
            self.set(self._at)
