"""The simulated terminal as a rig: everything a scenario needs on one machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from posagent.sim import layout
from posagent.sim.lab import Lab


class SimulatedRig:
    """hil.terminal.Terminal over posagent.sim."""

    def __init__(self, base: Path) -> None:
        self._lab = Lab(base)
        self._terminal = self._lab.terminal("t")

    def close(self) -> None:
        self._lab.close()

    def power_on(self) -> None:
        self._terminal.control("on")

    def power_off(self) -> None:
        self._terminal.control("off")

    def power_cut(self, off_s: float) -> None:
        self._terminal.control("cut", off_s=off_s)

    def set_power(self, *, battery_percent: int | None = None, charger: bool | None = None) -> None:
        layout.set_power(self._terminal.layout, battery=battery_percent, mains=charger)

    def set_clock_offset(self, seconds: int) -> None:
        self._terminal.layout.clock.write_text(f"{seconds:+d}\n")

    def slot_booted(self) -> str | None:
        booted: str | None = self._terminal.control("state")["booted"]
        return booted

    def ask(self, verb: str, **args: Any) -> dict[str, Any]:
        return self._terminal.ask(verb, **args)

    def wait_state(self, state: str, timeout_s: float) -> None:
        self._terminal.wait(lambda status: status["state"] == state and status["booted"] is not None, timeout_s)

    def wait_outcome(self, update_id: str, timeout_s: float) -> dict[str, Any]:
        return self._terminal.wait_outcome(update_id, timeout_s)

    def field_line(self) -> str:
        return str(self._terminal.layout.laptop)

    def publish(self, version: str, *, broken: str = "", boot_fault: str = "") -> str:
        return self._lab.publish(version, self._lab.image(version, broken=broken, boot_fault=boot_fault))
