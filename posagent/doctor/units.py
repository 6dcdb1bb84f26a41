"""Checks of what systemd starts: units are installed, enabled, and fit to the configuration; sockets the agent's."""

from __future__ import annotations

from posagent.doctor.findings import CannotTell, Verdict, all_of
from posagent.doctor.site import SLOTS, Site

WORKERS = ("installer", "fetcher", "selftest", "support")
TIMERS = tuple(f"posagent-trial@{slot}.timer" for slot in SLOTS)
AGENT, SELECT = "posagentd.service", "posagent-data-select.service"
SOCKET_MODE = 0o600


def _workers(site: Site) -> tuple[str, ...]:
    """Those that this terminal needs."""
    data = ("data",) if site.config.data.format else ()
    fleet = ("fleet",) if site.config.fleet.is_on else ()
    return (*WORKERS, *data, *fleet)


def _enabled(site: Site) -> tuple[str, ...]:
    select = (SELECT,) if site.config.data.format else ()
    listeners = (f"posagent-{name}.socket" for name in _workers(site))
    return (AGENT, "posagent-shutdown.service", *select, *listeners, *TIMERS)


def _installed(site: Site) -> tuple[str, ...]:
    started = (f"posagent-{name}.service" for name in _workers(site))
    return (*_enabled(site), *started, *(f"posagent-trial@{slot}.service" for slot in SLOTS))


def installed(site: Site) -> Verdict:
    """Known to systemd, enabled where something must start them, not failed, and the agent runs."""
    site.need_systemd()
    units = _installed(site)
    return all_of([fault for unit in units for fault in _faults(site, unit)], f"{len(units)} units")


def _faults(site: Site, unit: str) -> list[str]:
    shown = site.shown(unit, "LoadState", "UnitFileState", "ActiveState")
    loaded, enabled, active = shown.values()
    if loaded != "loaded":
        return [f"{unit}: {loaded or 'unknown'}"]
    found = [f"{unit}: {enabled or 'not enabled'}"] if unit in _enabled(site) and enabled != "enabled" else []
    if active == "failed" or (unit == AGENT and active != "active"):
        found.append(f"{unit}: {active}")
    return found


def programs(site: Site) -> Verdict:
    """A unit whose program is missing is started again and again; a worker's is only missed when it is needed."""
    site.need_systemd()
    faults, count = [], 0
    for unit in _installed(site):
        for command in site.settings(unit, "ExecStart"):
            path, count = command.partition(" ")[0], count + 1
            if site.board.about(site.board.system(path)) is None:
                faults.append(f"{unit}: {path} does not exist")
    return all_of(faults, f"{count} programs")


def paths(site: Site) -> Verdict:
    """Directories that the configuration names are those that the units open to the processes."""
    site.need_systemd()
    terminal, spool = site.config.terminal, site.config.fetch.spool_dir
    needed = {f"posagent-{name}.socket": [f"{terminal.run_dir}/{name}.sock"] for name in _workers(site)}
    boot = site.config.boot
    grub = [path.rpartition("/")[0] for path in boot.grub_files] if boot.kind == "grub" else []
    needed |= {
        AGENT: [terminal.state_dir, terminal.run_dir],
        "posagent-installer.service": [terminal.installer_dir, *grub],
        "posagent-fetcher.service": [spool],
        "posagent-shutdown.service": [terminal.installer_dir],
        **{unit: [f"{terminal.installer_dir}/trial-%i"] for unit in TIMERS},
    }
    if site.config.data.format:
        merchants = [site.config.data.root_dir, site.config.data.link.rpartition("/")[0]]
        needed |= {"posagent-data.service": merchants, SELECT: merchants}
    faults = []
    for unit, wanted in needed.items():
        text = site.unit_text(unit)
        faults += [f"{unit} does not name {path}" for path in wanted if text and not _names(text, path)]
    return all_of(faults)


def _names(text: str, path: str) -> bool:
    """The path or one above it, or the setting by which systemd makes such a directory."""
    above, _, name = path.rpartition("/")
    setting = {"/var/lib": "StateDirectory", "/run": "RuntimeDirectory"}.get(above)
    lines = [
        line.strip() for line in text.splitlines() if not line.lstrip().startswith(("#", ";", "InaccessiblePaths"))
    ]
    words = {word.lstrip("-+") for line in lines for word in line.partition("=")[2].split()}
    return f"{setting}={name}" in lines or any(f"{path}/".startswith(f"{word}/") for word in words if word)


def timers(site: Site) -> Verdict:
    """The timers that restart an unconfirmed trial recognise their slot on the kernel's command line."""
    site.need_systemd()
    faults = []
    command_line = (site.board.text(site.config.boot.cmdline_file) or "").split()
    for slot in SLOTS:
        unit = f"posagent-trial@{slot}.timer"
        asked = [word.replace("%i", slot) for word in site.settings(unit, "ConditionKernelCommandLine")]
        wanted = f"{site.config.boot.cmdline_key}={site.boot_name(slot)}"
        if site.config.boot.kind != "custom" and wanted not in asked:
            faults.append(f"{unit} asks for {' '.join(asked) or 'nothing'}, not {wanted}")
        elif slot == site.booted() and not set(asked) & set(command_line):
            faults.append(f"{unit} asks for {' '.join(asked)}, which the kernel's command line does not have")
    return all_of(faults)


def sockets(site: Site) -> Verdict:
    """Listening, and only for the agent."""
    user = site.config.terminal.agent_user
    uid = site.board.uid_of(user)
    if uid is None:
        raise CannotTell(f"there is no user {user}")
    faults = []
    for name in _workers(site):
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


def devices(site: Site) -> Verdict:
    """The sandboxes open the drivers of the devices that the configuration names."""
    site.need_systemd()
    config = site.config
    lines = (site.board.text(config.boot.env_config) or "").splitlines() if config.boot.kind == "uboot" else []
    environment = [line.split()[0] for line in lines if line.startswith("/") and line.isprintable()]
    faults = _closed(site, "posagent-installer.service", [*map(site.device, SLOTS), *environment])
    return all_of(faults + _closed(site, AGENT, [config.console.device, config.watchdog.device]))


def _closed(site: Site, unit: str, paths: list[str]) -> list[str]:
    """What a unit's sandbox does not open; nothing where it opens all devices."""
    rules = {rule.split()[0] for rule in site.settings(unit, "DeviceAllow") if rule.split()}
    drivers = _drivers(site.board.text(site.board.system("/proc/devices")) or "")
    found = []
    for path in dict.fromkeys(paths):
        about = site.board.about(path) if path and rules else None
        if about is None or not about.number:
            continue
        kind = "block" if about.kind == "block device" else "char"
        driver = f"{kind}-{drivers.get((kind, about.number.split(':')[0]), '?')}"
        if not rules & {driver, path, site.board.real(path)}:
            found.append(f"{unit} lacks DeviceAllow={driver} rw for {path}")
    return found


def _drivers(text: str) -> dict[tuple[str, str], str]:
    """(block or char, major number) -> driver, as /proc/devices has it."""
    found, kind = {}, ""
    for line in text.splitlines():
        words = line.split()
        if line.endswith("devices:"):
            kind = "block" if line.startswith("Block") else "char"
        elif len(words) == 2:
            found[kind, words[0]] = words[1]
    return found


CHECKS = {
    "units.installed": installed,
    "units.programs": programs,
    "units.paths": paths,
    "units.devices": devices,
    "units.timers": timers,
    "units.sockets": sockets,
}
