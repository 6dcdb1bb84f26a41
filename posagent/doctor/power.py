"""Checks of what the power supplies say and what the agent makes of it, and of the serial console's device."""

from __future__ import annotations

from posagent.doctor.findings import CannotTell, Verdict, all_of, fault, ok, warning
from posagent.doctor.site import Site
from posagent.platform.power import SUPPLIES_MAX, SysfsPower

SERIAL_GROUP = "dialout"
"""SupplementaryGroups of posagentd.service."""
INBOX_GROUP = "posagent-inbox"
"""Of posagentd.service and posagent-fetcher.service."""
INBOX_MODE = 0o2770


def gates(site: Site) -> Verdict:
    """The power gates could open: the agent knows what they ask for."""
    power = site.config.power
    found = SysfsPower(power.supply_dir).read()
    faults, doubts = [], []
    if power.battery == "required":
        if not found.battery_present:
            faults.append('no battery of the terminal is seen, and power.battery is "required": nothing is installed')
        elif found.battery_percent is None:
            faults.append("the battery's capacity is not shown")
    elif found.battery_present:
        doubts.append('a battery is seen, and power.battery is "none": it may run empty during an installation')
    if found.mains is None and found.charging is None:
        said = "neither a charger nor the battery's status is seen"
        (faults if power.install_needs_charger else doubts if power.battery == "required" else []).append(said)
    names = site.board.names(power.supply_dir)[:SUPPLIES_MAX]
    shown = "; ".join(_supply(site, name) for name in names) or f"{power.supply_dir} shows no supply"
    return all_of([*faults, shown] if faults else [], shown, [*doubts, shown] if doubts else [])


def _supply(site: Site, name: str) -> str:
    here = f"{site.config.power.supply_dir}/{name}"
    word = {key: site.board.word(f"{here}/{key}") for key in ("type", "scope", "capacity", "status", "online")}
    if word["scope"] == "Device":
        return f"{name}: a peripheral's, does not count"
    if word["type"] == "Battery":
        return f"{name}: battery, {word['capacity'] or '?'} %, {word['status'] or 'status unknown'}"
    return f"{name}: {word['type'] or 'type unknown'}, online {word['online'] or '?'}"


def console_device(site: Site) -> Verdict:
    """The serial line exists and the agent may open it."""
    path = site.config.console.device
    if not path:
        return ok("no serial console is configured")
    found = site.board.about(path)
    if found is None:
        return fault(f"{path} does not exist")
    if found.kind != "character device":
        return fault(f"{path} is a {found.kind}")
    user = site.config.terminal.agent_user
    uid, group = site.board.uid_of(user), site.board.gid_of(SERIAL_GROUP)
    if uid is None:
        raise CannotTell(f"there is no user {user}")
    theirs = site.board.groups_of(user) | ({group} if group is not None else set())
    bits = 0o600 if found.uid == uid else 0o060 if found.gid in theirs else 0o006
    if found.mode & bits != bits:
        return fault(f"{path} has mode {found.mode:o} and group {found.gid}: the agent may not open it")
    return ok(path)


def console_free(site: Site) -> Verdict:
    """Neither the kernel nor a login talks on the same line."""
    path = site.config.console.device
    if not path:
        return ok("no serial console is configured")
    name = site.board.real(path).rpartition("/")[2]
    lines = (site.board.text(site.board.system("/proc/consoles")) or "").splitlines()
    consoles = [words[0] for words in map(str.split, lines) if words]
    faults = [f"{name} is also the kernel's console"] if name in consoles else []
    if site.has_systemd():
        getty = f"serial-getty@{name}.service"
        shown = site.shown(getty, "ActiveState", "UnitFileState")
        if shown["ActiveState"] in ("active", "activating") or shown["UnitFileState"] == "enabled":
            faults.append(f"{getty} is {shown['ActiveState']} and {shown['UnitFileState']}")
    if not site.board.am_root():
        return all_of(faults) if faults else warning("who has it open is only shown to root")
    holders, agents = site.board.holders({site.board.real(path)}), site.agent_pids()
    faults += [f"{one.name} ({one.pid}) has it open" for one in holders if one.pid not in agents]
    return all_of(faults, name)


def console_inbox(site: Site) -> Verdict:
    """The agent can put bundles where the fetcher can take them out."""
    path = site.config.fetch.inbox_dir
    if not site.config.console.device:
        return ok("no serial console is configured")
    group, found = site.board.gid_of(INBOX_GROUP), site.board.about(path)
    if group is None:
        return fault(f"there is no group {INBOX_GROUP}")
    if found is None or found.kind != "directory":
        return fault(f"{path} is no directory")
    faults = [] if found.gid == group else [f"{path} has the group {found.gid}, should be {INBOX_GROUP}'s"]
    if found.mode & INBOX_MODE != INBOX_MODE:
        faults.append(f"{path} has mode {found.mode:o}, needs {INBOX_MODE:o}")
    return all_of(faults, path)


CHECKS = {
    "power.gates": gates,
    "console.device": console_device,
    "console.free": console_free,
    "console.inbox": console_inbox,
}
