"""The simulated terminal as a rig: everything a scenario needs on one machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hil.terminal import NotOnThisRig
from posagent.sim import layout
from posagent.sim.lab import Lab

FAULTS: dict[str, dict[str, str]] = {
    "none": {},
    "panic": {"boot_fault": "panic"},
    "hang": {"boot_fault": "hang"},
    "test-fails": {"broken": "missing parameters"},
}


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

    def set_power(self, *, battery_percent: int, charger: bool) -> None:
        layout.set_power(self._terminal.layout, battery=battery_percent, mains=charger)

    def set_clock_offset(self, seconds: int) -> None:
        self._terminal.layout.clock.write_text(f"{seconds:+d}\n")

    def slot_booted(self) -> str | None:
        booted: str | None = self._terminal.control("state")["booted"]
        return booted

    def ask(self, verb: str, **args: Any) -> dict[str, Any]:
        return self._terminal.ask(verb, **args)

    def wait(self, reached: Callable[[Mapping[str, Any]], object], timeout_s: float) -> dict[str, Any]:
        return self._terminal.wait(lambda status: bool(reached(status)), timeout_s)

    def wait_state(self, state: str, timeout_s: float) -> None:
        self._terminal.wait(lambda status: status["state"] == state and status["booted"] is not None, timeout_s)

    def wait_outcome(self, update_id: str, timeout_s: float) -> dict[str, Any]:
        return self._terminal.wait_outcome(update_id, timeout_s)

    def field_line(self) -> str:
        return str(self._terminal.layout.laptop)

    def engineer_ca(self) -> Path:
        return self._lab.keys / "engineer-ca"

    def publish(self, version: str, fault: str = "none") -> str:
        if fault not in FAULTS:
            raise NotOnThisRig(f"no image with the fault {fault}")
        return self._lab.publish(version, self._lab.image(version, **FAULTS[fault]))
