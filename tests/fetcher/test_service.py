"""The fetcher as the process systemd starts: over its socket, and killed at random moments of a download."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from posagent import wire
from posagent.core.errors import PosagentError
from posagent.core.ports import Message
from posagent.sim.webserver import WebServer

pytestmark = pytest.mark.real

KILLS = 5
CHECKPOINT = 300_000
ANSWER_S = 20.0
CONFIG = """
[terminal]
id = "t"
hardware = "sim-pos"
state_dir = "{base}"
run_dir = "{base}"
[slots.a]
device = "{base}/a"
[slots.b]
device = "{base}/b"
[fetch]
spool_dir = "{base}/spool"
allow_http = true
repository_url = "{url}"
checkpoint_bytes = {checkpoint}
keep_free_bytes = 0
"""


@pytest.fixture
def web(short_path: Path) -> Iterator[WebServer]:
    server = WebServer(short_path / "nginx", short_path / "root", rate_limit="1m")
    yield server
    server.stop()


class Worker:
    """The socket unit and the process behind it."""

    def __init__(self, base: Path, url: str) -> None:
        self._base = base
        (base / "posagent.toml").write_text(CONFIG.format(base=base, url=url, checkpoint=CHECKPOINT))
        self.path = str(base / "fetcher.sock")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen(4)
        self._process: subprocess.Popen[bytes] | None = None

    def limit(self, **settings: int) -> None:
        """Further keys of the fetch table; the next process reads them."""
        with (self._base / "posagent.toml").open("a") as stream:
            stream.writelines(f"{key} = {value}\n" for key, value in settings.items())

    def _start(self) -> subprocess.Popen[bytes]:
        listener = self._listener.fileno()

        def activate() -> None:
            os.dup2(listener, 3)
            os.set_inheritable(3, True)

        return subprocess.Popen(
            [sys.executable, "-m", "posagent.fetcher.service", "--config", str(self._base / "posagent.toml")],
            preexec_fn=activate,  # noqa: PLW1509 - the one way to choose the descriptor's number
            close_fds=False,
            env={**os.environ, "LISTEN_FDS": "1"},
        )

    def ask(self, verb: str, args: Message, on_progress: Callable[[Message], None] | None = None) -> Message:
        """The result of a freshly started process. Raises PosagentError."""
        if self._process is None:
            self._process = self._start()
        return wire.call(self.path, verb, args, on_progress=on_progress, timeout_s=ANSWER_S)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def close(self) -> None:
        self.kill()
        self._listener.close()


@pytest.fixture
def worker(short_path: Path, web: WebServer) -> Iterator[Worker]:
    made = Worker(short_path, web.url)
    yield made
    made.close()


def test_a_fetcher_killed_at_random_moments_fetches_at_most_a_checkpoint_again_each_time(
    worker: Worker, web: WebServer
) -> None:
    (web.root / "x.bundle").write_bytes(content := os.urandom(12 << 20))
    chosen, args = random.Random(5), {"id": "u1", "source": f"{web.url}/x.bundle", "pieces": [[0, 1 << 40]]}
    for _ in range(KILLS):
        left = chosen.randrange(1, 12)

        def kill_in_time(_: Message) -> None:
            nonlocal left
            left -= 1
            if left == 0:  # the bytes it goes on fetching until the signal arrives count too
                worker.kill()

        with pytest.raises(PosagentError, match="agent_unreachable"):
            worker.ask("fetch", args, kill_in_time)
    web.stop()
    web.rate_limit = ""
    web.start()
    result = worker.ask("fetch", args)
    assert Path(result["bundle"]).read_bytes() == content
    assert result["bytes_refetched"] <= KILLS * CHECKPOINT


class Babbling:
    """A server that never falls silent and never sends a byte of the file."""

    def __init__(self, head: bytes, again: bytes) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/x.bundle"
        self._script = head, again
        self._over = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        head, again = self._script
        with self._listener, self._listener.accept()[0] as connection:
            try:
                connection.recv(65536)
                connection.sendall(head)
                while not self._over.wait(0.01):
                    connection.sendall(again)
            except OSError:
                pass  # the fetcher had enough

    def close(self) -> None:
        self._over.set()


@pytest.mark.parametrize(
    ("head", "again", "bytes_done"),
    [
        (b"HTTP/1.1 200 OK\r\nX: ", b"x", 0),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", b"X: y\r\n", 3),
    ],
    ids=["a header", "interim answers", "trailers"],
)
def test_a_server_that_babbles_for_ever_is_a_stall_and_the_process_lives_on(
    worker: Worker, web: WebServer, head: bytes, again: bytes, bytes_done: int
) -> None:
    worker.limit(stall_timeout_s=1, connect_timeout_s=1)
    (web.root / "x.bundle").write_bytes(content := os.urandom(1000))
    server = Babbling(head, again)
    try:
        with pytest.raises(PosagentError) as caught:
            worker.ask("fetch", {"id": "u1", "source": server.url})
    finally:
        server.close()
    assert caught.value.code == "fetch_stalled" and caught.value.facts["bytes_done"] == bytes_done
    result = worker.ask("fetch", {"id": "u2", "source": f"{web.url}/x.bundle"})
    assert Path(result["bundle"]).read_bytes() == content


def test_the_process_answers_trouble_with_its_code_and_lives_on(worker: Worker, web: WebServer) -> None:
    for verb, args, code in (
        ("look", {}, "fetch_status"),
        ("fetch", {}, "bad_request"),
        ("fetch", {"id": "u1", "source": "http://[::1"}, "fetch_network"),
        ("fetch", {"id": "../x", "source": f"{web.url}/x"}, "bad_request"),
        ("install", {}, "unknown_verb"),
    ):
        with pytest.raises(PosagentError) as caught:
            worker.ask(verb, args)
        assert caught.value.code == code
    assert worker.ask("discard", {"keep": None}) == {}
