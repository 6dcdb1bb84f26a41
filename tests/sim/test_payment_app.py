"""The simulated payment application: customers come as in the shop, and each is held for as long as he is there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from posagent.agent.payment import PaymentRules, Payments
from posagent.core.holds import Outlook
from posagent.core.model import State
from posagent.core.ports import Message
from posagent.sim import shops
from posagent.sim.payment_app import DAY_S, PaymentApp
from posagent.sim.virtual import VirtualTime
from tests.payment.process import ROOT, AgentProcess

MONDAY = 1_799_625_600.0
"""2027-01-11 00:00 UTC."""


class Day:
    """A shop's terminal in virtual time, without the rest of the agent; looked at after every step."""

    def __init__(self, shop: str, **how: Any) -> None:
        self.time = VirtualTime(MONDAY)
        self.outlook = Outlook()
        self.noted = 0
        self.payments = Payments(
            clock=self.time,
            timers=self.time,
            rules=PaymentRules(required=True),
            outlook=lambda: self.outlook,
            on_noted=self._note,
        )
        self.app = PaymentApp(shop=shop, seed=1, clock=self.time, timers=self.time, **how)
        self.app.start(self.call)

    def _note(self, count: int) -> None:
        self.noted += count

    def call(
        self, verb: str, args: Mapping[str, Any], reply: Callable[[Message], None], caller: str
    ) -> Callable[[], None]:
        assert verb == "payment"
        return self.payments.line(args, reply, caller)

    def pass_s(self, seconds: float) -> None:
        end_s = self.time.monotonic() + seconds
        while self.time.monotonic() < end_s:
            assert self.time.step()
            assert not (self.app.paying and self.is_open()), "a payment that nobody holds for"
            assert self.payments.problems() == ()

    def pass_until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            self.pass_s(0.001)

    def is_open(self, *, reconcile_first: bool = False) -> bool:
        return self.payments.gate(State.INSTALL, reconcile_first=reconcile_first).open


@pytest.mark.parametrize("shop", shops.SHOPS)
def test_a_week_of_a_shop_is_held_payment_by_payment_and_as_busy_as_the_shop(shop: str) -> None:
    day = Day(shop)
    day.pass_s(7 * DAY_S)
    takings, expected = day.app.takings, sum(shops.SHOPS[shop])
    assert abs(takings.taken - expected) < 5 * expected**0.5
    assert (takings.turned_away, takings.interrupted, day.noted) == (0, 0, takings.taken)
    closed = [half for half, rate in enumerate(shops.SHOPS[shop]) if rate == shops.SHOPS[shop][half - 1] == 0]
    assert all(takings.by_half_hour[half] == 0 for half in closed)
    assert takings.waited_s / takings.taken < 60


def test_the_same_customers_come_whatever_happened_before() -> None:
    first = list(zip(range(300), shops.customers("petrol_24h", 7, MONDAY), strict=False))
    later = shops.customers("petrol_24h", 7, first[200][1].at_s)
    assert [one for _, one in first[200:]] == [next(later) for _ in range(100)]
    assert next(shops.customers("petrol_24h", 8, MONDAY)) != first[0][1]
    assert all(shops.DURATION_S_MIN <= one.duration_s <= shops.DURATION_S_MAX for _, one in first)
    assert shops.half_hour_of_week(MONDAY) == 0


def test_a_terminal_that_goes_down_in_a_payment_has_interrupted_it_and_turns_the_next_away() -> None:
    day = Day("supermarket")
    day.pass_until(lambda: day.app.paying)
    day.app.stop()
    day.time.forget()
    day.time.let_pass(1800)
    day.app.start(day.call)
    assert day.app.takings.interrupted == 1 and day.app.takings.turned_away > 3
    taken = day.app.takings.taken
    day.pass_s(1800)
    assert day.app.takings.taken > taken and len(day.payments.sessions) == 1


def test_nobody_begins_a_payment_while_the_terminal_restarts() -> None:
    day = Day("supermarket")
    day.outlook = Outlook(state=State.ACTIVATE, may_hold=False)
    day.pass_s(12 * 3600)
    assert day.app.takings.taken == 0 and day.app.takings.turned_away > 50 and day.is_open()


def test_an_agent_that_starts_again_hears_of_the_payment_under_way() -> None:
    day = Day("supermarket")
    day.pass_until(lambda: day.app.paying)
    day.app.reconnect(None)
    day.time.step()  # the hang-up
    assert not day.is_open()
    day.app.reconnect(day.call)
    assert day.app.paying and day.payments.gate(State.INSTALL).reason == "a payment is under way"
    day.pass_s(3600)
    assert day.app.takings.interrupted == 0


def test_the_batch_is_unsettled_from_the_first_payment_until_the_evening() -> None:
    day = Day("lunch_kiosk", settles_at_s=18 * 3600)
    day.pass_s(10 * 3600)
    assert day.is_open(reconcile_first=True)
    day.pass_s(6 * 3600)
    assert day.is_open() and not day.is_open(reconcile_first=True)
    day.pass_s(2 * 3600)
    assert day.is_open(reconcile_first=True)
    day.pass_s(DAY_S - 2 * 3600)
    assert day.is_open() and not day.is_open(reconcile_first=True), "the next day"


@pytest.mark.real
def test_as_a_process_it_holds_for_its_payments_over_the_socket(short_path: Path) -> None:
    agent = AgentProcess(short_path / "api.sock")
    agent.up()
    noon = MONDAY + 12 * 3600
    done = subprocess.run(
        [
            *(sys.executable, "-m", "posagent.sim.payment_app", agent.path),
            *("--shop", "lunch_kiosk", "--speed", "2000", "--begin-s", str(noon), "--customers", "20"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert [json.loads(line)["customer"] for line in done.stdout.splitlines()] == ["paid"] * 20
    agent.hear(lambda one: one.get("sessions") == 0)
    told = [one["holds"] for one in agent.heard if "holds" in one]
    assert told.count(["transaction"]) == told.count(["printing", "transaction"]) == told.count(["printing"]) == 20
    assert sum(one.get("noted", 0) for one in agent.heard) == 20
    agent.down()
