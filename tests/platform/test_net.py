"""Links, names and connections as the system tells of them; nothing lasts longer than its time."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from posagent.platform.net import Link, LinuxNet

DEFAULT = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"


@pytest.fixture
def machine(tmp_path: Path) -> LinuxNet:
    """One with a modem that has only IPv6, a cable that is not plugged in, and the loopback."""
    for name, state in {"lo": "unknown", "wwan0": "unknown", "eth0": "down", "tun0": "up"}.items():
        (tmp_path / "sys" / name).mkdir(parents=True)
        (tmp_path / "sys" / name / "operstate").write_text(state + "\n")
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / "if_inet6").write_text(
        "00000000000000000000000000000001 01 80 10 80 lo\n"
        "20010db8000000000000000000000007 02 40 00 80 wwan0\n"
        "fe800000000000000000000000000007 02 40 20 80 wwan0\n"
        "broken\n"
    )
    (proc / "route").write_text(DEFAULT + "tun0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n")
    zeros = "0" * 32
    (proc / "ipv6_route").write_text(f"{zeros} 00 {zeros} 00 {zeros} 00000400 1 0 00000003 wwan0\nbroken\n")
    return LinuxNet(str(tmp_path / "sys"), str(proc))


def test_links_that_are_up_are_told_with_their_global_addresses_and_the_way_out(machine: LinuxNet) -> None:
    assert machine.links() == [
        Link(name="tun0", addresses=(), is_default=False),
        Link(name="wwan0", addresses=("2001:db8::7",), is_default=True),
    ]


def test_an_ipv4_default_route_is_a_way_out(machine: LinuxNet, tmp_path: Path) -> None:
    (tmp_path / "proc/route").write_text(DEFAULT + "tun0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n")
    assert [link.name for link in machine.links() if link.is_default] == ["tun0", "wwan0"]


def test_a_machine_that_tells_nothing_has_no_links(tmp_path: Path) -> None:
    assert LinuxNet(str(tmp_path / "none"), str(tmp_path / "none")).links() == []


@pytest.mark.real
def test_this_machine_can_be_looked_at() -> None:
    for link in LinuxNet().links():
        assert link.name != "lo" and all(isinstance(address, str) for address in link.addresses)


def test_an_address_needs_no_name_server() -> None:
    assert LinuxNet().resolve("127.0.0.1", 443, 5.0) == ["127.0.0.1"]
    assert LinuxNet().resolve("::1", 443, 5.0) == ["::1"]


def test_a_name_server_that_never_answers_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def never(*_: Any, **__: Any) -> list[Any]:
        over.wait(20)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", never)
    try:
        with pytest.raises(TimeoutError, match="no answer"):
            LinuxNet().resolve("updates.test", 443, 0.05)
    finally:
        over.set()


@pytest.mark.parametrize("host", ["x" * 80 + ".test", "a..b"])
def test_what_cannot_be_a_name_is_an_error_like_any_other(host: str) -> None:
    with pytest.raises(OSError):
        LinuxNet().resolve(host, 443, 5.0)
