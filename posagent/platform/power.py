"""Battery and mains as Linux shows them under /sys/class/power_supply.

Rules: a supply whose scope is "Device" powers a peripheral, not the terminal. A value that is missing, unreadable or
no number is unknown; with several batteries the weakest counts.
Source: Linux Documentation/ABI/testing/sysfs-class-power.
"""

from __future__ import annotations

from pathlib import Path

from posagent.core.ports import PowerReading

SUPPLIES_MAX = 32
_MAINS = ("Mains", "USB", "Wireless")


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
        batteries = [supply for supply in supplies if _text(supply / "type") == "Battery"]
        mains = [_text(supply / "online") for supply in supplies if _text(supply / "type") in _MAINS]
        return PowerReading(
            battery_present=bool(batteries),
            battery_percent=self._weakest(batteries),
            charging=self._charging(batteries),
            mains=None if not mains else any(value not in (None, "0") for value in mains),
        )

    def _weakest(self, batteries: list[Path]) -> int | None:
        levels = [_percent(battery / "capacity") for battery in batteries]
        known = [level for level in levels if level is not None]
        return min(known) if known and len(known) == len(levels) else None

    def _charging(self, batteries: list[Path]) -> bool | None:
        states = [_text(battery / "status") for battery in batteries]
        if not states or None in states:
            return None
        return any(state in ("Charging", "Full") for state in states)
