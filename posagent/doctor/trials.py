"""The two tests that restart the board: does the boot script count tries down, does the watchdog bite.

Rules: each leaves one record in the installer's directory, and the first look of a later start answers it and removes
it. Nothing is begun while an update is under way, or by anybody but root.

How the countdown is seen although the agent refills a confirmed slot at once: where the tries are lower now, they were
counted; else the agent's log of this start says what it saw before the refill.

The watchdog is taken from its owner in good order (systemd lets go of it, posagentd is stopped), opened and not petted.
Where the board is still alive after that, or the test is interrupted, it is stopped and given back.
Sources: systemd-system.conf(5); posagent/platform/reset.py. systemd 252 takes a RuntimeWatchdogUSec of 0 over D-Bus for
no wish at all and goes on petting (seen), so the wish is a file below /run, which the reset takes away.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from posagent.core import durable
from posagent.core.errors import PosagentError, Refusal
from posagent.core.ports import ResetCause
from posagent.doctor.findings import CannotTell, Verdict, fault, ok, warning
from posagent.doctor.site import Site, span_s
from posagent.platform.board import OpenWatchdog
from posagent.platform.commands import CommandFailed

RECORD = "doctor.json"
RECORD_BYTES_MAX = 1 << 14
BOOT, WATCHDOG = "boot", "watchdog"
GRACE_S = 30
"""How much later than its time-out a watchdog may bite."""
WATCHDOG_S_MAX = 60
TAKE_TRIES = 20
LET_GO = "/run/systemd/system.conf.d/zzz-posagent-doctor.conf"
RELOAD = ("systemctl", "daemon-reload")
Tell = Callable[[int], None]
"""Says within how many seconds the watchdog bites."""


# records


def _path(site: Site) -> str:
    return f"{site.config.terminal.installer_dir}/{RECORD}"


def _remember(site: Site, **facts: Any) -> None:
    try:
        durable.replace_json(site.files, _path(site), {"boot_id": site.boot_id(), **facts})
    except OSError as error:
        raise Refusal("test_refused", f"{_path(site)}: {error.strerror}") from None


def _forget(site: Site) -> None:
    durable.remove(site.files, _path(site))


def _answered(site: Site, test: str) -> Mapping[str, Any]:
    """The record of that test, which is removed. Raises CannotTell where there is nothing to answer."""
    record = durable.read_json(site.files, _path(site), RECORD_BYTES_MAX)
    if not isinstance(record, dict) or record.get("test") != test:
        raise CannotTell(f"not tested now; `posagent doctor --{test}-test` restarts the terminal for it")
    if record.get("boot_id") == site.boot_id():
        raise CannotTell("the restart is still to come; then run posagent doctor again")
    _forget(site)
    return record


def _refuse_unrest(site: Site) -> None:
    try:
        why = site.unrest() if site.board.am_root() else "only root can make this test"
        if not why and not site.boot_id():
            why = f"{site.config.boot.boot_id_file} has no boot id"
    except (CannotTell, OSError) as reason:
        why = str(reason)
    if why:
        raise Refusal("test_refused", why)


# the boot script


def begin_boot_test(site: Site) -> None:
    """Record the tries, then restart the terminal. Raises PosagentError."""
    _refuse_unrest(site)
    slot, full = site.boot.booted(), site.config.boot.tries_full
    left = site.boot.read().tries.get(slot, 0)
    if left != full:
        raise Refusal("test_refused", f"slot {slot} has {left} of {full} tries; start posagentd once, which refills it")
    _remember(site, test=BOOT, slot=slot)
    try:
        site.board.run(site.config.boot.reboot_command)
    except CommandFailed as error:
        _forget(site)
        raise PosagentError("reboot_failed", str(error)) from None


def counts_down(site: Site) -> Verdict:
    """Answers the boot test."""
    state, slot, full = site.boot_state(), site.booted(), site.config.boot.tries_full
    if _answered(site, BOOT).get("slot") != slot:
        raise CannotTell("another slot was tested than the one that runs now; test again")
    now = state.tries.get(slot, 0)
    if now < full:
        return ok(f"slot {slot}: {full} tries before the restart, {now} now")
    first = _first_seen(site)
    if first is None:
        raise CannotTell(
            f"slot {slot} has {now} tries, refilled or never counted: the agent's log does not tell; "
            "test again with posagentd disabled"
        )
    if first < full:
        return ok(f"slot {slot}: {full} tries before the restart, {first} when the agent looked, refilled since")
    return fault(f"slot {slot}: {full} tries before the restart, still {first} when the agent first looked")


def _first_seen(site: Site) -> int | None:
    """Tries of the running slot at the agent's first look of this start, from its log."""
    try:
        log = site.board.run(["journalctl", "--no-pager", "-b", "-u", "posagentd.service", "-o", "cat"])
    except CommandFailed:
        return None
    for line in log.splitlines():
        try:
            said = json.loads(line) if line.startswith("{") else {}
        except (ValueError, RecursionError):
            continue
        if said.get("event") == "started" and isinstance(said.get("tries"), int):
            return int(said["tries"])
    return None


