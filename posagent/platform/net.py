"""Looking at the network from below: links, names, connections, each within its time.

Rules: every call ends within its `timeout_s`, also a name that nobody answers for: the C library's resolver cannot be
interrupted, so it is left behind in a thread of its own.
Source: netdevice(7) for SIOCGIFADDR, Documentation/networking for /proc/net/route and if_inet6.
"""

from __future__ import annotations

import fcntl
import queue
import socket
import struct
import threading
from dataclasses import dataclass
from pathlib import Path

SIOCGIFADDR = 0x8915
_UP = ("up", "unknown")
"""`unknown` is what tunnels and modems say that have no carrier to sense."""
TABLE_LINES_MAX = 4096
ADDRESSES_MAX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One interface that is up; `is_default` when the way out leads over it."""

    name: str
    addresses: tuple[str, ...]
    is_default: bool


class LinuxNet:
    """fetcher.probe.Net over the operating system."""

    def __init__(self, sys_dir: str = "/sys/class/net", proc_dir: str = "/proc/net") -> None:
        self._sys, self._proc = Path(sys_dir), Path(proc_dir)

    def links(self) -> list[Link]:
        """Those that are up, without the loopback."""
        sixes, defaults = self._ipv6_addresses(), self._defaults()
        found = []
        for name in self._names():
            addresses = (*_ipv4_address(name), *sixes.get(name, ()))
            found.append(Link(name=name, addresses=addresses[:ADDRESSES_MAX], is_default=name in defaults))
        return found

    def _names(self) -> list[str]:
        try:
            names = sorted(path.name for path in self._sys.iterdir())
        except OSError:
            return []
        return [name for name in names if name != "lo" and _text(self._sys / name / "operstate").strip() in _UP]

    def _rows(self, table: str) -> list[list[str]]:
        return [line.split() for line in _text(self._proc / table).splitlines()[:TABLE_LINES_MAX]]

    def _ipv6_addresses(self) -> dict[str, tuple[str, ...]]:
        """Global ones, by interface."""
        found: dict[str, tuple[str, ...]] = {}
        for row in self._rows("if_inet6"):
            if len(row) == 6 and row[3] == "00" and len(row[0]) == 32:
                address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(row[0]))
                found[row[5]] = (*found.get(row[5], ()), address)
        return found

    def _defaults(self) -> set[str]:
        four = {row[0] for row in self._rows("route") if len(row) > 7 and row[1] == row[7] == "00000000"}
        six = {row[9] for row in self._rows("ipv6_route") if len(row) == 10 and row[0] == "0" * 32 and row[1] == "00"}
        return four | six

    def resolve(self, host: str, port: int, timeout_s: float) -> list[str]:
        """Addresses of the host. Raises OSError, TimeoutError."""
        answers: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

        def look_up() -> None:
            try:
                found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                answers.put(list(dict.fromkeys(str(one[4][0]) for one in found))[:ADDRESSES_MAX])
            except OSError as error:
                answers.put(error)
            except UnicodeError:  # a label that no name can have
                answers.put(OSError(f"{host} is no name of a server"))

        threading.Thread(target=look_up, daemon=True).start()
        try:
            answer = answers.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError(f"no answer in {timeout_s:.0f} s") from None
        if isinstance(answer, OSError):
            raise answer
        return answer

    def connect(self, address: str, port: int, timeout_s: float) -> socket.socket:
        """A connection, on which every step has the same time. Raises OSError."""
        return socket.create_connection((address, port), timeout=timeout_s)


def _text(path: Path) -> str:
    try:
        with path.open(encoding="ascii", errors="replace") as stream:
            return stream.read(1 << 18)
    except OSError:
        return ""


def _ipv4_address(name: str) -> tuple[str, ...]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            answer = fcntl.ioctl(asking, SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
        except OSError:
            return ()
    return (socket.inet_ntop(socket.AF_INET, answer[20:24]),)
