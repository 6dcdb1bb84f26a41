"""An independent judge of every start: window, deadline, holds, consent and energy by rules of its own.

Never: asks the agent's gates, its window planner or its energy formula. From the agent it takes what it foretold of
the phases, because that is what it promised to fit in; everything else is the world's own state.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

from posagent.core.model import Update
from tests.days.battery import Battery
from tests.days.cast import Role
from tests.days.merchant import Merchant

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
INSTALL_W, MARGIN, RESERVE, GAUGE = 2.5, 1.5, 5.0, 1.0
"""As docs/power.md says; the gauge is right to a percent."""
FLOOR, FLOOR_ON_CHARGER, FLOOR_TO_GO_ON = 30.0, 15.0, 15.0
MINUTE_S = 60.0
IDLE_S = 1800.0


class WallClock:
    """Whether a moment is inside of the windows, by what the clock on the wall shows."""

    def __init__(self, zone: str, windows: Sequence[str], blackout: Sequence[str]) -> None:
        self.zone = ZoneInfo(zone)
        self._windows = [self._parsed(text) for text in windows]
        self._black: set[datetime.date] = set()
        for text in blackout:
            first, last = (datetime.date.fromisoformat(one) for one in text.split(".."))
            self._black |= {first + datetime.timedelta(days=step) for step in range((last - first).days + 1)}

    @staticmethod
    def _parsed(text: str) -> tuple[frozenset[int], datetime.time, datetime.time]:
        days, _, hours = text.rpartition(" ")
        named: set[int] = set(range(7)) if not days else set()
        for part in days.split(",") if days else ():
            first, _, last = part.partition("-")
            named |= set(range(WEEKDAYS.index(first), WEEKDAYS.index(last or first) + 1))
        begin, end = (datetime.time.fromisoformat(one) for one in hours.split("-"))
        return frozenset(named), begin, end

    def local(self, at_s: float) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(at_s, self.zone)

    def inside(self, at_s: float) -> bool:
        shown = self.local(at_s)
        today, now = shown.date(), shown.time()
        if today in self._black:
            return False
        if not self._windows:
            return True
        yesterday = today - datetime.timedelta(days=1)
        for days, begin, end in self._windows:
            if begin < end:
                if today.weekday() in days and begin <= now < end:
                    return True
            elif (today.weekday() in days and now >= begin) or (yesterday.weekday() in days and now < end):
                return True
        return False

    def end_s(self, at_s: float) -> float:
        """When the window of that moment ends; looked for two days ahead."""
        at = at_s - at_s % MINUTE_S
        for _ in range(2 * 1440):
            at += MINUTE_S
            if not self.inside(at):
                return at
        return math.inf


@dataclass(slots=True, kw_only=True)
class Start:
    """An installation that began, and what the judge says to it. `pressed`: by its deadline there is no daily restart
    in a window."""

    at_s: float
    local: str
    update: str
    exempt: str
    pressed: bool
    ends_s: float
    need_s: float
    battery_percent: float
    plugged: bool
    overruns: bool
    faults: list[str] = field(default_factory=list)


def judged_energy(battery: Battery, need_s: float, floor: float) -> str:
    """Why there was too little energy, or nothing."""
    percent, usable_wh = battery.percent, battery.age.full_wh
    if battery.plugged and floor == FLOOR:
        floor = FLOOR_ON_CHARGER
    needed = max(floor, RESERVE + 100 * INSTALL_W * need_s / 3600 * MARGIN / usable_wh)
    if percent + GAUGE >= needed:
        return ""
    if battery.plugged and needed > 100 - 3 and percent >= 90:
        return ""  # full, and carried by the charger
    return f"energy: {percent:.0f} % of {usable_wh:.1f} Wh, {needed:.0f} % needed"


class Judge:
    """Of one terminal."""

    def __init__(self, role: Role, battery: Battery, merchant: Merchant) -> None:
        self.wall = WallClock(role.hours.zone, role.hours.install, role.blackout)
        self._role, self._battery, self._merchant = role, battery, merchant
        self.starts: list[Start] = []
        self.violations: list[str] = []

    def _people(self, update: Update, *, near: bool = False) -> list[str]:
        faults = []
        if self._merchant.holding:
            faults.append("hold: somebody is being served")
        if "reconcile" in update.conditions and self._merchant.unsettled:
            faults.append("hold: the batch is not settled")
        if not near and "confirm" in update.conditions and not update.consent_by:
            faults.append("consent: nobody agreed")
        return faults

    def exempt(self, update: Update, at_s: float, clock_off_s: float, idle_s: float) -> str:
        """Why windows do not count, or nothing."""
        if update.at_once:
            return "at once"
        if update.not_after and update.not_after <= at_s + clock_off_s:
            return "deadline"
        if clock_off_s < -86400 and idle_s >= IDLE_S - 1:
            return "clock"
        return ""

    def _pressed(self, update: Update, at_s: float) -> bool:
        daily, at = self._role.hours.daily_restart, at_s - at_s % MINUTE_S
        while daily and at < update.not_after:
            if self.wall.inside(at) and f"{self.wall.local(at):%H:%M}" == daily:
                return False
            at += MINUTE_S
        return bool(update.not_after)

    def start(
        self, update: Update, spans: Mapping[str, float], *, at_s: float, clock_off_s: float, idle_s: float, again: bool
    ) -> None:
        """The installation begins; `spans` has the agent's p90 of energy (`need`) and of lead + outage + rollback
        (`whole`). `again`: it goes on after trouble, once begun it is not asked for the window."""
        self._battery.advance()
        exempt = self.exempt(update, at_s, clock_off_s, idle_s)
        ends_s = self.wall.end_s(at_s) if self.wall.inside(at_s) else at_s
        overruns = not exempt and not again and at_s + spans["whole"] > ends_s
        start = Start(
            at_s=at_s,
            local=f"{self.wall.local(at_s):%a %d %H:%M}",
            update=update.id,
            exempt=exempt,
            pressed=self._pressed(update, at_s),
            ends_s=ends_s,
            need_s=spans["need"],
            battery_percent=self._battery.percent,
            plugged=self._battery.plugged,
            overruns=overruns,
        )
        if not again:
            start.faults += self._people(update)
            if not exempt and not self.wall.inside(at_s):
                start.faults.append("window: outside")
            put_off_s = update.deferred_until - (at_s + clock_off_s)
            # longer than a day is one by the clock as it was before: nobody knows how much of it is left
            if put_off_s > 0 and exempt != "deadline" and not (exempt == "clock" and put_off_s > 86400):
                start.faults.append("deferral: put off until later")
        elif self._merchant.holding:
            start.faults.append("hold: somebody is being served")
        if trouble := judged_energy(self._battery, spans["need"], FLOOR):
            start.faults.append(trouble)
        self.starts.append(start)
        self.violations += [f"{self._role.name} {start.local} {update.id} install: {fault}" for fault in start.faults]

    def restart(self, update: Update | None, need_s: float, at_s: float) -> None:
        """The terminal is about to restart, for an update or the day."""
        faults = self._people(update, near=True) if update is not None else []
        if update is None and self._merchant.holding:
            faults.append("hold: somebody is being served")
        if update is not None:
            self._battery.advance()
            if trouble := judged_energy(self._battery, need_s, FLOOR_TO_GO_ON):
                faults.append(trouble)
        local = f"{self.wall.local(at_s):%a %d %H:%M}"
        self.violations += [f"{self._role.name} {local} restart: {fault}" for fault in faults]


def summary(start: Start) -> dict[str, Any]:
    return {name: getattr(start, name) for name in start.__slots__}
