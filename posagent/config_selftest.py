"""What self-tests a terminal has: the part of posagent.config that says which kinds there are and what each needs.

docs/selftest.md tells integrators what each kind looks at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from posagent.core.manifest import DIGEST_PATTERN
from posagent.tables import Reader, between, one_of

FUNCTIONAL, PERFORMANCE, SECURITY = "functional", "performance", "security"
SUITES = (FUNCTIONAL, PERFORMANCE, SECURITY)
"""In the order in which they run."""
INTERFACES = ("sysrq", "getty", "ssh", "telnet", "adb", "debugger", "kernel_console", "kernel_shell")
PAYMENT_TESTS = ("transaction", "host", "printer", "reader", "pin_pad", "start")


@dataclass(frozen=True, slots=True, kw_only=True)
class KindSpec:
    """`suite` is the one it belongs to unless the check says another; of each group of keys in `needs` one must be
    given."""

    suite: str
    needs: tuple[tuple[str, ...], ...] = ()


_PAYMENT = ("path", "port", "command")
"""Where the payment application answers (docs/selftest.md)."""

KINDS: Mapping[str, KindSpec] = {
    "command": KindSpec(suite=FUNCTIONAL, needs=(("command",),)),
    "tcp": KindSpec(suite=FUNCTIONAL, needs=(("port",),)),
    "free_space": KindSpec(suite=FUNCTIONAL, needs=(("path",), ("free_bytes_min",))),
    "unit": KindSpec(suite=FUNCTIONAL, needs=(("unit",),)),
    "payment": KindSpec(suite=FUNCTIONAL, needs=(_PAYMENT,)),
    "serial": KindSpec(suite=FUNCTIONAL, needs=(("device",), ("send_hex",), ("expect",))),
    "boot_time": KindSpec(suite=PERFORMANCE, needs=(("unit", "path"), ("ms_max", "worse_percent_max"))),
    "start_time": KindSpec(suite=PERFORMANCE, needs=(("unit", *_PAYMENT), ("ms_max", "worse_percent_max"))),
    "transaction_time": KindSpec(suite=PERFORMANCE, needs=(_PAYMENT, ("ms_max", "worse_percent_max"))),
    "free_memory": KindSpec(suite=PERFORMANCE, needs=(("kib_min", "worse_percent_max"),)),
    "write_rate": KindSpec(suite=PERFORMANCE, needs=(("path",), ("kib_per_s_min", "worse_percent_max"))),
    "slot": KindSpec(suite=SECURITY),
    "digest": KindSpec(suite=SECURITY, needs=(("path", "command"), ("sha256", "approved"))),
    "permissions": KindSpec(suite=SECURITY, needs=(("paths",), ("mode_max", "owner"))),
    "ports": KindSpec(suite=SECURITY),
    "debug": KindSpec(suite=SECURITY),
    "keys": KindSpec(suite=SECURITY, needs=(("command",), ("keys",))),
    "state": KindSpec(suite=SECURITY, needs=(("path", "command"), ("expect",))),
    "timer": KindSpec(suite=SECURITY, needs=(("unit",),)),
}
COMPARED = ("boot_time", "start_time", "transaction_time", "free_memory", "write_rate", "keys")
"""Kinds that are held against what the old version had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckConfig:
    """One self-test. `kind` decides which of the other keys are needed (docs/selftest.md); `suite` is that of the kind
    unless another is given. `worse_percent_max` is against what the old version measured just before the update."""

    name: str
    kind: str = one_of(*KINDS)
    suite: str = one_of("", *SUITES, default="")
    command: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = between(0, 65535, 0)
    path: str = ""
    paths: tuple[str, ...] = ()
    sha256: str = ""
    approved: str = ""
    free_bytes_min: int = between(0, 2**40, 0)
    test: str = one_of(*PAYMENT_TESTS, default="transaction")
    expect: str = ""
    device: str = ""
    baud: int = between(300, 4_000_000, 9600)
    send_hex: str = ""
    unit: str = ""
    count: int = between(1, 1000, 20)
    runs: int = between(1, 20, 3)
    write_bytes: int = between(4096, 2**28, 1 << 20)
    ms_max: int = between(0, 3_600_000, 0)
    kib_min: int = between(0, 2**40, 0)
    kib_per_s_min: int = between(0, 2**40, 0)
    worse_percent_max: int = between(0, 1000, 0)
    mode_max: str = ""
    owner: str = ""
    allow: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = one_of(*INTERFACES, default=INTERFACES)
    keys: tuple[str, ...] = ()
    timeout_s: int = between(1, 600, 10)
    retry_for_s: int = between(0, 600, 0)

    @property
    def suite_name(self) -> str:
        return self.suite or KINDS[self.kind].suite


@dataclass(frozen=True, slots=True, kw_only=True)
class SelftestConfig:
    """The tests a new version must pass before it is committed; none configured is a failure. Each suite has to end
    within its own budget, and all of them within `deadline_s`. With `daily` the security suite also runs after each
    start and once a day (PCI), and a failure is shown as a problem."""

    deadline_s: int = between(1, 3600, 300)
    functional_s_max: int = between(1, 3600, 300)
    performance_s_max: int = between(1, 3600, 120)
    security_s_max: int = between(1, 3600, 120)
    daily: bool = True
    attempts_max: int = between(1, 20, 3)
    checks: tuple[CheckConfig, ...] = ()

    def budget_s(self, suite: str) -> int:
        budgets = (self.functional_s_max, self.performance_s_max, self.security_s_max)
        return dict(zip(SUITES, budgets, strict=True))[suite]

    @property
    def asks_installer(self) -> bool:
        """Some check needs what only the installer knows: the running slot's digest, what was approved."""
        return any(check.kind == "slot" or check.approved for check in self.checks)

    @property
    def compares(self) -> bool:
        """Some check is held against the old version."""
        return any(check.kind in COMPARED for check in self.checks)

    @property
    def tests_daily(self) -> bool:
        return self.daily and any(check.suite_name == SECURITY for check in self.checks)


def check(reader: Reader, config: SelftestConfig) -> None:
    """Rules between the keys of each check. Raises ConfigError naming the first that is broken."""
    names: set[str] = set()
    for index, one in enumerate(config.checks):
        here = f"selftest.checks[{index}]"
        if one.name in names:
            raise reader.complain("config_bad_value", f"{here}.name", f"{one.name!r} stands there twice")
        names.add(one.name)
        for group in KINDS[one.kind].needs:
            if not any(getattr(one, key) for key in group):
                needed = f"needed for {one.kind}" + (f", or {', '.join(group[1:])}" if group[1:] else "")
                raise reader.complain("config_missing_key", f"{here}.{group[0]}", needed)
        for key, problem in _problems(one):
            raise reader.complain("config_bad_value", f"{here}.{key}", problem)


def _problems(one: CheckConfig) -> list[tuple[str, str]]:
    found = []
    if one.sha256 and not DIGEST_PATTERN.fullmatch(one.sha256.lower()):
        found.append(("sha256", "must have 64 hexadecimal digits"))
    if one.mode_max and not re.fullmatch(r"0?[0-7]{3}", one.mode_max):
        found.append(("mode_max", 'must be like "0640"'))
    try:
        bytes.fromhex(one.send_hex)
    except ValueError:
        found.append(("send_hex", 'must be bytes like "1b 76 00"'))
    if one.kind == "serial":
        try:
            re.compile(one.expect.encode("latin-1"))
        except (re.error, ValueError) as error:
            found.append(("expect", f"is no pattern: {error}"))
    return found
