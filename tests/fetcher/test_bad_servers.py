"""Answers that no good server gives: each ends with its code, and what was fetched before stays."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from posagent.core.errors import Retry
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


class HourlyClock:
    """An hour passes between any two looks at it."""

    def __init__(self) -> None:
        self._now = 0.0

    def monotonic(self) -> float:
        self._now += 3600
        return self._now

    def wall(self) -> float:
        return self._now


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
    assert (tmp_path / "spool/u1.bundle").read_bytes() == KEPT
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
    ("answer", "code"),
    [
        (reply("206 Partial Content", b"x"), "fetch_length"),
        (reply("206 Partial Content", b"x", Content_Range="bytes 0-0/200000"), "fetch_length"),
        (reply("206 Partial Content", b"x", Content_Range="bytes 100000-200000/200000"), "fetch_length"),
        (reply("206 Partial Content", b"x", Content_Range="bytes 100000-199999/*"), "fetch_length"),
        (reply("206 Partial Content", b"x", Content_Range="nonsense"), "fetch_length"),
        (reply("500 Oops", b"x", Content_Length="1"), "fetch_status"),
        (reply("404 Not Found", b"x", Content_Length="1"), "fetch_status"),
        (reply("200 OK", b"<html>", Content_Length="6", Content_Type="text/html"), "fetch_portal"),
        (b"", "fetch_network"),
        (b"garbage\r\n\r\n", "fetch_network"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nabcde", "fetch_network"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * (1 << 20) + b"\r\n\r\n", "fetch_network"),
        (b"".join([b"HTTP/1.1 200 OK\r\n", *(b"X-%d: y\r\n" % n for n in range(2000)), b"\r\n"]), "fetch_network"),
        (reply("302 Found"), "fetch_status"),
        (reply("302 Found", Location="ftp://elsewhere/b"), "fetch_insecure"),
        (reply("302 Found", Location="x" * 5000), "fetch_status"),
    ],
    ids=lambda value: value[:40].decode("latin-1").splitlines()[0] if value and isinstance(value, bytes) else value,
)
def test_a_bad_answer_is_coded_and_what_was_fetched_stays(
    server: Scripted, tmp_path: Path, answer: bytes, code: str
) -> None:
    args = begun(server, tmp_path)
    server.answers = [answer]
    error = refusal(fetcher(tmp_path).fetch(args))
    assert error.code == code and error.facts["bytes_done"] == len(KEPT)
    assert (tmp_path / "spool/u1.bundle").read_bytes() == KEPT


@pytest.mark.parametrize("etag", ['"a\nb"', '"\u20ac"', '"\x00"'])
def test_a_record_with_a_validator_that_cannot_be_sent_begins_again(
    server: Scripted, tmp_path: Path, etag: str
) -> None:
    args, record = begun(server, tmp_path), tmp_path / "spool/u1.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "etag": etag}))
    server.answers = [reply("200 OK", WHOLE, Content_Length=str(len(WHOLE)))]
    assert Path(finish(fetcher(tmp_path).fetch(args))["bundle"]).read_bytes() == WHOLE


@pytest.mark.parametrize("etag", [b'"\xe9\x80"', b'"\x00"', b'W/"weak"', b"bare", b'"' + b"x" * 300 + b'"'])
def test_a_validator_that_is_none_is_not_sent_back(server: Scripted, tmp_path: Path, etag: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nETag: %b\r\n\r\n" % (len(WHOLE), etag)
    rest = f"bytes {len(KEPT)}-{len(WHOLE) - 1}/{len(WHOLE)}"
    server.answers = [head + KEPT, reply("206 Partial Content", WHOLE[len(KEPT) :], Content_Range=rest)]
    assert refusal(fetcher(tmp_path).fetch({"id": "u1", "source": server.url})).code == "fetch_length"
    finish(fetcher(tmp_path).fetch({"id": "u1", "source": server.url}))
    assert b"range: bytes=100000-" in server.asked[-1].lower() and b"if-range" not in server.asked[-1].lower()


def test_more_than_was_announced_is_not_taken(server: Scripted, tmp_path: Path) -> None:
    server.answers = [reply("200 OK", b"x" * 2000, Content_Length="1000")]
    assert finish(fetcher(tmp_path).fetch({"id": "u1", "source": server.url}))["length"] == 1000


@pytest.mark.parametrize("coding", [b"", b"chunked"])
def test_a_body_longer_than_the_announced_file_is_not_taken_and_may_be_better_next_time(
    server: Scripted, tmp_path: Path, coding: bytes
) -> None:
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(WHOLE), WHOLE) if coding else WHOLE
    server.answers = [reply("200 OK", body, **({"Transfer_Encoding": "chunked"} if coding else {}))]
    args = {"id": "u1", "source": server.url, "length": 1000}
    error = refusal(fetcher(tmp_path).fetch(args))
    assert error.code == "fetch_length" and error.spec.retry is Retry.BACKOFF
    server.answers = [reply("200 OK", WHOLE[:1000], Content_Length="1000")]
    assert Path(finish(fetcher(tmp_path).fetch(args))["bundle"]).read_bytes() == WHOLE[:1000]


@pytest.mark.parametrize("size", [b"ZZ", b"-5", b"fffffffffffffffff"])
def test_chunks_that_make_no_sense_are_coded(server: Scripted, tmp_path: Path, size: bytes) -> None:
    server.answers = [reply("200 OK", b"3\r\nabc\r\n" + size + b"\r\nabc", Transfer_Encoding="chunked")]
    error = refusal(fetcher(tmp_path).fetch({"id": "u1", "source": server.url}))
    assert error.code in ("fetch_length", "fetch_network") and error.facts["bytes_done"] >= 3


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_without_end_stops_at_the_limit(server: Scripted, tmp_path: Path, chunked: bool) -> None:
    endless = b"7fffffff\r\nENDLESS" if chunked else b"ENDLESS"
    server.answers = [reply("200 OK", endless, **({"Transfer_Encoding": "chunked"} if chunked else {}))]
    limited = fetcher(tmp_path, download_bytes_max=1_000_000)
    assert refusal(limited.fetch({"id": "u1", "source": server.url})).code == "fetch_too_large"
    assert (tmp_path / "spool/u1.bundle").stat().st_size <= 1_000_000


def test_silence_is_a_stall(server: Scripted, tmp_path: Path) -> None:
    server.answers = [reply("200 OK", b"xxxSTALL", Content_Length="1000")]
    error = refusal(fetcher(tmp_path, stall_timeout_s=1).fetch({"id": "u1", "source": server.url}))
    assert error.code == "fetch_stalled" and error.facts["bytes_done"] == 3


def test_the_whole_time_is_limited(server: Scripted, tmp_path: Path) -> None:
    server.answers = [reply("200 OK", b"ENDLESS")]
    slow = fetcher(tmp_path, clock=HourlyClock(), download_timeout_s=24 * 3600, download_bytes_max=2**40)
    error = refusal(slow.fetch({"id": "u1", "source": server.url}))
    assert error.code == "fetch_timeout"
    assert (tmp_path / "spool/u1.bundle").stat().st_size == error.facts["bytes_done"] > 0


def test_redirects_in_a_circle_are_given_up(server: Scripted, tmp_path: Path) -> None:
    server.answers = [reply("302 Found", Location=server.url)] * 10
    assert refusal(fetcher(tmp_path).fetch({"id": "u1", "source": server.url})).code == "fetch_status"


def test_the_server_may_ask_for_patience(server: Scripted, tmp_path: Path) -> None:
    server.answers = [reply("503 Busy", Retry_After="90"), reply("429 Slow", Retry_After="99999999999")]
    assert refusal(fetcher(tmp_path).fetch({"id": "u1", "source": server.url})).facts["retry_after_s"] == 90
    assert "retry_after_s" not in refusal(fetcher(tmp_path).fetch({"id": "u1", "source": server.url})).facts
    server.answers = [reply("503 Busy", Retry_After="999999999")]
    assert refusal(fetcher(tmp_path).fetch({"id": "u1", "source": server.url})).facts["retry_after_s"] == 86400


def test_nobody_there_is_a_network_error(tmp_path: Path) -> None:
    for source in ("http://127.0.0.1:1/b", "http://", "http://[::1", "http://127.0.0.1:99999/b"):
        assert refusal(fetcher(tmp_path).fetch({"id": "u1", "source": source})).code in (
            "fetch_network",
            "fetch_insecure",
        )
