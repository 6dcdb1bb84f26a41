"""The suite `performance`: figures of the running version, held against limits and against the old version's.

Owns: how each figure is taken, which direction is worse, and how much of a difference is only noise.
Rules: of a few runs the best counts, because whatever else runs can only make a figure worse. A figure of the old
version that is missing is said, not made up; then only the absolute limit holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from posagent.config import CheckConfig
from posagent.selftest import payment, units
from posagent.selftest.finding import Finding, System, Unmeasured

P95 = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """`name` ends in the unit. `noise`: differences from the old version up to this are none."""

    name: str
    more_is_worse: bool
    limit_key: str
    noise: float
    take: Callable[[System, CheckConfig, float], float]

    def worse(self, value: float, than: float) -> bool:
        return value > than if self.more_is_worse else value < than

    def allowed(self, before: float, worse_percent_max: int) -> float:
        """The worst that is still accepted of what was `before`."""
        part = before * worse_percent_max / 100
        if self.more_is_worse:
            return before + max(part, self.noise)
        return before - max(part, self.noise)


def _boot_ms(system: System, check: CheckConfig, timeout_s: float) -> float:
    """From the kernel's start until the unit was up, or as the file at `path` says."""
    if not check.unit:
        return _number(system.text(check.path), check.path) * 1000
    return units.up_us(system, check.unit, timeout_s)[1] / 1000


def _start_ms(system: System, check: CheckConfig, timeout_s: float) -> float:
    """From the start of the payment application until it could take a payment."""
    if check.unit:
        began, up = units.up_us(system, check.unit, timeout_s)
        return (up - began) / 1000
    answer = payment.ask(system, check, "start", "ok", timeout_s)
    ms = answer.get("ms")
    if type(ms) not in (int, float) or not 0 <= float(ms) < math.inf:  # type: ignore[arg-type]
        raise Unmeasured("the payment application does not tell its `ms`")
    return float(ms)  # type: ignore[arg-type]


def _transaction_ms(system: System, check: CheckConfig, timeout_s: float) -> float:
    """The time that 95 of 100 dummy transactions stay within. A run that the time ends early does not count."""
    until, best = system.monotonic() + timeout_s, math.inf
    for _ in range(check.runs):
        taken: list[float] = []
        try:
            while len(taken) < check.count:
                taken.append(_one_transaction_ms(system, check, until))
        except TimeoutError:
            if best == math.inf:
                raise Unmeasured(f"only {len(taken)} of {check.count} transactions within {timeout_s:.0f} s") from None
            return best
        best = min(best, sorted(taken)[math.ceil(P95 * len(taken)) - 1])
    return best


def _one_transaction_ms(system: System, check: CheckConfig, until: float) -> float:
    """Raises TimeoutError, Unmeasured where it had another outcome."""
    wanted, began = payment.expected(check), system.monotonic()
    if began >= until:
        raise TimeoutError
    answer = payment.ask(system, check, "transaction", wanted, until - began)
    if answer["outcome"] != wanted:
        raise Unmeasured(f"a dummy transaction: {answer['outcome'][:80]}, expected {wanted}")
    return (system.monotonic() - began) * 1000


def _memory_kib(system: System, check: CheckConfig, timeout_s: float) -> float:
    for line in system.text("/proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return _number(rest.replace("kB", ""), "/proc/meminfo")
    raise Unmeasured("the kernel does not tell MemAvailable")


def _write_kib_per_s(system: System, check: CheckConfig, timeout_s: float) -> float:
    until, best = system.monotonic() + timeout_s, 0.0
    for _ in range(check.runs):
        best = max(best, check.write_bytes / 1024 / max(system.write_s(check.path, check.write_bytes), 1e-6))
        if system.monotonic() >= until:
            break
    return best


MEASURES: Mapping[str, Measure] = {
    "boot_time": Measure(name="boot_time_ms", more_is_worse=True, limit_key="ms_max", noise=1000.0, take=_boot_ms),
    "start_time": Measure(name="start_time_ms", more_is_worse=True, limit_key="ms_max", noise=200.0, take=_start_ms),
    "transaction_time": Measure(
        name="transaction_p95_ms", more_is_worse=True, limit_key="ms_max", noise=10.0, take=_transaction_ms
    ),
    "free_memory": Measure(
        name="free_memory_kib", more_is_worse=False, limit_key="kib_min", noise=1024.0, take=_memory_kib
    ),
    "write_rate": Measure(
        name="write_rate_kib_per_s", more_is_worse=False, limit_key="kib_per_s_min", noise=0.0, take=_write_kib_per_s
    ),
}


def take(system: System, check: CheckConfig, timeout_s: float) -> float:
    """The figure. Raises Unmeasured, OSError."""
    try:
        return round(MEASURES[check.kind].take(system, check, timeout_s), 1)
    except (payment.NoAnswer, units.NotUp) as error:
        raise Unmeasured(str(error)) from None


def look(system: System, check: CheckConfig, baseline: Mapping[str, float], timeout_s: float) -> Finding:
    """Of every kind of this suite. Raises Unmeasured, OSError."""
    return judged(check, take(system, check, timeout_s), baseline.get(check.name))


def judged(check: CheckConfig, value: float, before: float | None) -> Finding:
    """Whether the figure is good enough; `before` is the old version's, None where it is missing."""
    measure, limit = MEASURES[check.kind], float(getattr(check, MEASURES[check.kind].limit_key))
    word = "at most" if measure.more_is_worse else "at least"
    if limit and measure.worse(value, limit):
        wrong = f"{measure.name} {value:g}, {word} {limit:g} allowed"
        return Finding(wrong=wrong, measure=measure.name, value=value, limit=limit)
    if not check.worse_percent_max:
        return Finding(measure=measure.name, value=value, limit=limit)
    if before is None:
        note = "no figure of the old version to compare with"
        return Finding(note=note, measure=measure.name, value=value, limit=limit or "")
    allowed = round(measure.allowed(before, check.worse_percent_max), 1)
    if not measure.worse(value, allowed):
        return Finding(measure=measure.name, value=value, limit=allowed)
    than = f"{word} {allowed:g} allowed, the old version had {before:g} ({check.worse_percent_max} % worse at most)"
    return Finding(wrong=f"{measure.name} {value:g}, {than}", measure=measure.name, value=value, limit=allowed)


def _number(text: str, where: str) -> float:
    try:
        value = float(text.strip())
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:  # no number is that, either
        raise Unmeasured(f"{where}: {text.strip()[:40]!r} is no figure")
    return value
