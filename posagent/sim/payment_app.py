"""A payment application that takes simulated payments all day, and holds for each of them.

`PaymentApp` is for a terminal in virtual time; it counts what an update costs: customers turned away, payments
interrupted. As a process (`python -m posagent.sim.payment_app`) it does the same over the API socket.
"""

from __future__ import annotations

import argparse
import itertools
import json
import select
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posagent.core.ports import Clock, Message, Timers
from posagent.payment import Holds
from posagent.sim import shops
from posagent.sim.shops import Customer
from posagent.sim.till import FORMATS, Till

PRINTING_S = 2.0
WAIT_S = 0.2
DAY_S = 86400
Call = Callable[[str, Mapping[str, Any], Callable[[Message], None], str], Callable[[], None]]
"""AgentApi.call."""


@dataclass(slots=True)
class Takings:
    """What became of the customers. `by_half_hour` has the payments taken in each half hour of the local week."""

    taken: int = 0
    turned_away: int = 0
    interrupted: int = 0
    waited_s: float = 0.0
    by_half_hour: list[int] = field(default_factory=lambda: [0] * shops.WEEK)


class PaymentApp:
    """In virtual time: `start` when the terminal has booted, `stop` when it goes down, `reconnect` when only the agent
    was started again. Timers may be forgotten while it is stopped.

    One customer after the other; who comes during a payment waits. `settles_at_s` is the second of the local day at
    which the batch is settled: with it an unsettled batch is held from the first payment on.
    """

    def __init__(
        self,
        *,
        shop: str,
        seed: int,
        clock: Clock,
        timers: Timers,
        offset_s: int = 0,
        lease_s: int = 300,
        settles_at_s: int | None = None,
        name: str = "sim-pay",
    ) -> None:
        self.takings = Takings()
        self.outlook: Mapping[str, Any] = {}
        self._clock = clock
        self._timers = timers
        self._offset_s = offset_s
        self._lease_s = lease_s
        self._settles_at_s = settles_at_s
        self._name = name
        self._call: Call | None = None
        self._hang_up: Callable[[], None] = lambda: None
        self._life = 0
        """Counts starts: timers of an earlier life do nothing."""
        self._coming = shops.customers(shop, seed, self._local_s())
        self._next = next(self._coming)
        self._queue: deque[Customer] = deque()
        self._doing: tuple[str, ...] = ()
        self._unsettled = False
        self._said_at_s = 0.0

    @property
    def paying(self) -> bool:
        """A customer's payment is under way; what ends the terminal now interrupts it."""
        return "transaction" in self._doing

    # the terminal's ups and downs

    def start(self, call: Call) -> None:
        """The terminal is up. Customers who came while it was down have gone."""
        self._life += 1
        self._doing = ()
        while self._next.at_s < self._local_s():
            self.takings.turned_away += 1
            self._next = next(self._coming)
        self.reconnect(call)
        self._await_customer()
        self._renew()
        if self._settles_at_s is not None:
            self._later(self._until_settling_s(self._settles_at_s), self._settle)

    def stop(self) -> None:
        """The terminal goes down, or loses its power."""
        if self.paying:
            self.takings.interrupted += 1
        self.takings.turned_away += len(self._queue)
        self._queue.clear()
        self._doing = ()
        self._life += 1
        self._hang_up()
        self._hang_up, self._call, self.outlook = lambda: None, None, {}

    def reconnect(self, call: Call | None) -> None:
        """The agent was started again, or (None) is away; payments go on."""
        self._hang_up()
        self._hang_up, self._call, self.outlook = lambda: None, call, {}
        self._say()

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        life = self._life

        def act() -> None:
            if self._life == life:
                action()

        self._timers.call_later(seconds, act)

    def _local_s(self) -> float:
        return self._clock.wall() + self._offset_s

    # customers

    def _await_customer(self) -> None:
        self._later(self._next.at_s - self._local_s(), self._comes)

    def _comes(self) -> None:
        if self._next.at_s > self._local_s() + 1e-6:  # the clock was set back
            self._await_customer()
            return
        self._queue.append(self._next)
        self._next = next(self._coming)
        self._await_customer()
        if not self._doing:
            self._serve()

    def _serve(self) -> None:
        if not self._queue:
            self._do()
            return
        customer = self._queue.popleft()
        self._do("card_in_reader", "transaction")
        if self.outlook.get("may_hold") is False:
            self.takings.turned_away += 1 + len(self._queue)
            self._queue.clear()
            self._do()
            return
        self.takings.waited_s += self._local_s() - customer.at_s
        self._later(max(customer.duration_s - PRINTING_S, 1.0), self._paid)

    def _paid(self) -> None:
        self.takings.taken += 1
        self.takings.by_half_hour[shops.half_hour_of_week(self._local_s())] += 1
        self._unsettled = self._settles_at_s is not None
        self._do("printing", payments=1)
        self._later(PRINTING_S, self._serve)

    # the batch, and the line to the agent

    def _until_settling_s(self, at_s: int) -> float:
        return (at_s - self._local_s()) % DAY_S or DAY_S

    def _settle(self) -> None:
        self._unsettled = False
        self._say()
        assert self._settles_at_s is not None
        self._later(max(self._until_settling_s(self._settles_at_s), 1.0), self._settle)

    def _do(self, *doing: str, payments: int = 0) -> None:
        self._doing = doing
        self._say(payments)

    def _say(self, payments: int = 0) -> None:
        if self._call is None:
            return
        held = (*self._doing, "unsettled_batch") if self._unsettled else self._doing
        args: dict[str, Any] = {
            "name": self._name,
            "lease_s": self._lease_s,
            "holds": [{"reason": reason} for reason in held],
        }
        if payments:
            args["payments"] = payments
        self._said_at_s = self._clock.monotonic()
        self._hang_up()  # as the API server does between two lines
        self._hang_up = self._call("payment", args, self._hear, "uid 990")

    def _hear(self, message: Message) -> None:
        self.outlook = message.get("progress", {})

    def _renew(self) -> None:
        left_s = self._said_at_s + self._lease_s / 3 - self._clock.monotonic()
        if left_s <= 0:
            self._say()
            left_s = self._lease_s / 3
        self._later(left_s, self._renew)


