"""`posagent update --follow` across restarts of the terminal, against a real socket that comes and goes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from posagent import cli, wire

STATUS = {
    "state": "ready",
    "meaning": "waiting",
    "critical": False,
    "expected_s": None,
    "gates": [],
    "update": {"id": "u1", "version": "2.0.0", "bytes_done": 0, "bytes_total": 0},
}
OUTCOME = {"outcome": "committed", "code": "ok", "version": "2.0.0", "detail": "", "at": 0}
PATIENCE_S = 0.8


class Agent:
    """The agent's end of the socket. `script` runs in a thread and says when it is there and what it answers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.requests: list[dict[str, Any]] = []
        self.wait = threading.Event().wait
        self._thread: threading.Thread | None = None
        self._listener: socket.socket | None = None
        self.come()

    def come(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.settimeout(10)
        self._listener.bind(str(self.path))
        self._listener.listen()

    def go(self) -> None:
        if self._listener is not None:
            self.path.unlink()
            self._listener.close()
            self._listener = None

    def answer(self, message: dict[str, Any], then: Callable[[], object] = lambda: None) -> None:
        """Take one request, answer it, do `then`, hang up."""
        assert self._listener is not None
        connection, _ = self._listener.accept()
        with connection:
            self.requests.append(wire.decode(connection.recv(4096)))
            connection.sendall(wire.encode(message))
            then()

    def play(self, script: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=script, daemon=True)
        self._thread.start()

    def end(self) -> None:
        if self._thread is not None:
            self._thread.join(10)
            assert not self._thread.is_alive()
        self.go()


@pytest.fixture
def agent(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    monkeypatch.setattr(cli, "RECONNECT_S", PATIENCE_S)
    monkeypatch.setattr(cli, "RECONNECT_PAUSE_S", 0.01)
    made = Agent(short_path / "api.sock")
    yield made
    made.end()


def follow(agent: Agent) -> int:
    return cli.main(["--socket", str(agent.path), "--lang", "en", "update", "--follow", "/x.bundle"])


def test_an_update_that_waited_quietly_is_still_followed_when_the_terminal_restarts(
    agent: Agent, capsys: pytest.CaptureFixture[str]
) -> None:
    """Patience counts from the loss, not from the last word: a night on a closed gate is silent."""

    def quiet_then_gone() -> None:
        agent.wait(2 * PATIENCE_S)
        agent.go()

    def script() -> None:
        agent.answer({"result": {"id": "u1", "version": "2.0.0"}})
        agent.answer({"progress": STATUS}, then=quiet_then_gone)
        agent.wait(PATIENCE_S / 4)
        agent.come()
        agent.answer({"result": {"id": "u1", "outcome": OUTCOME}})

    agent.play(script)
    assert follow(agent) == 0
    assert "2.0.0 committed" in capsys.readouterr().out
    assert [one["verb"] for one in agent.requests] == ["update", "follow", "follow"]
    assert {one["args"].get("id") for one in agent.requests[1:]} == {"u1"}, "that very update"


def test_every_restart_has_its_own_patience(agent: Agent) -> None:
    def restart() -> None:
        agent.go()
        agent.wait(PATIENCE_S * 0.5)
        agent.come()

    def script() -> None:
        agent.answer({"result": {"id": "u1", "version": "2.0.0"}})
        for _ in range(3):
            agent.answer({"progress": STATUS})
            restart()
        agent.answer({"result": {"id": "u1", "outcome": {**OUTCOME, "outcome": "rolled_back", "code": "boot_failed"}}})

    agent.play(script)
    assert follow(agent) == cli.NOT_COMMITTED


def test_a_terminal_that_does_not_come_back_is_not_waited_for_without_end(
    agent: Agent, capsys: pytest.CaptureFixture[str]
) -> None:
    def script() -> None:
        agent.answer({"result": {"id": "u1", "version": "2.0.0"}})
        agent.answer({"progress": STATUS}, then=agent.go)

    agent.play(script)
    assert follow(agent) == 5
    assert "[agent_unreachable]" in capsys.readouterr().err
