"""Stands between terminals and the real fleet server, and does something once, at a message of a kind.

Messages are called by what they are: `GET base`, `GET deploymentBase`, `PUT configData`, `POST download`, `POST closed`
(of feedback by its execution).
"""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable

import urllib3

from tests.fleet.hawkbit import HawkBit

PIECE_BYTES, PIECE_S = 128 << 10, 0.25
HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}


class Between(http.server.ThreadingHTTPServer):
    """Forwards to `server`, downloads at a moderate pace. At the first message called `at` it does `act`, and loses the
    answer; then it has `acted`. Where the server is to get the message first, it is `forwarded`."""

    daemon_threads = True

    def __init__(self, server: HawkBit) -> None:
        self.target, self.at, self.forwarded = server, "", True
        self.act: Callable[[], object] = lambda: None
        self.acted, self.never = threading.Event(), threading.Event()
        self.seen: list[str] = []
        self._begun = False
        self.one = threading.Lock()
        self.pool = urllib3.PoolManager(retries=False)
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/DEFAULT"

    def is_it(self, name: str) -> bool:
        """Whether to act now: only once."""
        with self.one:
            self.seen.append(name)
            if name != self.at or self._begun:
                return False
            self._begun = True
            return True

    def close(self) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        return None  # whoever asked has lost its power


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Between

    def log_message(self, *_: object) -> None:
        return None

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.server.is_it(name_of(self.command, self.path, body)):
            if self.server.forwarded:
                self._forward(body)
            self.server.act()
            self.server.acted.set()
            return
        answer = self._forward(body)
        if answer is None:
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.data)))
        self.end_headers()
        for begin in range(0, len(answer.data), PIECE_BYTES):
            self.wfile.write(answer.data[begin : begin + PIECE_BYTES])
            if len(answer.data) > PIECE_BYTES:
                self.server.never.wait(PIECE_S)

    def do_POST(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        self.do_GET()

    def _forward(self, body: bytes) -> urllib3.BaseHTTPResponse | None:
        """The server's answer; None where it is away. Its links lead here, because it is told this name."""
        kept = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
        own = {**kept, "Host": f"127.0.0.1:{self.server.server_port}"}
        url = f"http://127.0.0.1:{self.server.target.port}{self.path}"
        try:
            return self.server.pool.request(self.command, url, headers=own, body=body, redirect=False)
        except urllib3.exceptions.HTTPError:
            return None


def name_of(method: str, path: str, body: bytes) -> str:
    words = path.partition("?")[0].strip("/").split("/")[4:]
    if not words:
        return f"{method} base"
    if words[-1] == "feedback" and words[0] == "deploymentBase":
        return f"{method} {json.loads(body)['status']['execution']}"
    return f"{method} {words[0]}"
