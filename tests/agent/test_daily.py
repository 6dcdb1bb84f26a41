"""The daily restart: an update takes its place, and one that does not come leaves it where it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from posagent.agent.conditions import Conditions
from posagent.agent.daily import JOINS_S, DailyRestart
from posagent.core.energy import EnergyLimits
from posagent.core.hours import Calendar, FixedZone, parse_daily, parse_window
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

    def __init__(self, found: layout.Layout) -> None:
        self.restarts: list[float] = []
        super().__init__(found)

    def _conditions(self) -> Conditions:
        return Conditions(clock=self.time, power=self._parts.power, limits=EnergyLimits(), calendar=NIGHTLY)

    def _begun(self) -> None:
        daily = DailyRestart(engine=self._engine, timers=self.time, clock=self.time, calendar=NIGHTLY, may=lambda: OPEN)
        daily.begin()

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
    assert len(nightly.restarts) == 2 and all(3.0 <= hour <= 3.0 + JOINS_S / 3600 + 0.1 for hour in nightly.restarts)


def test_a_clock_that_is_set_right_costs_no_day(nightly: Nightly) -> None:
    nightly.time._wall -= 20 * 365 * 86400 + 5 * 3600
    nightly.boot()
    live_days(nightly, 1.1)
    nightly.restarts.clear()
    nightly.time._wall += 20 * 365 * 86400 + 5 * 3600
    live_days(nightly, 2)
    assert nightly.restarts == [3.0, 3.0]
