"""Stand-ins of a terminal in one process for what it has no use for: the self-tests' probes, the shutdown inhibitor."""

from __future__ import annotations

from collections.abc import Sequence

from posagent.config import CheckConfig
from posagent.selftest import security
from posagent.selftest.finding import Finding, Given
from posagent.sim import image
from posagent.sim.layout import Layout
from posagent.sim.virtual import VirtualTime


class SimulatedProbes:
    """selftest.checks.Probes: the payment program answers unless the booted image is a broken one."""

    def __init__(self, layout: Layout, time: VirtualTime) -> None:
        self._layout = layout
        self._time = time

    def pause(self, seconds: float) -> None:
        self._time.let_pass(seconds)

    def command(self, words: Sequence[str], timeout_s: float) -> str | None:
        return None

    def tcp(self, host: str, port: int, timeout_s: float) -> str | None:
        program = (self._layout.booted_root / "pos/payment.py").read_text()
        return None if image.starts(program) else "Connection refused"

    def digest(self, path: str, sha256: str, timeout_s: float) -> str | None:
        return None

    def free_space(self, path: str, free_bytes_min: int) -> str | None:
        return None


def all_well(check: CheckConfig, given: Given, timeout_s: float) -> Finding:
    """selftest.finding.Look: what these probes do not know is as it should be, and as the proof of the slot says."""
    return security.slot(given) if check.kind == "slot" else Finding()


def same_figures(check: CheckConfig, timeout_s: float) -> dict[str, float]:
    """selftest.checks.Figures."""
    return {check.name: 1.0}


class NoInhibitor:
    """core.ports.Inhibitor where nothing could shut the terminal down."""

    def hold(self, reason: str) -> None:
        return None

    def release(self) -> None:
        return None
