"""What a scenario may do to a terminal, whether it is simulated, in QEMU or on a bench.

Rules: a scenario observes; it never assumes. Every wait has a deadline in seconds and raises TimeoutError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol


class NotOnThisRig(Exception):
    """The rig cannot do this; the scenario is skipped, never passed."""


class Terminal(Protocol):
    """One terminal on a rig."""

    def power_on(self) -> None: ...

    def power_off(self) -> None: ...

    def power_cut(self, off_s: float) -> None:
        """Take the power away without warning and give it back after `off_s` seconds."""

    def set_power(self, *, battery_percent: int, charger: bool) -> None:
        """What the terminal sees of battery and charger from now on, also after a power cut. Raises NotOnThisRig."""

    def set_clock_offset(self, seconds: int) -> None:
        """From the next start on the terminal's clock is this far off."""

    def slot_booted(self) -> str | None:
        """The slot that runs now; None while none does."""

    def ask(self, verb: str, **args: Any) -> dict[str, Any]:
        """A verb of the agent's API. Raises posagent.core.errors.PosagentError."""

    def wait(self, reached: Callable[[Mapping[str, Any]], object], timeout_s: float) -> dict[str, Any]:
        """The status, asked for again and again until `reached` holds for it, across restarts."""

    def wait_state(self, state: str, timeout_s: float) -> None:
        """Until the agent knows its slots and reports that state."""

    def wait_outcome(self, update_id: str, timeout_s: float) -> dict[str, Any]:
        """How that update ended, across restarts and power cuts."""

    def field_line(self) -> str:
        """Device path of the laptop's end of the serial line."""

    def engineer_ca(self) -> Path:
        """The private key that certifies engineers on this terminal. Raises NotOnThisRig."""

    def bundle(self, version: str) -> Path:
        """A bundle of a new image that is offered nowhere. Raises NotOnThisRig."""

    def publish(self, version: str, fault: str = "none") -> str:
        """Offer a new image to the terminal and return the address of its bundle. Raises NotOnThisRig.

        `fault`: none; the kernel panics; the system hangs, so that the hardware watchdog must bite; agent-dead: the
        agent cannot start; test-fails, test-hangs; migrates: none, the merchant's data has another format there;
        migrates-test-fails.
        """

    def publish_parameters(self, version: str, values: Mapping[str, Any]) -> str:
        """Offer parameters alone, and return the address of their bundle. Raises NotOnThisRig."""

    def pay(self) -> None:
        """Take a payment as soon as one may begin, and wait until it is acknowledged. Raises NotOnThisRig."""

    def payments(self) -> int:
        """How many the payment program has; it says itself that none is missing or damaged. Raises NotOnThisRig."""

    def parameters(self) -> dict[str, Any]:
        """Those that the payment program goes by. Raises NotOnThisRig."""
