"""The fetcher as the process systemd starts: over its socket, and killed at random moments of a download."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
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
    chosen, args = random.Random(5), {"id": "u1", "source": f"{web.url}/x.bundle"}
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
