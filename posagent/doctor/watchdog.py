"""Checks of the hardware watchdog: there is one, exactly one program pets it, in time.

Rules: the device is never opened here, because that starts it; what is known comes from sysfs. Only the guarded test
(trials.py) opens it.
Source: Linux Documentation/ABI/testing/sysfs-class-watchdog.
"""

from __future__ import annotations

import math

from posagent.doctor import trials
from posagent.doctor.findings import CannotTell, Verdict, all_of, fault, ok
from posagent.doctor.site import Site, span_s
from posagent.platform.watchdog import INTERVAL_S_MAX

TIMEOUT_S_MIN, TIMEOUT_S_MAX = 10, 300


def _node(site: Site) -> str:
    """The watchdog's directory in sysfs. Raises CannotTell."""
    name = site.board.real(trials.watchdog_path(site)).rpartition("/")[2]
    names = site.board.names(site.board.system("/sys/class/watchdog"))
    node = name if name in names else (names[0] if name == "watchdog" and names else "")
    if not node:
        raise CannotTell("sysfs knows nothing of it, and asking the driver would start it")
    return site.board.system(f"/sys/class/watchdog/{node}")


def _number(site: Site, name: str) -> int | None:
    word = site.board.word(f"{_node(site)}/{name}")
    return int(word) if word.isdigit() else None


def present(site: Site) -> Verdict:
    try:
        path = trials.watchdog_path(site)
    except CannotTell as reason:
        return fault(str(reason))
    found = site.board.about(path)
    if found is None:
        return fault(f"{path} does not exist")
    if found.kind != "character device":
        return fault(f"{path} is a {found.kind}")
    try:
        identity, nowayout = (site.board.word(f"{_node(site)}/{name}") for name in ("identity", "nowayout"))
    except CannotTell:
        return ok(path)
    can_stop = {"0": "can be stopped once started", "1": "cannot be stopped once started"}.get(nowayout, "")
    return ok(", ".join(text for text in (path, identity, can_stop) if text))


def owner(site: Site) -> Verdict:
    """systemd or posagentd, and not both."""
    device, runtime_s = site.config.watchdog.device, trials.runtime_watchdog_s(site)
    if device and runtime_s:
        return fault(f"systemd (RuntimeWatchdogSec) and posagentd (watchdog.device = {device}) both want it")
    if not device and not runtime_s:
        return fault("neither RuntimeWatchdogSec nor watchdog.device is set: nobody pets it")
    wanted = "posagentd" if device else "systemd"
    if not site.board.am_root():
        return ok(f"{wanted}, as configured; who holds it is only shown to root")
    holders = site.board.holders("/dev/watchdog")
    strangers = [f"{one.name} ({one.pid})" for one in holders if not one.name.startswith(wanted) and one.pid != 1]
    if strangers:
        return fault(f"{wanted} is to pet it, but it is held by {', '.join(strangers)}")
    if not holders and (wanted == "systemd" or site.agent_runs()):
        return fault(f"{wanted} is to pet it, and nobody has it open")
    return ok(wanted if holders else f"{wanted}, which does not run now")


def timeout(site: Site) -> Verdict:
    """Long enough to be petted in time, short enough to end a hang."""
    runtime_s = trials.runtime_watchdog_s(site)
    wanted = runtime_s or float(site.config.watchdog.device_timeout_s if site.config.watchdog.device else 0)
    if not wanted or wanted == math.inf:
        raise CannotTell("no time-out is configured" if not wanted else "systemd leaves it to the driver")
    doubts, faults = [], []
    if not TIMEOUT_S_MIN <= wanted <= TIMEOUT_S_MAX:
        doubts.append(f"{wanted:g} s; {TIMEOUT_S_MIN} to {TIMEOUT_S_MAX} s are sensible")
    try:
        most, now = _number(site, "max_timeout"), _number(site, "timeout")
    except CannotTell:
        most = now = None
    if most and wanted > most:
        faults.append(f"{wanted:g} s is more than the {most} s that the driver can do")
    petted_s = wanted / 2 if runtime_s else min(wanted / 3, INTERVAL_S_MAX)
    running = site.board.word(f"{_node(site)}/state") == "active" if now is not None else False
    if running and now is not None and now <= petted_s:
        faults.append(f"it is petted every {petted_s:g} s, and the driver waits for {now} s only")
    return all_of(faults, f"{wanted:g} s", doubts)


def service(site: Site) -> Verdict:
    """systemd watches the agent exactly where the agent pets systemd."""
    site.need_systemd()
    watched = span_s(site.shown("posagentd.service", "WatchdogUSec")["WatchdogUSec"])
    if site.config.watchdog.systemd and not watched:
        return fault("watchdog.systemd is on, but posagentd.service has no WatchdogSec")
    if not site.config.watchdog.systemd and watched:
        return fault("watchdog.systemd is off, but posagentd.service has WatchdogSec: systemd will kill the agent")
    return ok(f"{watched:g} s" if watched else "off")


CHECKS = {
    "watchdog.bites": trials.bites,
    "watchdog.present": present,
    "watchdog.owner": owner,
    "watchdog.timeout": timeout,
    "watchdog.service": service,
}