# as a process


class _Pace:
    """Simulated seconds that pass `speed` times as fast as the clock's; the line is looked after meanwhile."""

    def __init__(self, line: Holds, speed: float, begin_s: float) -> None:
        self._line = line
        self._speed = speed
        self._begin_s = begin_s
        self._began = time.monotonic()

    def now_s(self) -> float:
        return self._begin_s + (time.monotonic() - self._began) * self._speed

    def wait(self, seconds: float) -> None:
        """Seconds of the clock."""
        self.until(self.now_s() + seconds * self._speed)

    def until(self, at_s: float) -> None:
        while (left_s := (at_s - self.now_s()) / self._speed) > 0:
            readable = [self._line] if self._line.connected else []
            select.select(readable, [], [], min(left_s, 1.0))
            self._line.tick()


def _opened(line: Holds, pace: _Pace, link: Path, form: int) -> Till:
    """The batch that belongs to this start of the terminal; what is on trial has to wait for it."""
    while not link.exists():
        pace.wait(WAIT_S)
    return Till(link.resolve(), form)


def take_payments(line: Holds, pace: _Pace, coming: Iterator[Customer], batch: Till | None = None) -> Iterator[str]:
    """One after the other: what became of each customer."""
    for customer in coming:
        pace.until(customer.at_s)
        with line.hold("transaction") as held:
            if not held.granted:
                yield "turned_away"
                continue
            pace.until(pace.now_s() + customer.duration_s)
            if batch is not None:
                batch.take(int(customer.duration_s * 100))
            line.paid()
            printing = line.hold("printing")
        pace.until(pace.now_s() + PRINTING_S)
        printing.release()
        yield "paid"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="posagent.sim.payment_app", description=__doc__)
    parser.add_argument("socket", help="the agent's API socket")
    parser.add_argument("--shop", choices=sorted(shops.SHOPS), default="petrol_24h")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--speed", type=float, default=1.0, help="simulated seconds a second")
    parser.add_argument("--begin-s", type=float, help="local seconds since 1970 to begin with (default: now, in UTC)")
    parser.add_argument("--customers", type=int, help="end after so many")
    parser.add_argument("--data", type=Path, help="the link to its data; without one nothing is kept")
    parser.add_argument("--format", type=int, choices=FORMATS, default=1, help="of the data")
    arguments = parser.parse_args(argv)
    line = Holds(arguments.socket, "sim-pay", trial=f"{arguments.data}.trial" if arguments.data else "")
    begin_s = time.time() if arguments.begin_s is None else arguments.begin_s
    pace = _Pace(line, arguments.speed, begin_s)
    batch = _opened(line, pace, arguments.data, arguments.format) if arguments.data else None
    coming = shops.customers(arguments.shop, arguments.seed, pace.now_s())  # who came before has gone
    for what in take_payments(line, pace, itertools.islice(coming, arguments.customers), batch):
        print(json.dumps({"at_s": round(pace.now_s(), 1), "customer": what}), flush=True)
    line.tick()
    return 0


if __name__ == "__main__":
    sys.exit(main())
