"""Checks of the hardware watchdog: there is one, exactly one program pets it, in time.

Rules: the device is never opened here, because that starts it; what is known comes from sysfs. Only the guarded test
(trials.py) opens it.
Source: Linux Documentation/ABI/testing/sysfs-class-watchdog.
"""

from __future__ import annotations

import math

from posagent.doctor import trials
from posagent.doctor.findings import CannotTell, Verdict, fault, ok, warning
from posagent.doctor.site import Site, span_s
from posagent.platform.watchdog import INTERVAL_S_MAX

MISC = "10:130"
"""/dev/watchdog, the old name of the first one."""
TIMEOUT_S_MIN, TIMEOUT_S_MAX = 10, 300


def _node(site: Site) -> str:
    """The watchdog's directory in sysfs, which an old kernel lacks."""
    found = site.board.about(trials.watchdog_path(site))
    if found is None or found.number == MISC:
        return site.board.system("/sys/class/watchdog/watchdog0")
    return site.board.system(f"/sys/dev/char/{found.number}")


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
    identity, nowayout = (site.board.word(f"{_node(site)}/{name}") for name in ("identity", "nowayout"))
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
    holders = site.board.holders(trials.watchdog_aliases(site))
    theirs = site.agent_pids() if device else {1}
    strangers = [f"{one.name} ({one.pid})" for one in holders if one.pid not in theirs]
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
    node = _node(site)
    most, now = site.board.number(f"{node}/max_timeout"), site.board.number(f"{node}/timeout")
    petted_s = wanted / 2 if runtime_s else min(wanted / 3, INTERVAL_S_MAX)
    if site.board.word(f"{node}/state") == "active" and now is not None and now <= petted_s:
        return fault(f"it is petted every {petted_s:g} s, and the driver waits for {now} s only")
    if most and wanted > most:
        return fault(f"{wanted:g} s is more than the {most} s that the driver can do")
    if not TIMEOUT_S_MIN <= wanted <= TIMEOUT_S_MAX:
        return warning(f"{wanted:g} s; {TIMEOUT_S_MIN} to {TIMEOUT_S_MAX} s are sensible")
    return ok(f"{wanted:g} s")


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
