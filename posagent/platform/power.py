"""Battery and mains as Linux shows them under /sys/class/power_supply.

Rules: a supply whose scope is "Device" powers a peripheral, not the terminal. A value that is missing, unreadable, no
number or out of all reason is unknown. With several batteries energies and draw are added up, of everything else the
worst counts, and what one of them does not tell is not known of the whole.
Source: Linux Documentation/ABI/testing/sysfs-class-power.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from posagent.core import battery as batteries
from posagent.core.ports import PowerReading

SUPPLIES_MAX = 32
_MAINS = ("Mains", "USB", "Wireless")
_NUMBER = re.compile(r"-?[0-9]{1,12}")

ENERGY_WH = (0.5, 500.0)
VOLTAGE_V = (2.0, 30.0)
TEMPERATURE_C = (-40.0, 100.0)
DRAW_W_MAX = 100.0
MICRO = 1_000_000
CYCLES = (1, 20_000)
"""Drivers that do not count say 0."""

_T = TypeVar("_T")


def _text(path: Path) -> str | None:
    try:
        with path.open("rb") as stream:
            return stream.read(64).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _percent(path: Path) -> int | None:
    text = _text(path)
    if text is None or not text.isdigit() or len(text) > 3 or int(text) > 100:
        return None
    return int(text)


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text is not None and _NUMBER.fullmatch(text) else None


def _scaled(path: Path, per_unit: int, low: float, high: float) -> float | None:
    number = _number(path)
    return None if number is None else _within(number / per_unit, low, high)


def _within(value: float | None, low: float, high: float) -> float | None:
    return value if value is not None and low <= value <= high else None


@dataclass(frozen=True, slots=True)
class _Battery:
    """The files of one battery."""

    path: Path

    @property
    def status(self) -> str | None:
        return _text(self.path / "status")

    @property
    def percent(self) -> int | None:
        """The gauge's percent; where the driver has none, what is left of what it holds."""
        if (self.path / "capacity").exists():
            return _percent(self.path / "capacity")
        for kind in ("energy", "charge"):
            now, full = _number(self.path / f"{kind}_now"), _number(self.path / f"{kind}_full")
            if now is not None and full is not None and 0 <= now <= full and full > 0:
                return 100 * now // full
        return None

    @property
    def full_wh(self) -> float | None:
        return self._wh("full")

    @property
    def design_wh(self) -> float | None:
        return self._wh("full_design")

    def _wh(self, which: str) -> float | None:
        told = _scaled(self.path / f"energy_{which}", MICRO, *ENERGY_WH)
        charge_ah = _scaled(self.path / f"charge_{which}", MICRO, 0.0, ENERGY_WH[1])
        if told is not None or charge_ah is None or self._nominal_v is None:
            return told
        return _within(charge_ah * self._nominal_v, *ENERGY_WH)

    @property
    def _nominal_v(self) -> float | None:
        """What to count charge with. The present voltage of a full battery would promise an eighth too much."""
        design = _scaled(self.path / "voltage_min_design", MICRO, *VOLTAGE_V)
        now = self.voltage_v
        if design is not None or now is None:
            return design
        count = batteries.cells(now, self.technology)
        return now if count is None else min(now, count * batteries.NOMINAL_CELL_V)

    @property
    def cycles(self) -> int | None:
        number = _number(self.path / "cycle_count")
        return number if number is not None and CYCLES[0] <= number <= CYCLES[1] else None

    @property
    def temperature_c(self) -> float | None:
        return _scaled(self.path / "temp", 10, *TEMPERATURE_C)

    @property
    def voltage_v(self) -> float | None:
        return _scaled(self.path / "voltage_now", MICRO, *VOLTAGE_V)

    @property
    def technology(self) -> str | None:
        return _text(self.path / "technology") or None

    @property
    def draw_w(self) -> float | None:
        """Drivers do not agree on the sign of a current; the status says which way it flows. Where it says neither,
        a negative one empties the battery, as the ABI has it."""
        watts = _scaled(self.path / "power_now", MICRO, -DRAW_W_MAX, DRAW_W_MAX)
        amperes, volts = _scaled(self.path / "current_now", MICRO, -DRAW_W_MAX, DRAW_W_MAX), self.voltage_v
        if watts is None and amperes is not None and volts is not None:
            watts = _within(amperes * volts, -DRAW_W_MAX, DRAW_W_MAX)
        if watts is None:
            return None
        status = self.status
        if status == "Discharging":
            return abs(watts)
        if status == "Charging":
            return -abs(watts)
        return abs(watts) if watts <= 0 else None


def _worst(values: list[_T | None], choose: Callable[[list[_T]], _T]) -> _T | None:
    """Of all batteries; None where one does not tell."""
    known = [value for value in values if value is not None]
    return choose(known) if known and len(known) == len(values) else None


def _furthest(temperatures_c: list[float]) -> float:
    return max(temperatures_c, key=lambda value: abs(value - batteries.WARM_C))


def _least_known(technologies: list[str]) -> str:
    return next((one for one in technologies if one != technologies[0]), technologies[0])


class SysfsPower:
    """core.ports.Power over a directory of power supplies."""

    def __init__(self, supply_dir: str) -> None:
        self._dir = Path(supply_dir)

    def _supplies(self) -> list[Path] | None:
        try:
            found = sorted(self._dir.iterdir())[:SUPPLIES_MAX]
        except OSError:
            return None
        return [supply for supply in found if _text(supply / "scope") != "Device"]

    def read(self) -> PowerReading:
        supplies = self._supplies()
        if supplies is None:
            return PowerReading()
        found = [_Battery(supply) for supply in supplies if _text(supply / "type") == "Battery"]
        mains = [_text(supply / "online") for supply in supplies if _text(supply / "type") in _MAINS]
        states = [one.status for one in found]
        return PowerReading(
            battery_present=bool(found),
            battery_percent=_worst([one.percent for one in found], min),
            charging=_charging(states),
            mains=None if not mains else any(value not in (None, "0") for value in mains),
            battery_full=bool(states) and all(state == "Full" for state in states),
            battery_full_wh=_worst([one.full_wh for one in found], sum),
            battery_design_wh=_worst([one.design_wh for one in found], sum),
            cycles=_worst([one.cycles for one in found], max),
            temperature_c=_worst([one.temperature_c for one in found], _furthest),
            voltage_v=_worst([one.voltage_v for one in found], min),
            draw_w=_worst([one.draw_w for one in found], sum),
            technology=_worst([one.technology for one in found], _least_known),
        )


def _charging(states: list[str | None]) -> bool | None:
    if not states or None in states:
        return None
    return any(state in ("Charging", "Full") for state in states)
