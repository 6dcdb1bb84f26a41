"""The resident's one event loop: sockets, the serial line and timers over `selectors` (see docs/adr/0001)."""

from __future__ import annotations

import heapq
import itertools
import selectors
from collections.abc import Callable

from posagent.core.ports import Clock

Action = Callable[[], None]


class LoopTimer:
    """core.ports.Timer."""

    def __init__(self, action: Action) -> None:
        self.action: Action | None = action

    def cancel(self) -> None:
        self.action = None


class Loop:
    """core.ports.Timers, and readiness of descriptors."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, LoopTimer]] = []
        self._order = itertools.count()
        self._running = False

    def now(self) -> float:
        """Seconds of the clock the timers go by."""
        return self._clock.monotonic()

    def call_later(self, seconds: float, action: Action) -> LoopTimer:
        timer = LoopTimer(action)
        heapq.heappush(self._timers, (self._clock.monotonic() + max(seconds, 0.0), next(self._order), timer))
        return timer

    def watch(self, descriptor: int, readable: Action | None, writable: Action | None = None) -> None:
        """Call `readable` and `writable` when the descriptor is; replaces an earlier watch; both None ends it."""
        events = (selectors.EVENT_READ if readable else 0) | (selectors.EVENT_WRITE if writable else 0)
        known = descriptor in self._selector.get_map()
        if not events:
            if known:
                self._selector.unregister(descriptor)
        elif known:
            self._selector.modify(descriptor, events, (readable, writable))
        else:
            self._selector.register(descriptor, events, (readable, writable))

    def stop(self) -> None:
        self._running = False

    def run(self) -> None:
        """Serve until `stop`."""
        self._running = True
        while self._running:
            self._turn()

    def _turn(self) -> None:
        for key, events in self._selector.select(self._wait_s()):
            readable, writable = key.data
            if events & selectors.EVENT_READ and readable is not None:
                readable()
            if events & selectors.EVENT_WRITE and writable is not None:
                writable()
        now = self._clock.monotonic()
        while self._timers and self._timers[0][0] <= now:
            action = heapq.heappop(self._timers)[2].action
            if action is not None:
                action()

    def _wait_s(self) -> float | None:
        while self._timers and self._timers[0][2].action is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return None
        return max(0.0, self._timers[0][0] - self._clock.monotonic())