# the watchdog


def watchdog_path(site: Site) -> str:
    """The device that is petted, whoever does it."""
    if site.config.watchdog.device:
        return site.config.watchdog.device
    for path in map(site.board.system, ("/dev/watchdog0", "/dev/watchdog")):
        if site.board.about(path) is not None:
            return path
    raise CannotTell("there is no /dev/watchdog0")


def watchdog_aliases(site: Site) -> set[str]:
    """The names under which a process may have that device open."""
    real = site.board.real(watchdog_path(site))
    first = {site.board.system(path) for path in ("/dev/watchdog", "/dev/watchdog0")}
    return first if real in first else {real}


def runtime_watchdog_s(site: Site) -> float:
    """systemd's time-out; 0 where it does not pet, infinite where it leaves the time to the driver."""
    text = site.shown("", "RuntimeWatchdogUSec")["RuntimeWatchdogUSec"] if site.has_systemd() else ""
    return math.inf if text == "infinity" else span_s(text)


def watchdog_test(site: Site, tell: Tell) -> Verdict:
    """Let the watchdog reset the board. Comes back only where it did not. Raises PosagentError."""
    _refuse_unrest(site)
    try:
        path, runtime_s, agent = watchdog_path(site), runtime_watchdog_s(site), site.agent_runs()
    except CannotTell as reason:
        raise Refusal("test_refused", str(reason)) from None
    agent = agent and bool(site.config.watchdog.device)
    if agent and not site.has_systemd():
        raise Refusal("test_refused", "posagentd pets the watchdog; stop it first")
    seconds = int(runtime_s) if 0 < runtime_s < math.inf else site.config.watchdog.device_timeout_s
    _remember(site, test=WATCHDOG)
    watchdog = None
    try:
        if runtime_s:
            _let_systemd_go(site)
        if agent:
            site.board.run(["systemctl", "stop", "posagentd.service"])
        watchdog = _take(site, path)
        bites_s = watchdog.set_timeout(min(seconds, WATCHDOG_S_MAX))
        site.board.sync()
        tell(bites_s)
        for _ in range(bites_s + GRACE_S):
            site.board.pause(1.0)
    except CommandFailed as error:
        raise Refusal("test_refused", str(error)) from None
    finally:  # still alive
        _give_back(site, watchdog, bool(runtime_s), agent)
    return fault(
        f"{watchdog.identity}: not petted for {bites_s + GRACE_S} s with a time-out of {bites_s} s, and no reset"
    )


def _give_back(site: Site, watchdog: OpenWatchdog | None, systemd: bool, agent: bool) -> None:
    """Each step whatever becomes of the others: nothing more can be done, and what ended the test matters more."""
    if watchdog is not None:
        _quietly(watchdog.disarm)
    if systemd:
        _quietly(lambda: site.files.unlink(site.board.system(LET_GO)))
        _quietly(lambda: site.board.run(RELOAD))
    if agent:
        _quietly(lambda: site.board.run(["systemctl", "start", "--no-block", "posagentd.service"]))
    _quietly(lambda: _forget(site))


def _let_systemd_go(site: Site) -> None:
    path = site.board.system(LET_GO)
    try:
        site.files.make_dir(durable.parent(path))
        site.files.write(path, 0, b"[Manager]\nRuntimeWatchdogSec=0\n")
    except OSError as error:
        raise Refusal("test_refused", f"{path}: {error.strerror}") from None
    site.board.run(RELOAD)


def _quietly(action: Callable[[], object]) -> None:
    try:
        action()
    except (OSError, CommandFailed):
        pass


def _take(site: Site, path: str) -> OpenWatchdog:
    """Its owner may need a moment to let go."""
    for left in range(TAKE_TRIES, 0, -1):
        try:
            return site.board.open_watchdog(path)
        except OSError as error:
            if left == 1:
                holders = site.board.holders(watchdog_aliases(site))
                names = ", ".join(f"{one.name} ({one.pid})" for one in holders) or "nobody"
                raise Refusal("test_refused", f"{path}: {error.strerror}; held by {names}") from None
        site.board.pause(0.25)
    raise AssertionError("unreachable")


def bites(site: Site) -> Verdict:
    """Answers the watchdog test: what the agent makes of the reset."""
    _answered(site, WATCHDOG)
    cause = site.resets.read().cause
    if cause is ResetCause.WATCHDOG:
        return ok("the board was reset, and the agent knows that it was the watchdog")
    if cause is ResetCause.POWER:
        return fault("the board was reset, but the agent takes it for lost power: a hanging version would be tried on")
    return warning(f"the board was reset, and the agent takes it for: {cause.value}")
