"""Is there enough energy to begin, and if not, what helps: the power gate.

Owns: the formula. An update needs `power x seconds x margin` (seconds: the p90 of install, restart, self-test and a
rollback); the battery has `percent x usable energy`, less a reserve. Both are compared as percent of a full battery:

    needed = max(floor, reserve + 100 x install_power_w x need_s / 3600 x margin / usable_wh), rounded up

Rules: what is not known keeps the gate closed. A charger lowers the floor but lends no energy, because a plug can be
pulled; with one exception, `carried`: where even the full battery has less than is needed, waiting longer would be
waiting for ever, so a battery that is full on a charger that has kept its level for a quarter of an hour is enough
(`charger_may_carry`), because a pulled plug then costs time and not the terminal. A charger that holds the terminal
at rest may still lose against an installation: the level then falls, and the gate before the restart closes. More
charge never closes a gate. Once closed it opens only `hysteresis_percent` higher, except where the battery can get no
fuller. Every closed gate says what the person there can do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from posagent.core import battery, sayings
from posagent.core.model import Gate, State
from posagent.core.ports import PowerReading
from posagent.core.sayings import Said
from posagent.core.trend import STEADY_S, Trend

DRAW_W_MIN = 0.1
"""Less is what a full battery loses by itself."""
NEARLY_FULL_PERCENT = 90
"""From here a level that no longer rises is as full as this battery gets."""
SLOW_FROM_PERCENT = 80
"""Above it chargers slow down to about half."""
CHARGE_PERCENT_PER_H_MIN = 3.0
"""A slower rise is not taken for how long it will take."""
WORN_HEALTH = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyLimits:
    """When there is enough energy; from the configuration.

    Floors in percent; `battery_required` is False for terminals that only run on mains. `capacity_wh_default` is used
    where the battery does not tell, `charge_percent_per_h_default` where charging was not watched for long enough.
    """

    battery_required: bool = True
    download_percent_min: int = 15
    install_percent_min: int = 30
    install_on_charger_percent_min: int = 15
    install_needs_charger: bool = False
    charger_may_carry: bool = True
    install_power_w: float = 2.5
    margin: float = 1.5
    reserve_percent: int = 5
    capacity_wh_default: float = 9.6
    temperature_c_min: float = 0.0
    temperature_c_max: float = 45.0
    hysteresis_percent: int = 3
    charge_percent_per_h_default: float = 40.0


class Supply(StrEnum):
    """What the terminal lives on."""

    BATTERY = "battery"
    CHARGER = "charger"
    WEAK = "weak"  # plugged in, and the battery is emptied all the same
    IDLE = "idle"  # plugged in, but the battery is not charged


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Have and need. `needed_percent` above 100 is more than the full battery holds; `full` is as full as it gets."""

    percent: int
    floor_percent: int
    needed_percent: int
    usable_wh: float
    have_wh: float
    need_wh: float
    supply: Supply
    full: bool
    carried: bool


def supply(reading: PowerReading, trend: Trend) -> Supply:
    """A single look can catch a printer at work: what half an hour says about the charger counts for more."""
    if not reading.plugged:
        return Supply.BATTERY
    emptied = reading.draw_w is not None and reading.draw_w > DRAW_W_MIN
    if trend.falling or (emptied and not trend.rising):
        return Supply.WEAK
    return Supply.IDLE if reading.charging is False and not trend.steady and not trend.rising else Supply.CHARGER


def floor_percent(limits: EnergyLimits, needed_for: State, source: Supply) -> int:
    """The level below which nothing begins, however little it needs.

    What has been installed has used some of the charge that was asked for: to go on, the lower floor is enough.
    """
    if needed_for is State.DOWNLOAD:
        return limits.download_percent_min
    if source is Supply.CHARGER:
        return limits.install_on_charger_percent_min
    if needed_for in (State.READY, State.INSTALL):
        return limits.install_percent_min
    return min(limits.install_percent_min, limits.install_on_charger_percent_min)


