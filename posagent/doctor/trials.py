"""The two tests that restart the board: does the boot script count tries down, does the watchdog bite.

Rules: each leaves one record in the installer's directory, and the first look of a later start answers it and removes
it. Nothing is begun while an update is under way. While a record lies there, nothing else writes the boot environment.

How the countdown is seen although the agent refills a confirmed slot at once, in this order: the tries are lower now;
the older copy of the environment, which the refill does not touch, still has what the boot script wrote; the agent's
log of this start says what it saw before the refill. Where the copies are as they were left, nobody has counted.

The watchdog is taken from its owner in good order (systemd lets go of it, posagentd is stopped), opened and not petted.
Sources: org.freedesktop.systemd1(5), RuntimeWatchdogUSec; posagent/platform/reset.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from posagent.core import durable
from posagent.core.errors import PosagentError, Refusal
from posagent.core.ports import ResetCause
from posagent.doctor import environment
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
_MANAGER = ["org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"]
Tell = Callable[[str, object], None]
"""Says the text of that name (posagent.texts), with one value in it."""


# records


def _path(site: Site) -> str:
    return f"{site.config.terminal.installer_dir}/{RECORD}"


def pending(site: Site) -> Mapping[str, Any] | None:
    """The record of a test that was begun and not answered yet."""
    value = durable.read_json(site.files, _path(site), RECORD_BYTES_MAX)
    return value if isinstance(value, dict) and value.get("test") in (BOOT, WATCHDOG) else None


def _remember(site: Site, **facts: Any) -> None:
    try:
        durable.replace_json(site.files, _path(site), {"boot_id": site.boot_id(), **facts})
    except OSError as error:
        raise Refusal("test_refused", f"{_path(site)}: {error.strerror}") from None


def forget(site: Site) -> None:
    durable.remove(site.files, _path(site))


def _answered(site: Site, test: str) -> Mapping[str, Any]:
    """The record of that test, which is removed. Raises CannotTell where there is nothing to answer."""
    record = pending(site)
    if record is None or record["test"] != test:
        raise CannotTell(f"not tested now; `posagent doctor --{test}-test` restarts the terminal for it")
    if record.get("boot_id") == site.boot_id():
        raise CannotTell("the restart is still to come; then run posagent doctor again")
    forget(site)
    return record


def _refuse_unrest(site: Site) -> None:
    try:
        unrest = site.unrest()
        if not site.boot_id():
            unrest = f"{site.config.boot.boot_id_file} has no boot id"
    except CannotTell as reason:
        raise Refusal("test_refused", str(reason)) from None
    if unrest:
        raise Refusal("test_refused", unrest)


# the boot script


def begin_boot_test(site: Site) -> None:
    """Record the tries, then restart the terminal. Raises PosagentError."""
    _refuse_unrest(site)
    try:
        slot, state, copies = site.booted(), site.boot_state(), _copies(site)
    except CannotTell as reason:
        raise Refusal("test_refused", str(reason)) from None
    left = state.tries.get(slot, 0)
    if left < 1:
        raise Refusal("test_refused", f"slot {slot} has no try left; start posagentd once, which refills it")
    _remember(site, test=BOOT, slot=slot, tries=left, writes=[one.byte for one in copies])
    try:
        site.board.run(site.config.boot.reboot_command)
    except CommandFailed as error:
        forget(site)
        raise PosagentError("reboot_failed", str(error)) from None


def counts_down(site: Site) -> Verdict:
    """Answers the boot test."""
    state, running = site.boot_state(), site.booted()
    record = _answered(site, BOOT)
    slot, before = str(record.get("slot")), int(record.get("tries", 0))
    if running != slot:
        return fault(f"slot {slot} was to be started, slot {running} runs")
    now = state.tries.get(slot, 0)
    if now < before:
        return ok(f"slot {slot}: {before} tries before the restart, {now} now")
    copies = _copies(site)
    seen = [int(left) for one in copies if (left := one.variables.get(_variable(site, slot), "")).isdecimal()]
    if seen and min(seen) < before:
        return ok(f"slot {slot}: {before} tries before the restart, {min(seen)} in the older copy, refilled since")
    if copies and all(one.counted for one in copies) and [one.byte for one in copies] == record.get("writes"):
        return fault(
            f"slot {slot}: {before} tries before and after the restart, and nothing was written to either copy"
        )
    first = _first_seen(site)
    if first is None:
        raise CannotTell(
            f"slot {slot} has {now} tries, refilled or never counted: neither the copies nor the agent's log tells; "
            "stop posagentd before the next test and keep it from starting"
        )
    if first < before:
        return ok(f"slot {slot}: {before} tries before the restart, {first} when the agent looked, refilled since")
    return fault(f"slot {slot}: {before} tries before the restart, still {first} when the agent first looked")


def _variable(site: Site, slot: str) -> str:
    return site.config.boot.tries_variable.format(slot=site.boot_name(slot))


def _copies(site: Site) -> list[environment.Copy]:
    """Both copies, where they can be seen and are whole."""
    try:
        found = environment.copies(site)
    except (CannotTell, OSError):
        return []
    return found if len(found) == 2 and all(one.whole for one in found) else []


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
    for path in ("/dev/watchdog0", "/dev/watchdog"):
        if site.board.about(path) is not None:
            return path
    raise CannotTell("there is no /dev/watchdog0")


def runtime_watchdog_s(site: Site) -> float:
    """systemd's time-out; 0 where it does not pet, infinite where it leaves the time to the driver."""
    text = site.shown("", "RuntimeWatchdogUSec")["RuntimeWatchdogUSec"] if site.has_systemd() else ""
    return math.inf if text == "infinity" else span_s(text)


