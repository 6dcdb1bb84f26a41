"""How each kind of check looks at the machine: the one place that knows them all."""

from __future__ import annotations

import re
from collections.abc import Mapping

from posagent.config import CheckConfig
from posagent.selftest import payment, performance, security, units
from posagent.selftest.checks import Probes
from posagent.selftest.finding import Finding, Given, System, Unmeasured, Value, trouble

RECEIVED_BYTES_SHOWN = 40


_AIMS: Mapping[str, tuple[str, Value]] = {
    "unit": ("unit_state", "active"),
    "timer": ("unit_file", "enabled"),
    "permissions": ("files_too_open", 0),
    "ports": ("open_ports", 0),
    "debug": ("debug_interfaces", 0),
    "keys": ("keys_missing_or_changed", 0),
}


def _aim(check: CheckConfig) -> tuple[str, Value]:
    """Measure and limit of a check that could not look."""
    if check.kind in performance.MEASURES:
        measure = performance.MEASURES[check.kind]
        return measure.name, getattr(check, measure.limit_key) or ""
    match check.kind:
        case "payment":
            return f"{check.test}_outcome", payment.expected(check)
        case "serial":
            return "handshake", check.expect
        case "state":
            return "state", check.expect
        case "digest":
            return f"{check.approved}_sha256" if check.approved else "sha256", check.sha256
        case _:
            return _AIMS[check.kind]


class Looks:
    """finding.Look over the machine; `figures` are for the baseline."""

    def __init__(self, system: System, probes: Probes) -> None:
        self._system = system
        self._probes = probes

    def look(self, check: CheckConfig, given: Given, timeout_s: float) -> Finding:
        try:
            return self._found(check, given, timeout_s)
        except OSError as error:
            wrong = trouble(error)
        except (payment.NoAnswer, units.NotUp, Unmeasured) as error:
            wrong = str(error)
        measure, limit = _aim(check)
        return Finding(wrong=wrong, measure=measure, limit=limit)

    def _found(self, check: CheckConfig, given: Given, timeout_s: float) -> Finding:
        if check.kind in performance.MEASURES:
            return performance.look(self._system, check, given.baseline, timeout_s)
        match check.kind:
            case "unit" | "timer":
                return units.look(self._system, check, timeout_s)
            case "payment":
                return payment.look(self._system, check, timeout_s)
            case "serial":
                return self._handshake(check, timeout_s)
            case "digest":
                return self._digest(check, given, timeout_s)
            case _:
                return security.look(self._system, check, given, timeout_s)

    def figures(self, check: CheckConfig, timeout_s: float) -> dict[str, float]:
        """What the baseline keeps of the check. Raises performance.Unmeasured, OSError."""
        if check.kind == "keys":
            return security.figures(check, security.check_values(self._system, check, timeout_s))
        return {check.name: performance.take(self._system, check, timeout_s)}

    def _handshake(self, check: CheckConfig, timeout_s: float) -> Finding:
        pattern = re.compile(check.expect.encode("latin-1"), re.DOTALL)
        send = bytes.fromhex(check.send_hex)
        got = self._system.handshake(
            check.device, check.baud, send, lambda data: pattern.search(data) is not None, timeout_s
        )
        said = ascii(got[:RECEIVED_BYTES_SHOWN])[1:]
        wrong = "" if pattern.search(got) else f"{check.device} answers {said} within {timeout_s:.0f} s"
        return Finding(wrong=wrong, measure="handshake", value=said, limit=check.expect)

    def _digest(self, check: CheckConfig, given: Given, timeout_s: float) -> Finding:
        """Of a file, or of what a command prints: the hash of parameters in the vendor's canonical form."""
        wanted = security.approved_digest(check, given)
        if isinstance(wanted, Finding):
            return wanted
        measure = f"{check.approved}_sha256" if check.approved else "sha256"
        if check.command:
            said = self._system.output(check.command, timeout_s).strip().lower()[:64]
            wrong: str | None = None if said == wanted.lower() else f"the digest is {said or 'not told'}"
        else:
            wrong = self._probes.digest(check.path, wanted, timeout_s)
        return Finding(wrong=wrong or "", measure=measure, limit=wanted)
