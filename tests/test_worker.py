"""The frame of a worker: one verb at a time, and only for somebody who still waits for it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from posagent import wire, worker
from posagent.core.ports import Message


class Served:
    """A worker with the verb `work` in a thread; `steps` says what it did for whom."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self._path)
        self._listener.listen(8)
        self.steps: list[str] = []
        self.go_on = threading.Semaphore(0)
        self._thread = threading.Thread(
            target=worker.serve,
            args=(self._listener, {"work": self._work}),
            kwargs={"uids": {os.getuid()}, "idle_exit_s": 0.5},
        )

    def _work(self, args: Mapping[str, Any]) -> Iterator[Message]:
        for step in range(3):
            self.steps.append(f"{args['for']} {step}")
            yield {"progress": {"step": step}}
            self.go_on.acquire(timeout=5)
        yield {"result": {}}

    def ask(self, name: str) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(5)
        connection.connect(self._path)
        connection.sendall(wire.encode({"verb": "work", "args": {"for": name}}))
        return connection

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._thread.join(10)
        self._listener.close()
        assert not self._thread.is_alive()


@pytest.fixture
def served(short_path: Path) -> Served:
    return Served(short_path / "worker.sock")


def test_a_request_that_was_given_up_before_it_was_read_is_not_begun(served: Served) -> None:
    served.ask("gone").close()
    stays = served.ask("stays")
    served.start()
    assert b'"step":0' in stays.recv(1000)
    stays.close()
    served.go_on.release()
    served.end()
    assert served.steps[0] == "stays 0", "a request of long ago is nothing anybody waits for"
    assert not any(step.startswith("gone") for step in served.steps)


def test_who_hangs_up_stops_the_verb_at_its_next_step(served: Served) -> None:
    served.start()
    asking = served.ask("first")
    assert b'"step":0' in asking.recv(1000)
    asking.close()
    served.go_on.release()
    served.end()
    assert served.steps == ["first 0", "first 1"]


def test_a_request_is_answered_to_its_end(served: Served) -> None:
    served.start()
    for _ in range(3):
        served.go_on.release()
    with served.ask("one") as asking:
        told = b""
        while b"result" not in told:
            told += asking.recv(1000)
    served.end()
    assert [b'"step":%d' % step in told for step in range(3)] == [True] * 3