def budget(
    reading: PowerReading,
    trend: Trend,
    limits: EnergyLimits,
    need_s: float,
    needed_for: State,
    source: Supply | None = None,
) -> Budget | None:
    """None where the level or the need is not known. `source` asks what would be on another supply."""
    percent = battery.believed_percent(reading)
    if percent is None or not 0.0 <= need_s < math.inf:
        return None
    trend = trend if trend.plugged is reading.plugged else Trend()
    source = supply(reading, trend) if source is None else source
    usable = max(battery.usable_wh(reading, limits.capacity_wh_default), 0.01)
    need_wh = limits.install_power_w * need_s / 3600 * limits.margin
    floor = floor_percent(limits, needed_for, source)
    needed = max(floor, math.ceil(limits.reserve_percent + 100 * need_wh / usable)) if need_wh > 0 else floor
    full = percent >= 100 or (reading.plugged and _is_full(reading, trend, percent))
    return Budget(
        percent=percent,
        floor_percent=floor,
        needed_percent=needed,
        usable_wh=usable,
        have_wh=usable * max(percent - limits.reserve_percent, 0) / 100,
        need_wh=need_wh,
        supply=source,
        full=full,
        carried=limits.charger_may_carry
        and source is Supply.CHARGER
        and full
        and (trend.steady or trend.rising)
        and floor <= percent < needed,
    )


def _is_full(reading: PowerReading, trend: Trend, percent: int) -> bool:
    return percent >= NEARLY_FULL_PERCENT and (reading.battery_full or trend.steady)


def charge_s(percent: int, target_percent: int, trend: Trend, limits: EnergyLimits) -> float:
    """Seconds on a charger until the battery has the level: at the rate that was seen, else at a usual one."""
    seen = trend.percent_per_h if trend.plugged else None
    rate = seen if seen is not None and seen >= CHARGE_PERCENT_PER_H_MIN else limits.charge_percent_per_h_default
    slow = max(0, target_percent - max(percent, SLOW_FROM_PERCENT))
    if rate is seen and percent >= SLOW_FROM_PERCENT:
        slow = 0
    return 3600 * max(0, target_percent - percent + slow) / rate


def enough_in_s(
    reading: PowerReading, trend: Trend, limits: EnergyLimits, need_s: float, needed_for: State
) -> float | None:
    """Seconds on a charger until there is enough, 0 where there is or where being on it is enough; None where nobody
    knows, or no waiting helps."""
    found = budget(reading, trend, limits, need_s, needed_for)
    there = budget(reading, trend, limits, need_s, needed_for, Supply.CHARGER)
    if found is None or there is None:
        return None
    if found.percent >= found.needed_percent or found.carried:
        return 0.0
    too_small = there.needed_percent > 100
    if found.supply in (Supply.WEAK, Supply.IDLE) or (too_small and not limits.charger_may_carry):
        return None
    return charge_s(found.percent, 100 if too_small else _higher(there.needed_percent, limits), trend, limits)


