"""The suite `security`: the system is the one that was signed and approved, and nothing on it stands open.

Rules: what cannot be seen has failed. Key check values are no secrets (ISO 11568); keys are never asked for. Only TCP
listeners are held against the allow list: UDP sockets of name look-ups come and go with ports of their own.
"""

from __future__ import annotations

import ipaddress
import re
import sys
from collections.abc import Iterable, Mapping

from posagent.config import CheckConfig
from posagent.selftest.finding import Finding, Given, System, shortened

LISTENS = "0A"
"""A socket's state in /proc/net/tcp: TCP_LISTEN."""
PERMISSIONS_DEFAULT = "777"
KCV_DIGITS = 12
"""Of a check value: what a number holds without loss. Most have 6 or 10."""

_PROCESSES: Mapping[str, frozenset[str]] = {
    "getty": frozenset({"agetty", "getty", "mgetty", "login", "sulogin"}),
    "ssh": frozenset({"sshd", "dropbear"}),
    "telnet": frozenset({"telnetd", "in.telnetd", "utelnetd"}),
    "adb": frozenset({"adbd"}),
    "debugger": frozenset({"gdbserver", "gdb", "lldb-server", "strace"}),
}
_CMDLINE: Mapping[str, re.Pattern[str]] = {
    "kernel_console": re.compile(r"(console=(?!null$|ttynull$)|earlycon|earlyprintk).*"),
    "kernel_shell": re.compile(
        r"((rd)?init=|rdinit=|systemd\.unit=(rescue|emergency)|systemd\.debug[_-]shell|rd\.break|kgdb|kdb).*"
        r"|single|[Ss1]|rescue|emergency"
    ),
}
_CHECK_VALUE = re.compile(r"[0-9A-Fa-f]{4,64}")


def look(system: System, check: CheckConfig, given: Given, timeout_s: float) -> Finding:
    """Of every kind of this suite but `digest` of files. Raises OSError."""
    match check.kind:
        case "slot":
            return slot(given)
        case "permissions":
            return permissions(system, check)
        case "ports":
            return ports(system, check)
        case "debug":
            return debug(system, check)
        case "keys":
            return keys(check, check_values(system, check, timeout_s), given.baseline)
        case _:
            said = system.output(check.command, timeout_s) if check.command else system.text(check.path)
            return state(check, said)


def slot(given: Given) -> Finding:
    """The whole running slot against the signed manifest."""
    proof = given.slot
    if proof is None:
        return Finding(wrong="the installer was not asked", measure="slot_sha256")
    if not proof.known:
        return Finding(note="no update has written this slot: there is no signed digest of it", measure="slot_sha256")
    wrong = "" if proof.found == proof.expected else f"the running slot is {proof.found}, signed is {proof.expected}"
    return Finding(wrong=wrong, measure="slot_sha256", value=proof.found, limit=proof.expected)


def approved_digest(check: CheckConfig, given: Given) -> str | Finding:
    """The digest that a file must have, or the finding that ends the check."""
    if not check.approved:
        return check.sha256
    proof, measure = given.slot, f"{check.approved}_sha256"
    if proof is None:
        return Finding(wrong="the installer was not asked", measure=measure)
    if digest := proof.approved.get(check.approved):
        return digest
    if not proof.known:
        return Finding(note="no update has written this slot: nothing is known to be approved", measure=measure)
    return Finding(wrong=f"the signed manifest approves no {check.approved!r}", measure=measure)


def permissions(system: System, check: CheckConfig) -> Finding:
    """Of each path, itself and not what is below it."""
    most, found = int(check.mode_max or PERMISSIONS_DEFAULT, 8), []
    for path in check.paths:
        mode, owner = system.about(path)
        if mode & ~most & 0o7777:
            found.append(f"{path} has mode {mode:04o}")
        if check.owner and owner != check.owner:
            found.append(f"{path} is {owner}'s")
    limit = ", ".join(part for part in (check.mode_max and f"mode {check.mode_max}", check.owner) if part)
    wrong = f"{'; '.join(found)}; allowed is {limit}" if found else ""
    return Finding(wrong=wrong, measure="files_too_open", value=len(found), limit=0)


