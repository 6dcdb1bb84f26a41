"""Virtual time in which days pass: the terminal's clock may be wrong, what happens around it outlives its restarts."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from posagent.sim.virtual import VirtualTime


class DaysTime(VirtualTime):
    """`off_s` is how far the terminal's clock is from the truth."""

    def __init__(self, begin_s: float) -> None:
        super().__init__(begin_s)
        self.off_s = 0.0

    def true(self) -> float:
        return self._wall + self._now

    def wall(self) -> float:
        return self.true() + self.off_s

    def pass_until(self, monotonic_s: float) -> None:
        self._now = max(self._now, monotonic_s)


class TrueClock:
    """core.ports.Clock of the world around the terminal: customers come by it."""

    def __init__(self, time: DaysTime) -> None:
        self._time = time

    def monotonic(self) -> float:
        return self._time.monotonic()

    def wall(self) -> float:
        return self._time.true()


class World:
    """What will happen around the terminal, whether it runs or not."""

    def __init__(self, time: DaysTime) -> None:
        self._time = time
        self._order = itertools.count()
        self._coming: list[tuple[float, int, Callable[[], None]]] = []

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._coming, (self._time.monotonic() + max(seconds, 0.0), next(self._order), action))

    def next_at(self) -> float | None:
        return self._coming[0][0] if self._coming else None

    def step(self) -> None:
        at, _, action = heapq.heappop(self._coming)
        self._time.pass_until(at)
        action()
