"""A network link that goes away is noticed at once, in a network of this test's own."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import sys

import pytest

from posagent.platform import links

DOWNLOAD = """
import socket, subprocess, sys, threading, time
from posagent.config import FetchConfig, FleetConfig, TerminalConfig
from posagent.fetcher import service
from hil import network
network.enter()
run = lambda *words: subprocess.run(["ip", *words], check=True)
run("address", "add", "10.9.0.1/24", "dev", "lo")
listener = socket.create_server(("10.9.0.1", 0))
def serve():
    line, _ = listener.accept()
    line.recv(4096)
    line.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 900000\\r\\n\\r\\n" + bytes(100000))
    run("address", "del", "10.9.0.1/24", "dev", "lo")
    time.sleep(60)
threading.Thread(target=serve, daemon=True).start()
class Config:
    fleet, terminal = FleetConfig(), TerminalConfig(id="t", hardware="h")
    fetch = FetchConfig(spool_dir=sys.argv[1], allow_http=True, keep_free_bytes=0, checkpoint_bytes=4096)
began = time.monotonic()
try:
    url = f"http://10.9.0.1:{listener.getsockname()[1]}/b"
    list(service._verbs(Config)["fetch"]({"id": "u1", "source": url, "pieces": [[0, 900000]]}))
except service.FetchError as error:
    print(error.code, error.facts["bytes_done"] >= 0, time.monotonic() - began < 30)
"""


@pytest.mark.real
@pytest.mark.skipif(os.getuid() != 0 or shutil.which("ip") is None, reason="needs root, and ip of iproute2")
def test_a_download_does_not_wait_for_a_link_that_is_gone(tmp_path: object) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", DOWNLOAD, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stdout.split() == ["fetch_link_changed", "True", "True"], ended.stderr


def message(kind: int, body: bytes) -> bytes:
    data = struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body
    return data + bytes(-len(data) % 4)


def route(family: int, bits: int, table: int = links.MAIN_TABLE) -> bytes:
    return struct.pack("=BBBBBBBBI", family, bits, 0, 0, table, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("kind", "body", "counts"),
    [
        (links.RTM_DELADDR, bytes(8), True),
        (links.RTM_NEWROUTE, route(socket.AF_INET, 0), True),
        (links.RTM_DELROUTE, route(socket.AF_INET, 0), True),
        (links.RTM_NEWROUTE, route(socket.AF_INET, 24), False),
        (links.RTM_NEWROUTE, route(socket.AF_INET, 0, 255), False),
        (links.RTM_NEWROUTE, route(socket.AF_INET6, 0), False),
        (links.RTM_NEWROUTE, b"short", False),
        (20, bytes(8), False),
    ],
)
def test_only_what_takes_the_ground_away_counts(kind: int, body: bytes, counts: bool) -> None:
    ((found, rest),) = links.messages(message(kind, body))
    assert links.is_change(found, rest) is counts


@pytest.mark.parametrize("data", [b"", bytes(15), struct.pack("=IHHII", 8, 21, 0, 0, 0), message(21, b"x" * 8)[:-4]])
def test_what_is_cut_short_is_no_message(data: bytes) -> None:
    assert list(links.messages(data)) == []
