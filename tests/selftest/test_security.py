"""The security suite: what was signed and approved is what runs, and nothing on it stands open."""

from __future__ import annotations

import hashlib
import os
import pwd
import socket
from pathlib import Path
from typing import Any

import pytest

from posagent.config_selftest import KINDS
from posagent.core.errors import PosagentError
from tests.selftest.bench import check, figures, given, program, result

A, B = "a1" * 32, "b2" * 32
TCP = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
LISTENERS = (
    "   0: 0100007F:1267 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1\n"
    "   1: 00000000:15B3 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2\n"
    "   2: 0F02000A:0016 0202000A:9C40 01 00000000:00000000 00:00000000 00000000     0        0 3\n"
)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine on which all is closed."""
    lay(tmp_path, "/proc/net/tcp", TCP)
    lay(tmp_path, "/proc/net/tcp6", TCP)
    lay(tmp_path, "/proc/cmdline", "root=/dev/mmcblk0p2 ro quiet console=null posagent.slot=a\n")
    lay(tmp_path, "/proc/sys/kernel/sysrq", "0\n")
    lay(tmp_path, "/proc/1/comm", "systemd\n")
    lay(tmp_path, "/proc/77/comm", "payment\n")
    return tmp_path


def lay(root: Path, path: str, text: str) -> None:
    (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
    (root / path[1:]).write_text(text)


def proof(expected: str = A, found: str = A, **approved: str) -> dict[str, Any]:
    return {"expected": expected, "found": found, "approved": approved}


# the slot, the kernel, the parameters


def test_the_whole_slot_is_held_against_what_was_signed() -> None:
    assert result(check("slot"), slot=proof())["passed"]
    found = result(check("slot"), slot=proof(found=B))
    assert not found["passed"] and (found["measure"], found["value"], found["limit"]) == ("slot_sha256", B, A)


def test_a_slot_that_no_update_has_written_is_told_as_such_and_one_nobody_looked_at_fails() -> None:
    found = result(check("slot"), slot=proof("", ""))
    assert found["passed"] and "no signed digest" in found["detail"]
    assert result(check("slot"))["detail"] == "the installer was not asked"


def test_the_kernel_must_be_the_approved_one(tmp_path: Path) -> None:
    (tmp_path / "zImage").write_bytes(b"kernel")
    digest = hashlib.sha256(b"kernel").hexdigest()
    one = check("digest", path=str(tmp_path / "zImage"), approved="kernel")
    assert result(one, slot=proof(kernel=digest))["passed"]
    (tmp_path / "zImage").write_bytes(b"Kernel")
    found = result(one, slot=proof(kernel=digest))
    assert not found["passed"] and (found["measure"], found["limit"]) == ("kernel_sha256", digest)
    assert hashlib.sha256(b"Kernel").hexdigest() in found["detail"]


def test_what_the_manifest_does_not_approve_fails_unless_nothing_is_known_of_the_slot() -> None:
    one = check("digest", path="/etc/hostname", approved="kernel")
    assert "approves no 'kernel'" in result(one, slot=proof())["detail"]
    assert not result(one)["passed"]
    found = result(one, slot=proof("", ""))
    assert found["passed"] and "nothing is known to be approved" in found["detail"]


def test_the_hash_of_parameters_may_be_a_vendors_commands(tmp_path: Path) -> None:
    one = check("digest", command=program(tmp_path / "hash", f"echo {A.upper()}"), approved="parameters")
    assert result(one, slot=proof(parameters=A))["passed"]
    found = result(one, slot=proof(parameters=B))
    assert not found["passed"] and A in found["detail"] and found["limit"] == B


@pytest.mark.parametrize(
    "args",
    [
        {"baseline": {"x": "1"}},
        {"baseline": {"x": float("nan")}},
        {"baseline": {str(n): n for n in range(65)}},
        {"baseline": 7},
        {"slot": {}},
        {"slot": {"expected": 1, "found": A, "approved": {}}},
        {"slot": {"expected": A, "found": A, "approved": {"kernel": None}}},
        {"slot": [1]},
    ],
)
def test_evidence_that_is_nonsense_is_refused_and_never_a_pass(args: dict[str, Any]) -> None:
    with pytest.raises(PosagentError, match="bad_request"):
        given(**args)


# what stands open


def test_files_that_anybody_may_change_are_named(tmp_path: Path) -> None:
    lay(tmp_path, "/etc/keys", "")
    (tmp_path / "etc/keys").chmod(0o640)
    one = check("permissions", paths=("/etc/keys",), mode_max="0640")
    assert result(one, tmp_path)["passed"]
    (tmp_path / "etc/keys").chmod(0o646)
    found = result(one, tmp_path)
    assert not found["passed"] and found["detail"] == "/etc/keys has mode 0646; allowed is mode 0640"
    assert (found["value"], found["limit"]) == (1, 0)
    owner = pwd.getpwuid(os.getuid()).pw_name
    assert result(check("permissions", paths=("/etc/keys",), owner=owner), tmp_path)["passed"]
    found = result(check("permissions", paths=("/etc/keys",), owner="nobody-else"), tmp_path)
    assert f"/etc/keys is {owner}'s" in found["detail"]
    assert "No such file" in result(check("permissions", paths=("/none",), owner="root"), tmp_path)["detail"]


def test_one_more_open_port_is_found(machine: Path) -> None:
    assert result(check("ports"), machine)["passed"]
    lay(machine, "/proc/net/tcp", TCP + LISTENERS)
    found = result(check("ports", allow=("4711",)), machine)
    assert not found["passed"] and found["detail"] == "open and not allowed: 0.0.0.0:5555", "22 only talks"
    assert (found["measure"], found["value"], found["limit"]) == ("open_ports", 1, 0)
    assert result(check("ports", allow=("127.0.0.1:4711", "5555")), machine)["passed"]
    assert not result(check("ports", allow=("10.0.2.15:4711", "5555")), machine)["passed"]


def test_ports_of_ipv6_count_and_a_kernel_may_be_without_it(machine: Path) -> None:
    line = "   0: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 0A 0 0 0 0 0 0\n"
    lay(machine, "/proc/net/tcp6", TCP + line)
    assert "[::1]:22" in result(check("ports"), machine)["detail"]
    (machine / "proc/net/tcp6").unlink()
    assert result(check("ports"), machine)["passed"]
    (machine / "proc/net/tcp").unlink()
    assert not result(check("ports"), machine)["passed"], "what cannot be seen has failed"


def test_a_port_of_this_very_machine_is_seen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert f"127.0.0.1:{port}" in result(check("ports"))["detail"]


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("/proc/sys/kernel/sysrq", "1\n", "sysrq: is 1"),
        ("/proc/99/comm", "agetty\n", "getty: agetty runs"),
        ("/proc/99/comm", "sshd\n", "ssh: sshd runs"),
        ("/proc/99/comm", "adbd\n", "adb: adbd runs"),
        ("/proc/99/comm", "gdbserver\n", "debugger: gdbserver runs"),
        ("/proc/cmdline", "root=/dev/x console=ttyS0,115200 ro", "kernel_console: console=ttyS0,115200 on"),
        ("/proc/cmdline", "root=/dev/x init=/bin/sh", "kernel_shell: init=/bin/sh on"),
        ("/proc/cmdline", "root=/dev/x systemd.debug_shell=1", "kernel_shell: systemd.debug_shell=1 on"),
        ("/proc/cmdline", "root=/dev/x single", "kernel_shell: single on"),
    ],
)
def test_a_debug_interface_that_is_on_is_named(machine: Path, path: str, text: str, said: str) -> None:
    assert result(check("debug"), machine)["passed"]
    lay(machine, path, text)
    found = result(check("debug"), machine)
    assert not found["passed"] and said in found["detail"] and found["measure"] == "debug_interfaces"
    assert result(check("debug", interfaces=("telnet",)), machine)["passed"], "only what is listed counts"


def test_a_kernel_without_sysrq_is_closed(machine: Path) -> None:
    (machine / "proc/sys/kernel/sysrq").unlink()
    assert result(check("debug"), machine)["passed"]


# keys and tampering


def test_keys_are_there_and_the_same_as_before_the_update(tmp_path: Path) -> None:
    one = check("keys", name="keys", command=("/bin/cat", f"{tmp_path}/kcv"), keys=("TMK", "DUKPT"))
    (tmp_path / "kcv").write_text("TMK 1A2B3C\nDUKPT 00FF00AA11\nother 999999\n")
    told = figures(one)
    assert told["figures"] == {"keys: TMK": float(0x1A2B3C), "keys: DUKPT": float(0x00FF00AA11)}
    found = result(one, baseline=told["figures"])
    assert found["passed"] and found["detail"] == ""
    (tmp_path / "kcv").write_text("TMK 1A2B3D\n")
    found = result(one, baseline=told["figures"])
    assert found["detail"] == "DUKPT is missing; TMK has another check value" and found["value"] == 2


def test_keys_without_values_of_before_must_at_least_be_there(tmp_path: Path) -> None:
    one = check("keys", command=("/bin/cat", f"{tmp_path}/kcv"), keys=("TMK",))
    (tmp_path / "kcv").write_text("TMK 1a2b3c\n")
    found = result(one)
    assert found["passed"] and "no check values of the old version" in found["detail"]
    (tmp_path / "kcv").write_text("TMK none\n")
    assert not result(one)["passed"]


def test_the_tamper_circuit_must_say_what_it_has_to(machine: Path) -> None:
    one = check("state", path="/sys/tamper", expect="0")
    lay(machine, "/sys/tamper", "0\n")
    assert result(one, machine)["passed"]
    lay(machine, "/sys/tamper", "3\n")
    found = result(one, machine)
    assert not found["passed"] and (found["value"], found["limit"]) == ("3", "0")
    (machine / "sys/tamper").unlink()
    assert not result(one, machine)["passed"]
    assert result(check("state", command=program(machine / "tamper", "echo intact"), expect="intact"))["passed"]


def test_a_pipe_in_place_of_a_file_does_not_hold_up_the_tests(machine: Path) -> None:
    (machine / "sys").mkdir()
    os.mkfifo(machine / "sys/tamper")
    assert "not a regular file" in result(check("state", path="/sys/tamper", expect="0"), machine)["detail"]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("command", "tcp", "free_space", "slot")])
def test_whatever_cannot_be_looked_at_fails_with_its_measure(tmp_path: Path, kind: str) -> None:
    keys: dict[str, Any] = {"path": "/none", "paths": ("/none",), "device": "/none", "send_hex": "05", "expect": "x"}
    keys |= {"sha256": A, "worse_percent_max": 10, "owner": "root", "keys": ("TMK",), "unit": "none.service"}
    keys |= {"command": ("/none",)} if kind == "keys" else {}
    if kind in ("boot_time", "start_time"):
        keys["unit"] = ""
    found = result(check(kind, **keys), tmp_path)
    assert not found["passed"] and found["measure"] and found["detail"]
