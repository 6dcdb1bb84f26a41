"""The simulated terminal as a rig: everything a scenario needs on one machine."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from posagent import wire
from posagent.core.errors import PosagentError
from posagent.sim import layout
from posagent.sim.lab import Lab
from posagent.sim.till import Till

FAULTS: dict[str, dict[str, Any]] = {
    "none": {},
    "panic": {"boot_fault": "panic"},
    "hang": {"boot_fault": "hang"},
    "agent-dead": {"boot_fault": "agent-dead"},
    "test-fails": {"broken": "missing parameters"},
    "test-hangs": {"hangs": True},
    "migrates": {"data_format": 2},
    "migrates-test-fails": {"data_format": 2, "broken": "missing parameters"},
}
TRIAL_S = 30.0
"""Three of them pass when the agent is dead; a version whose test hangs must have failed within one."""
CHECK_S = 1
TOLD_S, PAUSE_S = 10.0, 0.02
DESERTED = 1e-6
"""Speed of a shop whose payment program runs, and whose only customer is the rig."""


class _Seen(Exception):
    """The state that was waited for."""


class SimulatedRig:
    """hil.terminal.Terminal over posagent.sim."""

    def __init__(self, base: Path) -> None:
        self._lab = Lab(base)
        self._terminal = self._lab.terminal(
            "t", shop="petrol_24h", shop_speed=DESERTED, trial_timeout_s=TRIAL_S, check_timeout_s=CHECK_S
        )

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
        """As the API tells it, which misses no state; some last shorter than a question would take."""
        deadline = time.monotonic() + timeout_s

        def look(status: Mapping[str, Any]) -> None:
            if status["state"] == state and status["booted"] is not None:
                raise _Seen

        while (left := deadline - time.monotonic()) > 0:
            try:
                wire.call(str(self._terminal.layout.api), "watch", {}, on_progress=look, timeout_s=min(left, TOLD_S))
            except _Seen:
                return
            except PosagentError:
                time.sleep(PAUSE_S)  # it restarts, or nothing changed for long
        raise TimeoutError(f"{state} not reached in {timeout_s:.0f} s")

    def wait_outcome(self, update_id: str, timeout_s: float) -> dict[str, Any]:
        return self._terminal.wait_outcome(update_id, timeout_s)

    def field_line(self) -> str:
        return str(self._terminal.layout.laptop)

    def engineer_ca(self) -> Path:
        return self._lab.keys / "engineer-ca"

    def bundle(self, version: str) -> Path:
        return self._lab.bundle(version)

    def publish(self, version: str, fault: str = "none") -> str:
        return self._lab.publish(version, self._lab.image(version, **FAULTS[fault]))

    def publish_parameters(self, version: str, values: Mapping[str, Any]) -> str:
        return self._lab.publish_parameters(version, values)

    def pay(self) -> None:
        till = self._till()
        till.take(100)
        till.close()

    def payments(self) -> int:
        till = self._till()
        stans = [stan for stan, _ in till.payments()]
        till.close()
        assert stans == list(range(1, len(stans) + 1)), stans
        return len(stans)

    def _till(self) -> Till:
        """As a payment program of the running version opens it, when its data is there."""
        link, deadline = self._terminal.layout.data_link, time.monotonic() + TOLD_S
        while not link.exists() and time.monotonic() < deadline:
            time.sleep(PAUSE_S)
        return Till(link.resolve(strict=True), self._terminal.layout.data_format)

    def parameters(self) -> dict[str, Any]:
        path = self._terminal.layout.parameters
        return json.loads(path.read_text()) if path.exists() else {}
