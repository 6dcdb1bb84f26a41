"""What systemd says of units: whether they run, whether they will run after the next start, how long they took."""

from __future__ import annotations

from posagent.config import CheckConfig
from posagent.selftest.finding import Finding, System

_BEGAN, _UP = "InactiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic"


class NotUp(Exception):
    """The unit has not come up in this run of the kernel."""


def words(system: System, unit: str, names: tuple[str, ...], timeout_s: float) -> dict[str, str]:
    """Properties of the unit, those that are not told empty. Raises OSError."""
    command = ("systemctl", "show", *(f"--property={name}" for name in names), "--", unit)
    said = dict(line.split("=", 1) for line in system.output(command, timeout_s).splitlines() if "=" in line)
    return {name: said.get(name, "") for name in names}


def up_us(system: System, unit: str, timeout_s: float) -> tuple[float, float]:
    """When it last began to start and when it was up, in µs since the kernel's start. Raises NotUp, OSError."""
    told = words(system, unit, (_BEGAN, _UP), timeout_s)
    began, up = (float(told[name]) if told[name].isdecimal() else 0.0 for name in (_BEGAN, _UP))
    if not up or up < began:
        raise NotUp(f"{unit} is not up yet")
    return began, up


def look(system: System, check: CheckConfig, timeout_s: float) -> Finding:
    """Of the kinds `unit`, and `timer`, which must also be enabled. Raises OSError."""
    told = words(system, check.unit, ("ActiveState", "UnitFileState"), timeout_s)
    state, enabled = told["ActiveState"] or "unknown", told["UnitFileState"] or "unknown"
    if check.kind == "timer" and enabled != "enabled":
        return Finding(
            wrong=f"{check.unit} is {enabled}, not enabled", measure="unit_file", value=enabled, limit="enabled"
        )
    wrong = "" if state == "active" else f"{check.unit} is {state}, not active"
    return Finding(wrong=wrong, measure="unit_state", value=state, limit="active")
