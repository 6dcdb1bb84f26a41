"""Checks of the configuration: what it names exists and is what it should be."""

from __future__ import annotations

import binascii

from posagent.core import revocation
from posagent.core.errors import PosagentError
from posagent.doctor.findings import Verdict, all_of, fault, ok, warning
from posagent.doctor.site import Site

ROOT_BYTES_MAX = 1 << 20
AUTHORITIES_BYTES_MAX = 1 << 14
VENDOR_KEY_BYTES_MAX = 1 << 12
X25519_BYTES = bytes.fromhex("302a300506032b656e032100")
"""How every such public key begins (RFC 8410): an algorithm and nothing else, then its 32 bytes."""
EXECUTABLE = 0o111


def root_of_trust(site: Site) -> Verdict:
    """The metadata that all trust begins with."""
    path = site.config.trust.root_file
    try:
        site.read_root(site.board.read(path, 0, ROOT_BYTES_MAX))
    except OSError as error:
        return fault(f"{path}: {error.strerror}")
    except PosagentError as error:
        return fault(f"{path}: {error.detail}")
    return ok(path)


def engineer_authorities(site: Site) -> Verdict:
    """The SSH authorities whose certificates unlock the serial console."""
    path = site.config.console.engineer_ca_file
    if not site.config.console.device:
        return ok("no serial console is configured")
    try:
        keys = site.read_authorities(site.board.read(path, 0, AUTHORITIES_BYTES_MAX))
    except OSError as error:
        return fault(f"{path}: {error.strerror}; nobody can unlock the serial console")
    if not keys:
        return fault(f"{path}: no line of it is a public key")
    revoked_file = site.config.console.revoked_file
    unclear = revocation.trouble(revoked_file, lambda path: site.board.read(path, 0, revocation.FILE_BYTES_MAX + 1))
    return warning(unclear.detail) if unclear is not None else ok(f"{path}: {keys} key(s)")


def version(site: Site) -> Verdict:
    """The name of the running system."""
    path = site.config.terminal.os_release_file
    if not site.running_version:
        return fault(f"{path}: neither IMAGE_VERSION nor VERSION_ID")
    return ok(site.running_version)


def programs(site: Site) -> Verdict:
    """Files and programs that are named elsewhere in the configuration."""
    config = site.config
    programs = {"boot.reboot_command": config.boot.reboot_command[0]}
    programs |= {f"self-test {one.name!r}": one.command[0] for one in config.selftest.checks if one.command}
    files = {"fetch.ca_file": config.fetch.ca_file} if config.fetch.ca_file else {}
    match config.boot.kind:
        case "uboot":
            programs |= {"boot.fw_setenv": config.boot.fw_setenv, "boot.fw_printenv": config.boot.fw_printenv}
            files["boot.env_config"] = config.boot.env_config
        case "grub":
            programs["boot.grub_editenv"] = config.boot.grub_editenv
        case "custom":
            programs["boot.custom_command"] = config.boot.custom_command[0]
    faults = []
    for key, path in {**programs, **files}.items():
        found = site.board.about(path)
        if found is None:
            faults.append(f"{key}: {path} does not exist")
        elif key in programs and not found.mode & EXECUTABLE:
            faults.append(f"{key}: {path} is not executable")
    return all_of(faults, f"{len(programs) + len(files)} files")


def self_tests(site: Site) -> Verdict:
    """Without a self-test every new version fails."""
    checks = site.config.selftest.checks
    return ok(f"{len(checks)} configured") if checks else fault("none is configured")


def repository(site: Site) -> Verdict:
    """Where updates come from."""
    fetch = site.config.fetch
    if not fetch.repository_url:
        return warning("fetch.repository_url is empty: only bundles that are named by hand can be installed")
    if fetch.repository_url.startswith("http://"):
        return warning(f"{fetch.repository_url}: not https; bundles are signed, but anybody can hold them back")
    return ok(fetch.repository_url)


def support(site: Site) -> Verdict:
    """The key that only service can open what it seals."""
    path = site.config.support.vendor_key_file
    if not path:
        return warning("support.vendor_key_file is empty: a terminal in trouble cannot send a report")
    try:
        lines = site.board.read(path, 0, VENDOR_KEY_BYTES_MAX).splitlines()
        key = binascii.a2b_base64(b"".join(line for line in lines if not line.startswith(b"-----")), strict_mode=True)
    except OSError as error:
        return fault(f"{path}: {error.strerror}")
    except ValueError:
        key = b""
    sound = key.startswith(X25519_BYTES) and len(key) == len(X25519_BYTES) + 32
    return ok(path) if sound else fault(f"{path} is no X25519 public key in PEM")


CHECKS = {
    "config.root": root_of_trust,
    "config.engineer": engineer_authorities,
    "config.version": version,
    "config.programs": programs,
    "config.selftests": self_tests,
    "config.repository": repository,
    "config.support": support,
}