def watchdog_test(site: Site, tell: Tell) -> Verdict:
    """Let the watchdog reset the board. Comes back only where it did not. Raises PosagentError."""
    _refuse_unrest(site)
    try:
        path, runtime_s = watchdog_path(site), runtime_watchdog_s(site)
    except CannotTell as reason:
        raise Refusal("test_refused", str(reason)) from None
    seconds = int(runtime_s) if 0 < runtime_s < math.inf else site.config.watchdog.device_timeout_s
    agent = site.has_systemd() and site.agent_runs() and bool(site.config.watchdog.device)
    if not agent and site.config.watchdog.device and site.agent_runs():
        raise Refusal("test_refused", "posagentd pets the watchdog; stop it first")
    _remember(site, test=WATCHDOG)
    watchdog = None
    try:
        _let_go(site, runtime_s, agent)
        watchdog = _take(site, path)
        bites_s = watchdog.set_timeout(min(seconds, WATCHDOG_S_MAX))
        identity = watchdog.identity() or path
        site.board.sync()
        tell("doctor_bites", bites_s)
        for _ in range(bites_s + GRACE_S):
            site.board.pause(1.0)
    except CommandFailed as error:
        raise Refusal("test_refused", str(error)) from None
    finally:  # still alive
        if watchdog is not None:
            _quietly(watchdog.disarm)
        _give_back(site, runtime_s, agent)
        forget(site)
    return fault(f"{identity}: not petted for {bites_s + GRACE_S} s with a time-out of {bites_s} s, and no reset")


def _let_go(site: Site, runtime_s: float, agent: bool) -> None:
    if runtime_s:
        _set_runtime(site, 0)
    if agent:
        site.board.run(["systemctl", "stop", "posagentd.service"])


def _give_back(site: Site, runtime_s: float, agent: bool) -> None:
    if runtime_s:
        _quietly(lambda: _set_runtime(site, runtime_s))
    if agent:
        _quietly(lambda: site.board.run(["systemctl", "start", "--no-block", "posagentd.service"]))


def _set_runtime(site: Site, seconds: float) -> None:
    site.board.run(["busctl", "set-property", *_MANAGER, "RuntimeWatchdogUSec", "t", str(_usec(seconds))])


def _usec(seconds: float) -> int:
    return 2**64 - 1 if seconds == math.inf else int(seconds * 1e6)


def _quietly(action: Callable[[], object]) -> None:
    try:
        action()
    except (OSError, CommandFailed):
        pass  # nothing more can be done about it, and the finding matters more


def _take(site: Site, path: str) -> OpenWatchdog:
    """Its owner may need a moment to let go."""
    for left in range(TAKE_TRIES, 0, -1):
        try:
            return site.board.open_watchdog(path)
        except OSError as error:
            if left == 1:
                names = ", ".join(f"{one.name} ({one.pid})" for one in site.board.holders("/dev/watchdog")) or "nobody"
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
