"""The daily restart: an update takes its place, and one that does not come leaves it where it was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from posagent.agent.conditions import Conditions
from posagent.agent.daily import DailyRestart
from posagent.core.energy import EnergyLimits
from posagent.core.hours import Calendar, FixedZone, parse_blackout, parse_daily, parse_window
from posagent.core.model import Gate, State
from posagent.release import bundle
from posagent.sim import layout
from posagent.sim.inprocess import InProcessTerminal
from posagent.sim.layout import Settings
from tests.conftest import HARDWARE, Desk

NIGHTLY = Calendar(zone=FixedZone(), windows=(parse_window("22:00-06:00"),), daily_restart_min=parse_daily("03:00"))
OPEN = Gate(name="payment", needed_for=State.ACTIVATE, open=True, reason="", reason_zh="")


class Nightly(InProcessTerminal):
    """A terminal that restarts at three; `restarts` are the hours at which it did."""

    calendar = NIGHTLY

    def __init__(self, found: layout.Layout) -> None:
        self.restarts: list[float] = []
        super().__init__(found)

    def _conditions(self) -> Conditions:
        self.conditions = Conditions(
            clock=self.time, power=self._parts.power, limits=EnergyLimits(), calendar=self.calendar
        )
        return self.conditions

    def _begun(self) -> None:
        DailyRestart(
            engine=self._engine,
            timers=self.time,
            clock=self.time,
            calendar=self.calendar,
            may=lambda: OPEN,
            up_s=self.conditions.up_s,
        ).begin()

    def boot(self) -> None:
        if self._restart:
            self.restarts.append(round(self.time.wall() % 86400 / 3600, 1))
        super().boot()

    def step(self) -> None:
        """As if the terminal had something else to do, too: time passes where nothing is planned."""
        self.time.call_later(600.0, lambda: None)
        super().step()


@pytest.fixture
def nightly(desk: Desk, short_path: Path) -> Iterator[Nightly]:
    directory = short_path / "n"
    settings = Settings(hardware=HARDWARE)
    terminal = Nightly(layout.create(directory, image=desk.images["1.0.0"], keys_dir=desk.keys, settings=settings))
    terminal.boot()
    yield terminal
    terminal.time.end()


def live_days(terminal: Nightly, days: float) -> None:
    end_s = terminal.time.wall() + days * 86400
    while terminal.time.wall() < end_s:
        terminal.step()


def test_it_restarts_once_a_day(nightly: Nightly) -> None:
    live_days(nightly, 3)
    assert nightly.restarts == [3.0, 3.0, 3.0]


def test_an_update_takes_its_place(nightly: Nightly, desk: Desk) -> None:
    nightly.ask("update", source=str(desk.bundles["2.0.0"]))
    live_days(nightly, 2)
    assert len(nightly.restarts) == 2 and nightly.situation.outcomes[-1]["outcome"] == "committed"


def test_on_the_eve_of_a_blackout_an_update_waits_for_the_restart_after_it(nightly: Nightly, desk: Desk) -> None:
    nightly.calendar = replace(NIGHTLY, blackouts=(parse_blackout("2027-01-16..2027-01-17"),))
    nightly.boot()
    live_days(nightly, 0.6)
    nightly.ask("update", source=str(desk.bundles["2.0.0"]))
    live_days(nightly, 2)
    assert nightly.restarts == [3.0, 3.0] and nightly.state is State.READY
    live_days(nightly, 1.4)
    assert len(nightly.restarts) == 4 and nightly.situation.outcomes[-1]["outcome"] == "committed"


def test_an_update_that_gets_ready_after_the_restart_waits_for_the_next_one(nightly: Nightly, desk: Desk) -> None:
    nightly.run_until(lambda one: bool(one.restarts))
    nightly.ask("update", source=str(desk.bundles["2.0.0"]))
    live_days(nightly, 0.9)
    assert nightly.restarts == [3.0] and nightly.state is State.READY
    live_days(nightly, 1)
    assert len(nightly.restarts) == 2 and nightly.situation.outcomes[-1]["outcome"] == "committed"


@pytest.mark.parametrize(("hour", "restarts"), [(2.5, 2), (1.5, 3)])
def test_an_update_at_once_stands_for_a_daily_restart_that_comes_soon(
    nightly: Nightly, desk: Desk, hour: float, restarts: int
) -> None:
    live_days(nightly, (16 + hour) / 24)
    nightly.ask("update", source=str(desk.bundles["2.0.0"]), now=True)
    live_days(nightly, 1.2)
    assert nightly.situation.outcomes[-1]["outcome"] == "committed" and len(nightly.restarts) == restarts


def test_an_update_that_is_planned_and_does_not_come_is_not_waited_for_all_night(
    nightly: Nightly, desk: Desk, tmp_path: Path
) -> None:
    asking = bundle.build(
        desk.images["2.0.0"],
        version="2.5.0",
        compatible=[HARDWARE],
        keys_dir=desk.keys,
        out=tmp_path / "asking.bundle",
        terms={"conditions": ["confirm"]},
    )
    nightly.ask("update", source=str(asking))
    live_days(nightly, 2)
    assert nightly.state is State.READY, "nobody agreed"
    assert len(nightly.restarts) == 2 and all(3.0 <= hour <= 4.1 for hour in nightly.restarts)


def test_a_clock_that_is_set_right_costs_no_day(nightly: Nightly) -> None:
    nightly.time._wall -= 20 * 365 * 86400 + 5 * 3600
    nightly.boot()
    live_days(nightly, 1.1)
    nightly.restarts.clear()
    nightly.time._wall += 20 * 365 * 86400 + 5 * 3600
    live_days(nightly, 2)
    assert nightly.restarts == [3.0, 3.0]