def ports(system: System, check: CheckConfig) -> Finding:
    """TCP ports that something listens on, against the allow list: PORT, or ADDRESS:PORT."""
    found = set(listening(system.text("/proc/net/tcp")))
    try:
        found |= set(listening(system.text("/proc/net/tcp6")))
    except FileNotFoundError:
        pass  # a kernel without IPv6
    allowed = set(check.allow)
    extra = [f"{address}:{port}" for address, port in sorted(found) if not {str(port), f"{address}:{port}"} & allowed]
    wrong = f"open and not allowed: {', '.join(extra)}" if extra else ""
    return Finding(wrong=wrong, measure="open_ports", value=len(extra), limit=0)


def listening(table: str) -> Iterable[tuple[str, int]]:
    """Address and port of each listener in the text of /proc/net/tcp or tcp6."""
    for line in table.splitlines()[1:]:
        words = line.split()
        if len(words) < 4 or words[3] != LISTENS:
            continue
        address, _, port = words[1].partition(":")
        raw = bytes.fromhex(address)
        if sys.byteorder == "little":  # the kernel prints each 32 bits of it as a number
            raw = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
        shown = ipaddress.ip_address(raw)
        yield f"[{shown}]" if shown.version == 6 else str(shown), int(port, 16)


def debug(system: System, check: CheckConfig) -> Finding:
    """Ways in that are for the laboratory."""
    found = []
    running = system.processes() if set(check.interfaces) & _PROCESSES.keys() else set()
    cmdline = system.text("/proc/cmdline").split() if set(check.interfaces) & _CMDLINE.keys() else []
    for name in check.interfaces:
        if name == "sysrq":
            found += _sysrq(system)
        elif name in _PROCESSES:
            found += [f"{name}: {program} runs" for program in sorted(_PROCESSES[name] & running)]
        else:
            found += [
                f"{name}: {word} on the kernel's command line" for word in cmdline if _CMDLINE[name].fullmatch(word)
            ]
    wrong = f"open: {', '.join(found)}" if found else ""
    return Finding(wrong=wrong, measure="debug_interfaces", value=len(found), limit=0)


def _sysrq(system: System) -> list[str]:
    try:
        setting = system.text("/proc/sys/kernel/sysrq").strip()
    except FileNotFoundError:
        return []  # a kernel without it
    return [] if setting == "0" else [f"sysrq: is {setting}"]


def check_values(system: System, check: CheckConfig, timeout_s: float) -> dict[str, str]:
    """Name and check value of each key that the vendor's command tells, `NAME VALUE` a line. Raises OSError."""
    lines = [line.split() for line in system.output(check.command, timeout_s).splitlines()]
    return {words[0]: words[1].upper() for words in lines if len(words) == 2 and _CHECK_VALUE.fullmatch(words[1])}


def figures(check: CheckConfig, values: Mapping[str, str]) -> dict[str, float]:
    """The check values as the baseline keeps them: as numbers."""
    return {_figure_name(check, key): float(int(values[key][:KCV_DIGITS], 16)) for key in check.keys if key in values}


def keys(check: CheckConfig, values: Mapping[str, str], baseline: Mapping[str, float]) -> Finding:
    """Every key is there, and is the one that was there before the update."""
    missing = [key for key in check.keys if key not in values]
    now = figures(check, values)
    changed = [
        key
        for key in check.keys
        if (name := _figure_name(check, key)) in now and now[name] != baseline.get(name, now[name])
    ]
    found = [f"{key} is missing" for key in missing] + [f"{key} has another check value" for key in changed]
    unknown = not any(_figure_name(check, key) in baseline for key in check.keys)
    note = "no check values of the old version to compare with" if unknown else ""
    return Finding(wrong="; ".join(found), note=note, measure="keys_missing_or_changed", value=len(found), limit=0)


def _figure_name(check: CheckConfig, key: str) -> str:
    return f"{check.name}: {key}"


def state(check: CheckConfig, said: str) -> Finding:
    """A word that a file or a command has to say, such as that of the tamper circuit."""
    said = shortened(said)
    wrong = "" if said == check.expect else f"says {said!r}, must be {check.expect!r}"
    return Finding(wrong=wrong, measure="state", value=said, limit=check.expect)
