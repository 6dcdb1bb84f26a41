"""Checks of what systemd starts: units are installed, enabled, and fit to the configuration; sockets the agent's."""

from __future__ import annotations

from posagent.doctor.findings import CannotTell, Verdict, all_of
from posagent.doctor.site import SLOTS, Site

WORKERS = ("installer", "fetcher", "selftest")
TIMERS = tuple(f"posagent-trial@{slot}.timer" for slot in SLOTS)
ENABLED = ("posagentd.service", "posagent-shutdown.service", *(f"posagent-{name}.socket" for name in WORKERS), *TIMERS)
INSTALLED = (
    *ENABLED,
    *(f"posagent-{name}.service" for name in WORKERS),
    *(f"posagent-trial@{slot}.service" for slot in SLOTS),
)
SOCKET_MODE = 0o600


def installed(site: Site) -> Verdict:
    site.need_systemd()
    faults = []
    for unit in INSTALLED:
        shown = site.shown(unit, "LoadState", "ActiveState")
        if shown["LoadState"] != "loaded":
            faults.append(f"{unit}: {shown['LoadState'] or 'unknown'}")
        elif shown["ActiveState"] == "failed":
            faults.append(f"{unit}: failed")
    return all_of(faults, f"{len(INSTALLED)} units")


def enabled(site: Site) -> Verdict:
    site.need_systemd()
    states = {unit: site.shown(unit, "UnitFileState")["UnitFileState"] for unit in ENABLED}
    return all_of([f"{unit}: {state or 'not installed'}" for unit, state in states.items() if state != "enabled"])


def paths(site: Site) -> Verdict:
    """Directories that the configuration names are those that the units open to the processes."""
    site.need_systemd()
    terminal, spool = site.config.terminal, site.config.fetch.spool_dir
    needed = {f"posagent-{name}.socket": [f"{terminal.run_dir}/{name}.sock"] for name in WORKERS}
    needed |= {
        "posagentd.service": [terminal.state_dir, terminal.run_dir],
        "posagent-installer.service": [terminal.installer_dir],
        "posagent-fetcher.service": [spool],
        "posagent-shutdown.service": [terminal.installer_dir],
        **{unit: [f"{terminal.installer_dir}/trial-%i"] for unit in TIMERS},
    }
    faults = []
    for unit, wanted in needed.items():
        text = site.unit_text(unit)
        faults += [f"{unit} does not name {path}" for path in wanted if text and not _names(text, path)]
    return all_of(faults)


def _names(text: str, path: str) -> bool:
    """The path itself, or the setting by which systemd makes such a directory."""
    above, _, name = path.rpartition("/")
    setting = {"/var/lib": "StateDirectory", "/run": "RuntimeDirectory"}.get(above)
    lines = [line.strip() for line in text.splitlines() if not line.lstrip().startswith(("#", ";"))]
    return any(path in line for line in lines) or f"{setting}={name}" in lines


def timers(site: Site) -> Verdict:
    """The timers that restart an unconfirmed trial recognise their slot on the kernel's command line."""
    site.need_systemd()
    faults = []
    for slot in SLOTS:
        unit = f"posagent-trial@{slot}.timer"
        asked = [word.replace("%i", slot) for word in site.settings(unit, "ConditionKernelCommandLine")]
        wanted = f"{site.config.boot.cmdline_key}={site.boot_name(slot)}"
        if site.config.boot.kind != "custom" and wanted not in asked:
            faults.append(f"{unit} asks for {' '.join(asked) or 'nothing'}, not {wanted}")
        elif slot == site.booted() and not set(asked) & set(site.command_line()):
            faults.append(f"{unit} asks for {' '.join(asked)}, which the kernel's command line does not have")
    return all_of(faults)


def sockets(site: Site) -> Verdict:
    """Listening, and only for the agent."""
    user = site.config.terminal.agent_user
    uid = site.board.uid_of(user)
    if uid is None:
        raise CannotTell(f"there is no user {user}")
    faults = []
    for name in WORKERS:
        path = site.config.worker_socket(name)
        found = site.board.about(path)
        if found is None or found.kind != "socket":
            faults.append(f"{path} is no socket")
            continue
        if (found.uid, found.mode) != (uid, SOCKET_MODE):
            faults.append(f"{path} is {site.board.user_name(found.uid)}'s with mode {found.mode:o}")
        unit = f"posagent-{name}.socket"
        state = site.shown(unit, "ActiveState")["ActiveState"] if site.has_systemd() else "active"
        if state != "active":
            faults.append(f"{unit}: {state}")
    return all_of(faults)


CHECKS = {
    "units.installed": installed,
    "units.enabled": enabled,
    "units.paths": paths,
    "units.timers": timers,
    "units.sockets": sockets,
}
