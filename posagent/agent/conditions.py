"""Everything that says when an update may go on and how long it takes: power, payments, people, the calendar.

Owns: what is seen of the surroundings between two questions (battery trend, link, which gates were open). The rules are
core's; nothing here is durable but the quiet hours (agent.habits).
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from posagent.agent.habits import Habits
from posagent.agent.payment import Payments
from posagent.agent.waits import Waits
from posagent.core import energy, estimate, packing, policy, schedule
from posagent.core.energy import Budget, EnergyLimits
from posagent.core.estimate import ACTIVATE, BYTES_UNKNOWN, INSTALL, ROLLBACK, SELFTEST, Forecast, Running
from posagent.core.hours import Calendar, parse_window
from posagent.core.link import LinkRate
from posagent.core.model import Gate, Observation, Situation, State, Update
from posagent.core.ports import Clock, Power, PowerReading
from posagent.core.trend import Trend
from posagent.core.window import Moment, Plan, Why, Wish, plan, time_of_day_known

NIGHT = parse_window("22:00-06:00")
"""The window of terminals that are to learn their quiet hours, and have not yet."""
RELEASED_S = 1_767_225_600.0
"""2026-01-01: this code is not older."""
PLAN_S = 20.0
"""A plan is good for so long, unless the update changes."""


LOCAL = ("/", "usb:")
LOCAL_BYTES_PER_S = 10e6
"""Of a stick, as a slow one reads."""
SILENT_S, MOMENT_S = 2.0, 0.9
"""After so long without a byte, those that come have come in a moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the present work is; not durable."""

    bytes_done: int = 0
    bytes_total: int = 0
    step: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """What the terminal lives on, and what an installation needs of it for `need_s` seconds; `charge_s` as in
    core.energy."""

    reading: PowerReading
    trend: Trend
    need_s: float
    budget: Budget | None
    charge_s: float | None
    capacity_wh_default: float


class Conditions:
    """Asked by the engine. `calendar` is None where updates need no window; `terminal` spreads the fleet. `up_s`, how
    long the terminal has run, is its own time where it starts with the terminal. On a `metered` link bytes count
    more than time."""

    def __init__(
        self,
        *,
        clock: Clock,
        power: Power,
        limits: EnergyLimits,
        payments: Payments | None = None,
        calendar: Calendar | None = None,
        habits: Habits | None = None,
        terminal: str = "",
        floor_s: float = 0.0,
        quiet_hours: bool = False,
        up_s: Callable[[], float] | None = None,
        metered: bool = False,
    ) -> None:
        self._clock = clock
        self.waits = Waits(clock)
        began_s = clock.monotonic()
        self.up_s = up_s or (lambda: clock.monotonic() - began_s)
        self._power = power
        self._limits = limits
        self._payments = payments
        self._calendar = calendar
        self._habits = habits
        self._terminal = terminal
        self._floor_s = floor_s
        self._quiet_hours = quiet_hours
        self._metered = metered
        self.reading = PowerReading()
        self._trend = Trend()
        self.fleet: Callable[[Update], Gate | None] = lambda _: None
        """Whether the fleet server lets an update be installed."""
        self._were_open: frozenset[str] | None = None
        self._link: tuple[str, LinkRate] | None = None
        self._fetched, self._fetched_s = 0, clock.monotonic()
        self._planned: tuple[object, float, Plan] | None = None

    def _look(self) -> PowerReading:
        self.reading = self._power.read()
        self._trend = self._trend.after(self._clock.monotonic(), self.reading)
        return self.reading

    # gates

    def gates(self, situation: Situation, seen: Observation | None, running: Running) -> tuple[Gate, ...]:
        """All gates, open and closed. Those of the restart are only asked when it is near."""
        forecast, update = self.forecast(situation, running), situation.update
        need_s = forecast.together(INSTALL, ACTIVATE, SELFTEST, ROLLBACK).p90
        near = situation.state in (State.INSTALL, State.ACTIVATE)
        found = policy.gates(
            self._look(), self._limits, seen, need_s=need_s, trend=self._trend, was_open=self._were_open, near=near
        )
        if self._payments is not None:
            reconcile = update is not None and "reconcile" in update.conditions
            found += (self._payments.gate(State.INSTALL, reconcile_first=reconcile),)
            if near:
                name = "payment_restart"
                found += (self._payments.gate(State.ACTIVATE, name=name),)
        if update is not None:
            found += self._people(update, situation, forecast)
        self._were_open = frozenset(gate.name for gate in found if gate.open)
        return found

    def supply(self, situation: Situation, running: Running) -> Supply:
        reading, limits = self._look(), self._limits
        need_s = self.forecast(situation, running).together(INSTALL, ACTIVATE, SELFTEST, ROLLBACK).p90
        asked = (reading, self._trend, limits, need_s, State.INSTALL)
        return Supply(
            reading=reading,
            trend=self._trend,
            need_s=need_s,
            budget=energy.budget(*asked),
            charge_s=energy.enough_in_s(*asked),
            capacity_wh_default=limits.capacity_wh_default,
        )

    def _people(self, update: Update, situation: Situation, forecast: Forecast) -> tuple[Gate, ...]:
        """Once it has begun, it goes on."""
        if situation.state in estimate.CRITICAL:
            return ()
        now_s = self._clock.wall()
        asked = (schedule.consent(update), self.fleet(update), self._time(update, situation, forecast, now_s))
        return tuple(gate for gate in asked if gate is not None)

    def _time(self, update: Update, situation: Situation, forecast: Forecast, now_s: float) -> Gate | None:
        if self._calendar is None:
            return schedule.deferral(update, now_s, self.shown)
        if update.at_once and update.deferred_until <= now_s:
            return schedule.at_once()
        return schedule.window(self._plan(update, situation, forecast), now_s, self.shown)

    # when, and how long

    def plan(self, situation: Situation, running: Running) -> Plan | None:
        """When the update in the situation begins, or one that would be asked for now; None where no window counts."""
        if self._calendar is None:
            return None
        return self._plan(situation.update, situation, self.forecast(situation, running))

    def _plan(self, update: Update | None, situation: Situation, forecast: Forecast) -> Plan:
        assert self._calendar is not None
        now_s, habits = self._clock.wall(), self._habits
        key = (update.id, update.deferred_until, update.deferrals, situation.state) if update is not None else None
        if self._planned is not None and self._planned[0] == key and 0 <= now_s - self._planned[1] < PLAN_S:
            return self._planned[2]
        wish = Wish(
            terminal=self._terminal,
            lead_s=forecast.together(INSTALL).p90,
            outage_s=forecast.outage.p90,
            rollback_s=forecast.together(ROLLBACK).p90,
            not_before_s=(update.deferred_until or None) if update is not None else None,
            not_after_s=(update.not_after or None) if update is not None else None,
        )
        floor_s = self._floor_of(situation)
        idle_s = habits.idle_s if habits is not None else self._clock.monotonic()
        quiet = habits.quiet if habits is not None else Habits.NOTHING
        calendar = self._calendar
        if self._quiet_hours and not calendar.windows and not quiet.learned:
            calendar = dataclasses.replace(calendar, windows=(NIGHT,))
        last = situation.last_outcome or {}
        updated_s = float(last.get("at", 0)) if last.get("restarted") else None
        moment = Moment(wall_s=now_s, floor_s=floor_s, idle_s=idle_s, up_s=self.up_s(), updated_s=updated_s)
        made = plan(wish, calendar, quiet, moment)
        # without a clock every payment puts it off: nothing to remember
        self._planned = (key, now_s, made) if made.why is not Why.CLOCK_UNKNOWN else None
        return made

    def clock_known(self, situation: Situation) -> bool:
        return time_of_day_known(self._clock.wall(), self._floor_of(situation))

    def _floor_of(self, situation: Situation) -> float:
        """The latest moment that has certainly passed."""
        update, last = situation.update, situation.last_outcome
        told = (update.requested_at if update is not None else 0.0, float(last.get("at", 0)) if last else 0.0)
        return max(self._floor_s, RELEASED_S, *told)

    def forecast(self, situation: Situation, running: Running, work: Mapping[str, float] | None = None) -> Forecast:
        update = situation.update
        return estimate.forecast(
            situation,
            profile=update.profile if update is not None else {},
            work=work,
            running=running,
            link=self._link_of(situation),
            at_s=self._clock.monotonic(),
        )

    def price(self, situation: Situation, source: str) -> float:
        """What a large operation of a bundle from there has to save (core.packing)."""
        rate = LOCAL_BYTES_PER_S
        if not source.startswith(LOCAL):
            if self._metered:
                return packing.FEWEST
            link = self._link_of(situation) or estimate.link_of(situation)
            # before it has shown itself, the installer's reading between small pieces would look like a slow link
            rate = BYTES_UNKNOWN / link.remaining(BYTES_UNKNOWN).p50 if link.shown else link.usual_bytes_per_s
        return packing.price(situation.measurements, rate)

    def _link_of(self, situation: Situation) -> LinkRate | None:
        update = situation.update
        if situation.state is not State.DOWNLOAD or update is None or self._link is None or self._link[0] != update.id:
            return None
        self._link[1].note(self._clock.monotonic(), self._fetched)  # so that silence counts
        return self._link[1]

    def downloaded(self, situation: Situation, bytes_done: int, *, anew: bool = False) -> None:
        """So much of the download is there now; `anew` after a pause in which nobody fetched."""
        update = situation.update
        if update is None:
            return
        if self._link is None or self._link[0] != update.id:
            self._link = (update.id, estimate.link_of(situation))
        now_s, link = self._clock.monotonic(), self._link[1]
        if anew:
            link.connect()
        elif now_s - self._fetched_s > SILENT_S:
            link.note(now_s - MOMENT_S, self._fetched)  # until then nothing came: the fetcher tells of every piece
        self._fetched, self._fetched_s = bytes_done, now_s
        link.note(now_s, bytes_done)

    def shown(self, at_s: float) -> str:
        """A moment as the clock on the terminal's wall shows it; with the day where that is not today."""
        offset_s = self._calendar.zone.offset_s(at_s) if self._calendar is not None else 0
        moment = datetime.datetime.fromtimestamp(at_s + offset_s, datetime.UTC)
        today = datetime.datetime.fromtimestamp(self._clock.wall() + offset_s, datetime.UTC).date()
        return f"{moment:%H:%M}" if moment.date() == today else f"{moment:%Y-%m-%d %H:%M}"