def gate(
    reading: PowerReading,
    trend: Trend,
    limits: EnergyLimits,
    need_s: float,
    *,
    name: str,
    needed_for: State,
    was_open: bool = True,
) -> Gate:
    """The power gate for `needed_for`, open or closed. `trend` has already seen `reading`; `need_s` are the seconds
    (p90) that the battery must last; `was_open` is what the gate was when last asked, True before that."""

    def closed(said: Said, remedy: Said) -> Gate:
        return Gate(
            name=name,
            needed_for=needed_for,
            open=False,
            reason=said[0],
            reason_zh=said[1],
            remedy=remedy[0],
            remedy_zh=remedy[1],
        )

    def opened(said: Said) -> Gate:
        return Gate(name=name, needed_for=needed_for, open=True, reason=said[0], reason_zh=said[1])

    if not limits.battery_required and reading.battery_present is not True:
        return opened(sayings.MAINS_ONLY)
    if reading.battery_percent is None:
        said = sayings.NO_BATTERY if reading.battery_present is False else sayings.LEVEL_UNKNOWN
        return closed(said, sayings.SEAT_BATTERY)
    trend = trend if trend.plugged is reading.plugged else Trend()
    found = budget(reading, trend, limits, need_s, needed_for)
    if found is None:
        return closed(sayings.NEED_UNKNOWN, sayings.CALL_SERVICE)
    if needed_for is not State.DOWNLOAD:
        if reading.temperature_c is not None and reading.temperature_c < limits.temperature_c_min:
            return closed(sayings.too_cold(reading.temperature_c, limits.temperature_c_min), sayings.WARM_UP)
        if reading.temperature_c is not None and reading.temperature_c > limits.temperature_c_max:
            return closed(sayings.too_hot(reading.temperature_c, limits.temperature_c_max), sayings.COOL_DOWN)
        if limits.install_needs_charger and found.supply is Supply.BATTERY:
            return closed(sayings.NOT_ON_CHARGER, sayings.CONNECT)
        if limits.install_needs_charger and found.supply is Supply.WEAK:
            return closed(sayings.WEAK, sayings.BETTER_CHARGER)
    asked = found.needed_percent
    if not (was_open or found.full or (reading.plugged and trend.steady)):
        asked = _higher(asked, limits)
    if found.carried:
        return opened(sayings.carried(found.need_wh, found.usable_wh))
    reason = _reason(found, asked, reading, limits, need_s)
    if found.percent >= asked:
        return opened(reason)
    return closed(reason, _remedy(found, reading, trend, limits, need_s, needed_for))


def _higher(needed_percent: int, limits: EnergyLimits) -> int:
    """Where a closed gate opens: never above a full battery because of the hysteresis."""
    return max(needed_percent, min(needed_percent + limits.hysteresis_percent, 100))


def _reason(found: Budget, asked: int, reading: PowerReading, limits: EnergyLimits, need_s: float) -> Said:
    """Have and need, and what is wrong with the battery or the charger where that is why."""
    by_energy = found.needed_percent > found.floor_percent
    if found.needed_percent > 100:
        said = sayings.too_small(found.need_wh, found.usable_wh)
    else:
        needed = found.needed_percent if found.percent < found.needed_percent else asked
        said = sayings.have_and_need(found.percent, needed, need_s if by_energy else None)
    notes: list[Said] = []
    if found.percent >= asked:
        return said
    if found.supply is Supply.WEAK:
        notes.append(sayings.WEAK)
    if found.supply is Supply.IDLE:
        notes.append(sayings.NOT_CHARGED)
    if reading.battery_percent is not None and found.percent < reading.battery_percent:
        notes.append(sayings.sags(reading.battery_percent))
    if by_energy and battery.health(reading, limits.capacity_wh_default) < WORN_HEALTH:
        notes.append(sayings.WORN)
    if by_energy and battery.warmth(reading.temperature_c) < 1.0 and reading.temperature_c is not None:
        notes.append(sayings.COLD if reading.temperature_c < battery.WARM_C else sayings.HOT)
    return sayings.with_notes(said, notes)


def _remedy(
    found: Budget,
    reading: PowerReading,
    trend: Trend,
    limits: EnergyLimits,
    need_s: float,
    needed_for: State,
) -> Said:
    if found.supply is Supply.WEAK:
        return sayings.BETTER_CHARGER
    if found.supply is Supply.IDLE:
        return sayings.CHECK_CONTACTS
    there = budget(reading, trend, limits, need_s, needed_for, Supply.CHARGER)
    assert there is not None, "the level and the need are known here"
    charging = found.supply is Supply.CHARGER
    too_small = there.needed_percent > 100
    if charging and found.full and limits.charger_may_carry and found.percent >= found.floor_percent:
        return sayings.fill(STEADY_S - trend.span_s)  # it has yet to show that it keeps the level
    if (charging and found.full) or (too_small and not limits.charger_may_carry):
        return sayings.BATTERY_SPENT
    if charging and trend.steady:
        return sayings.RISES_NOT
    target = 100 if too_small else _higher(there.needed_percent, limits)
    seconds = charge_s(found.percent, target, trend, limits)
    if too_small:
        return sayings.fill(seconds) if charging else sayings.connect_and_fill(seconds)
    return sayings.charge(seconds, target) if charging else sayings.connect(seconds)
