"""How long the terminal's own work takes: workers whose messages come when the work they tell of would be done.

Rules: a phase's time is log-normal about what this terminal needs, which is itself log-normal about its model's
profile; one in thirty is slow. The estimator knows the profile, never the terminal's own figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from random import Random

from posagent.core.ports import Message, Notify, Verb
from posagent.sim.virtual import LocalJob, LocalWorker, VirtualTime

PROFILE = {
    "verify_bytes_per_s": 900_000,
    "install_bytes_per_s": 120_000,
    "restart_s": 55,
    "selftest_s": 40,
    "commit_s": 4,
    "rollback_s": 80,
}
TERMINALS_SD = 0.35
"""How far terminals of one model are from its profile (standard deviation of the logarithm)."""
TIMES_SD = {"verify": 0.12, "install": 0.12, "restart": 0.1, "selftest": 0.2, "commit": 0.35, "quick": 0.4}
SLOW_SHARE, SLOW = 1 / 30, (1.5, 3.0)
PASSES = {"write": 0.83, "read_back": 0.16}
"""Of an installation's time."""
QUICK_S = 0.8
"""A verb that only looks, or writes a little."""


class Pace:
    """One terminal's."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._own = {key: math.exp(random.gauss(0, TERMINALS_SD)) for key in PROFILE}

    def _draw(self, key: str, what: str) -> float:
        """The profile's figure made this terminal's, and this time's."""
        slow = self._random.uniform(*SLOW) if self._random.random() < SLOW_SHARE else 1.0
        own = PROFILE[key] * self._own[key]
        times = math.exp(self._random.gauss(0, TIMES_SD[what])) * slow
        return own / times if key.endswith("_per_s") else own * times

    def bytes_s(self, what: str, size: int) -> float:
        return size / self._draw(f"{what}_bytes_per_s", what)

    def restart_s(self) -> float:
        return self._draw("restart_s", "restart")

    def selftest_s(self) -> float:
        return self._draw("selftest_s", "selftest")

    def commit_s(self) -> float:
        return self._draw("commit_s", "commit")

    def quick_s(self) -> float:
        return QUICK_S * math.exp(self._random.gauss(0, TIMES_SD["quick"]))


Cost = Callable[[Message], float]
"""Seconds until the message comes, from the one before it."""


class TimedJob(LocalJob):
    """Each message is made at once and comes when its time is over."""

    def __init__(self, messages: Iterator[Message], notify: Notify, time: VirtualTime, cost: Cost) -> None:
        self._cost = cost
        super().__init__(messages, notify, time, 0.0)

    def _go_on(self) -> None:
        if self.open:
            told = self._next()
            self._time.call_later(self._cost(told), lambda: self._deliver(told) if self.open else None)


class TimedWorker(LocalWorker):
    """`costs` makes the cost of one run of a verb."""

    def __init__(
        self, verbs: Mapping[str, Verb], time: VirtualTime, silent: set[str], costs: Callable[[str], Cost]
    ) -> None:
        super().__init__(verbs, time, silent)
        self._costs = costs

    def _job(self, verb: str, messages: Iterator[Message], notify: Notify) -> LocalJob:
        return TimedJob(messages, notify, self._time, self._costs(verb))


def costs_of(pace: Pace, fetched_s: Callable[[], float]) -> Callable[[str], Cost]:
    """`fetched_s` takes the seconds that the link has needed since it was last asked."""

    def by_bytes(what: str) -> Cost:
        whole: list[float] = []
        done, step = 0, ""

        def cost(message: Message) -> float:
            nonlocal done, step
            told = message.get("progress")
            if told is None or not told["bytes_total"]:
                return 0.01 * whole[0] if whole else pace.quick_s()
            if not whole:
                whole.append(pace.bytes_s(what, told["bytes_total"]))
            if told["step"] != step:
                done, step = 0, told["step"]
            share: float = max(told["bytes_done"] - done, 0) / told["bytes_total"]
            done = told["bytes_done"]
            return share * whole[0] * PASSES.get(step, 1.0)

        return cost

    def once(seconds: Callable[[], float]) -> Cost:
        return lambda message: seconds() if "progress" not in message else 0.0

    def costs(verb: str) -> Cost:
        match verb:
            case "fetch" | "look":
                return lambda _: fetched_s()
            case "check":
                return by_bytes("verify")
            case "write" | "stage":
                return by_bytes("install")
            case "run":
                return once(pace.selftest_s)
            case "mark_good":
                return once(pace.commit_s)
            case _:
                return once(pace.quick_s)

    return costs
