"""`posagent doctor` put together: every check of the board, each on its own. A composition root for the CLI alone.

Rules: it looks through the installer's own ports, so that it sees what the installer will see. A check that crashes is
a fault named `internal`, and the others still run; one that cannot look says `skipped` with the reason, never `ok`.
The resident never imports this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from posagent import config as configuration
from posagent import wire
from posagent.config import Config
from posagent.core.errors import ConfigError
from posagent.doctor import boot, clock, inhibitor, places, power, slots, trials, units, watchdog
from posagent.doctor import configuration as named
from posagent.doctor.catalogue import CATALOGUE
from posagent.doctor.findings import CannotTell, Finding, Level, Verdict, fault, ok, one_line, skipped
from posagent.doctor.site import Site
from posagent.installer import engineer, trust
from posagent.installer.service import linux_ports
from posagent.installer.slots import Slots
from posagent.platform.board import LinuxBoard
from posagent.platform.boot import running_version
from posagent.platform.commands import CommandFailed

Check = Callable[[Site], Verdict]
ASK_S = 10.0
FAMILIES: tuple[Mapping[str, Check], ...] = (
    named.CHECKS,
    boot.CHECKS,
    watchdog.CHECKS,
    slots.CHECKS,
    clock.CHECKS,
    inhibitor.CHECKS,
    units.CHECKS,
    places.CHECKS,
    power.CHECKS,
)


def site_of(config: Config, board: LinuxBoard) -> Site:
    """The board this runs on."""
    ports = linux_ports(config)
    version = running_version(config.terminal.os_release_file)
    recorded = Slots(
        ports.files,
        config.terminal.installer_dir,
        ports.boot,
        tries_full=config.boot.tries_full,
        running_version=version,
    )

    def read_root(data: bytes) -> None:
        trust.Trust(ports.files, f"{config.terminal.installer_dir}/trust", data, clock=ports.clock)

    return Site(
        config=config,
        board=board,
        boot=ports.boot,
        files=ports.files,
        clock=ports.clock,
        resets=ports.resets,
        ask=lambda: wire.call(config.api_socket, "status", {}, timeout_s=ASK_S),
        records=recorded.records,
        running_version=version,
        read_root=read_root,
        read_authorities=lambda data: len(engineer.authorities(data)),
    )


def load(path: str) -> Site:
    """The board that the configuration describes. Raises ConfigError."""
    return site_of(configuration.load(path), LinuxBoard())


def examine(path: str) -> Iterator[Finding]:
    """Every finding about the board that the configuration at `path` describes."""
    try:
        site = load(path)
    except ConfigError as error:
        yield finding("config.loads", fault(error.detail))
        return  # it says where everything is
    yield finding("config.loads", ok(path))
    yield finding("root", ok() if site.board.am_root() else fault("not root: much of the board cannot be looked at"))
    for family in FAMILIES:
        for name, check in family.items():
            yield look(name, check, site)


def look(name: str, check: Check, site: Site) -> Finding:
    """One check, whatever becomes of it."""
    try:
        return finding(name, check(site))
    except CannotTell as reason:
        return finding(name, skipped(str(reason)))
    except CommandFailed as error:
        return finding(name, skipped(str(error)))
    except OSError as error:
        return finding(name, skipped(f"{error.filename or 'it'} cannot be looked at: {error.strerror or error}"))
    except Exception as error:
        return finding("internal", fault(f"{name}: {type(error).__name__}: {error}"))


def finding(name: str, verdict: Verdict) -> Finding:
    entry = CATALOGUE[name]
    return Finding(
        check=name,
        level=verdict.level,
        detail=one_line(verdict.detail),
        title=entry.title,
        title_zh=entry.title_zh,
        remedy=entry.remedy,
        remedy_zh=entry.remedy_zh,
    )


def answer_of(findings: list[Finding]) -> dict[str, Any]:
    """The answer for scripts; `healthy` where nothing is wrong."""
    counts = {level.value: sum(one.level is level for one in findings) for level in Level}
    return {"healthy": not counts["fault"], "counts": counts, "findings": [one.as_dict() for one in findings]}


def boot_test(path: str) -> None:
    """Record the tries and restart the terminal. Raises PosagentError."""
    trials.begin_boot_test(load(path))


def watchdog_test(path: str, tell: trials.Tell) -> list[Finding]:
    """Let the watchdog reset the board; answers only where it did not. Raises PosagentError."""
    return [finding("watchdog.bites", trials.watchdog_test(load(path), tell))]
