"""Answers that no good server gives: each ends with its code, and what was fetched before stays."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posagent.core.errors import FetchError
from posagent.fetcher.download import _offer
from tests.fetcher.test_against_nginx import fetcher, finish, refusal

KEPT = b"k" * 100_000
WHOLE = KEPT + b"w" * 100_000


class Scripted:
    """A server that gives each connection the next of its answers, whatever is asked, and keeps what was asked."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/b"
        self.answers: list[bytes] = []
        self.asked: list[bytes] = []
        self.hold = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.asked.append(connection.recv(65536))
                answer = self.answers.pop(0) if self.answers else b""
                endless = answer.endswith(b"ENDLESS")
                try:
                    connection.sendall(answer.removesuffix(b"ENDLESS").removesuffix(b"STALL"))
                    while endless:
                        connection.sendall(b"e" * 65536)
                    if answer.endswith(b"STALL"):
                        self.hold.wait(20)
                except OSError:
                    pass  # the fetcher had enough

    def close(self) -> None:
        self.hold.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def server() -> Iterator[Scripted]:
    made = Scripted()
    yield made
    made.close()


def reply(status: str, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


def begun(server: Scripted, tmp_path: Path) -> dict[str, Any]:
    """A download of which KEPT is there: the server announced more than it sent."""
    args = {"id": "u1", "source": server.url}
    server.answers = [reply("200 OK", KEPT, Content_Length=str(len(WHOLE)), ETag='"one"')]
    assert refusal(fetcher(tmp_path).fetch(args)).code == "fetch_length"
    assert (tmp_path / "spool/u1.part").read_bytes() == KEPT
    return args


def test_the_rest_is_asked_for_with_the_files_validator(server: Scripted, tmp_path: Path) -> None:
    args = begun(server, tmp_path)
    rest = f"bytes {len(KEPT)}-{len(WHOLE) - 1}/{len(WHOLE)}"
    server.answers = [reply("206 Partial Content", WHOLE[len(KEPT) :], Content_Range=rest, ETag='"one"')]
    result = finish(fetcher(tmp_path).fetch(args))
    assert Path(result["bundle"]).read_bytes() == WHOLE and result["bytes_refetched"] == 0
    asked = server.asked[-1].lower()
    assert b"range: bytes=100000-" in asked and b'if-range: "one"' in asked


def test_a_server_without_ranges_is_begun_again(server: Scripted, tmp_path: Path) -> None:
    args = begun(server, tmp_path)
    whole = reply("200 OK", WHOLE, Content_Length=str(len(WHOLE)), ETag='"one"')
    server.answers = [whole, whole]
    result = finish(fetcher(tmp_path).fetch(args))
    assert Path(result["bundle"]).read_bytes() == WHOLE and result["bytes_refetched"] == len(KEPT)


def test_a_file_that_changes_all_the_time_is_given_up(server: Scripted, tmp_path: Path) -> None:
    args = begun(server, tmp_path)
    for number in range(12):
        server.answers = [reply("200 OK", KEPT, Content_Length="200000", ETag=f'"{number}{i}"') for i in range(2)]
        error = refusal(fetcher(tmp_path).fetch(args))
        if error.code == "fetch_changed":
            return
    raise AssertionError("never given up")


@pytest.mark.parametrize(
    "answer",
    [
        reply("206 Partial Content", b"x"),
        reply("206 Partial Content", b"x", Content_Range="bytes 0-0/200000"),
        reply("206 Partial Content", b"x", Content_Range="bytes 100000-150000/200000"),
        reply("206 Partial Content", b"x", Content_Range="bytes 100000-199999/*"),
        reply("206 Partial Content", b"x", Content_Range="nonsense"),
        reply("500 Oops", b"x", Content_Length="1"),
        reply("404 Not Found", b"x", Content_Length="1"),
        reply("200 OK", b"<html>", Content_Length="6", Content_Type="text/html"),
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"x" * (1 << 20) + b"\r\n\r\n",
        b"".join([b"HTTP/1.1 200 OK\r\n", *(b"X-%d: y\r\n" % number for number in range(2000)), b"\r\n"]),
        reply("302 Found"),
        reply("302 Found", Location="ftp://elsewhere/b"),
        reply("302 Found", Location="x" * 5000),
    ],
    ids=lambda value: value[:40].decode("latin-1").splitlines()[0] if value else "nothing",
)
def test_a_bad_answer_is_coded_and_what_was_fetched_stays(server: Scripted, tmp_path: Path, answer: bytes) -> None:
    args = begun(server, tmp_path)
    server.answers = [answer]
    error = refusal(fetcher(tmp_path).fetch(args))
    assert error.code.startswith("fetch_")
    assert (tmp_path / "spool/u1.part").read_bytes() == KEPT


def test_more_than_was_announced_is_not_taken(server: Scripted, tmp_path: Path) -> None:
    server.answers = [reply("200 OK", b"x" * 2000, Content_Length="1000")]
    assert finish(fetcher(tmp_path).fetch({"id": "u1", "source": server.url}))["length"] == 1000


def test_a_body_without_end_stops_at_the_limit(server: Scripted, tmp_path: Path) -> None:
    server.answers = [reply("200 OK", b"ENDLESS")]
    limited = fetcher(tmp_path, download_bytes_max=1_000_000)
    assert refusal(limited.fetch({"id": "u1", "source": server.url})).code == "fetch_too_large"
    assert (tmp_path / "spool/u1.part").stat().st_size <= 1_000_000


def test_silence_is_a_stall(server: Scripted, tmp_path: Path) -> None:
    server.answers = [reply("200 OK", b"xxxSTALL", Content_Length="1000")]
    error = refusal(fetcher(tmp_path, stall_timeout_s=1).fetch({"id": "u1", "source": server.url}))
    assert error.code == "fetch_stalled" and error.facts["bytes_done"] == 3


def test_the_whole_time_is_limited(server: Scripted, tmp_path: Path) -> None:
    server.answers = [reply("200 OK", b"ENDLESS")]
    slow = fetcher(tmp_path, download_timeout_s=1, download_bytes_max=2**40)
    assert refusal(slow.fetch({"id": "u1", "source": server.url})).code == "fetch_timeout"


def test_redirects_in_a_circle_are_given_up(server: Scripted, tmp_path: Path) -> None:
    server.answers = [reply("302 Found", Location=server.url)] * 10
    assert refusal(fetcher(tmp_path).fetch({"id": "u1", "source": server.url})).code == "fetch_status"


def test_the_server_may_ask_for_patience(server: Scripted, tmp_path: Path) -> None:
    server.answers = [reply("503 Busy", Retry_After="90"), reply("429 Slow", Retry_After="99999999999")]
    assert refusal(fetcher(tmp_path).fetch({"id": "u1", "source": server.url})).facts["retry_after_s"] == 90
    assert "retry_after_s" not in refusal(fetcher(tmp_path).fetch({"id": "u1", "source": server.url})).facts


def test_nobody_there_is_a_network_error(tmp_path: Path) -> None:
    for source in ("http://127.0.0.1:1/b", "http://", "http://[::1", "http://127.0.0.1:99999/b"):
        assert refusal(fetcher(tmp_path).fetch({"id": "u1", "source": source})).code in (
            "fetch_network",
            "fetch_insecure",
        )


class TestLocalFiles:
    def test_a_file_on_a_stick_is_copied(self, tmp_path: Path) -> None:
        stick = tmp_path / "stick.bundle"
        stick.write_bytes(os.urandom(1 << 20))
        result = finish(fetcher(tmp_path).fetch({"id": "u1", "source": str(stick)}))
        assert Path(result["bundle"]).read_bytes() == stick.read_bytes()

    def test_what_is_no_regular_file_is_refused_without_waiting(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "link").symlink_to("/etc/passwd")
        for path in (tmp_path / "pipe", tmp_path / "link", tmp_path, tmp_path / "none", Path("/dev/zero")):
            assert refusal(fetcher(tmp_path).fetch({"id": "u1", "source": str(path)})).code == "fetch_source"


class TestAnnouncement:
    GOOD: ClassVar[dict[str, Any]] = {
        "format": 1,
        "version": "2.0.0",
        "bundle": "bundles/x.bundle",
        "length": 5,
        "sha256": "a" * 64,
    }

    def test_it_is_read(self) -> None:
        offer = _offer(json.dumps(self.GOOD).encode(), "https://x/r")
        assert offer == {"version": "2.0.0", "url": "https://x/r/bundles/x.bundle", "length": 5, "sha256": "a" * 64}

    @pytest.mark.parametrize(
        "change",
        [
            {"format": 2},
            {"version": ""},
            {"version": "x" * 65},
            {"bundle": "../x"},
            {"bundle": "/x"},
            {"bundle": "https://elsewhere/x"},
            {"bundle": "a//b"},
            {"bundle": "a\\b"},
            {"length": 0},
            {"length": True},
            {"length": "5"},
            {"sha256": "A" * 64},
            {"sha256": None},
        ],
    )
    def test_a_strange_one_is_refused(self, change: dict[str, Any]) -> None:
        with pytest.raises(FetchError, match="fetch_pointer"):
            _offer(json.dumps({**self.GOOD, **change}).encode(), "https://x")

    @settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.binary(max_size=200)
        | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda value: json.dumps(value).encode())
    )
    def test_no_bytes_crash_the_reader(self, data: bytes) -> None:
        with pytest.raises(FetchError, match="fetch_pointer"):
            _offer(data, "https://x")

    def test_an_endless_one_is_refused(self, server: Scripted, tmp_path: Path) -> None:
        server.answers = [reply("200 OK", b"ENDLESS")]
        looking = fetcher(tmp_path, repository_url=server.url)
        assert refusal(looking.look({})).code == "fetch_pointer"
