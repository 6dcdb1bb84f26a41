"""Tells at once when the terminal's network links change, by a signal that ends whatever waits for the old link.

A connection over a link that went away says nothing: without this a download notices only when its stall time-out ends,
while another link would have carried on.
Owns: the one netlink socket. Rules: only what takes a connection's ground away counts: an address that is gone, and
another way out (IPv4 default route). Whoever cannot have the socket goes on without it.
Source: rtnetlink(7), netlink(7).
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
from collections.abc import Callable, Iterator

RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR = 0x10, 0x40, 0x100
RTM_DELADDR, RTM_NEWROUTE, RTM_DELROUTE = 21, 24, 25
MAIN_TABLE = 254
_HEADER = struct.Struct("=IHHII")
_ROUTE = struct.Struct("=BBBBBBBBI")
MESSAGES_BYTES_MAX = 1 << 16


def watch(changed: Callable[[], None]) -> socket.socket | None:
    """Call `changed`, in the middle of whatever the main thread does, after every change; it may raise. None where the
    system does not allow it. The socket must be kept."""
    try:
        link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        link.bind((0, RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR))
    except OSError:
        return None
    link.setblocking(False)

    def signalled(*_: object) -> None:
        told = [is_change(kind, body) for data in _waiting(link) for kind, body in messages(data)]  # read all of it
        if any(told):
            changed()

    signal.signal(signal.SIGIO, signalled)
    fcntl.fcntl(link, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(link, fcntl.F_SETFL, fcntl.fcntl(link, fcntl.F_GETFL) | os.O_ASYNC)
    return link


def _waiting(link: socket.socket) -> Iterator[bytes]:
    while True:
        try:
            yield link.recv(MESSAGES_BYTES_MAX)
        except OSError:  # nothing more, or more than the kernel kept
            return


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and body of each message."""
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        if not _HEADER.size <= length <= len(data):
            return
        yield kind, data[_HEADER.size : length]
        data = data[(length + 3) & ~3 :]


def is_change(kind: int, body: bytes) -> bool:
    """Whether this takes a connection's ground away."""
    if kind == RTM_DELADDR:
        return True
    if kind not in (RTM_NEWROUTE, RTM_DELROUTE) or len(body) < _ROUTE.size:
        return False
    family, destination_bits, _, _, table, *_ = _ROUTE.unpack_from(body)
    return (family, destination_bits, table) == (socket.AF_INET, 0, MAIN_TABLE)
