"""The API socket under people who hold it: nobody locks the others out, nobody holds it without asking."""

from __future__ import annotations

import grp
import os
import pwd
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from posagent import wire, worker
from posagent.core.ports import Message
from posagent.platform.loop import Loop
from posagent.platform.sockets import CLIENTS_MAX, IDLE_S, USER_CLIENTS_MAX, ApiServer

SOMEBODY, AGENT = 1000, 4711


class Clock:
    """core.ports.Clock that is put forward by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now


class Bench:
    """A server on its loop, and callers of whatever user."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        self.loop = Loop(self.clock)
        self.asked: list[str] = []
        self.replies: list[Callable[[Message], None]] = []
        self._uid = SOMEBODY
        self._path = str(path)
        monkeypatch.setattr(worker, "peer_uid", lambda _: self._uid)
        monkeypatch.setattr(os, "getuid", lambda: AGENT)
        self.server = ApiServer(self._path, self.loop, self._call, admin_groups=(), open_verbs=("status", "watch"))

    def _call(
        self, verb: str, args: dict[str, Any], reply: Callable[[Message], None], caller: str
    ) -> Callable[[], None]:
        self.asked.append(caller)
        if verb == "status":
            reply({"result": {}})
        else:
            reply({"progress": {}})
            self.replies.append(reply)
        return lambda: self.asked.append(f"{caller} hung up")

    def turn(self) -> None:
        """Whatever can happen now."""
        self.loop.call_later(0, lambda: None)
        for _ in range(2 * CLIENTS_MAX + 10):
            self.loop.call_later(0, lambda: None)
            self.loop._turn()

    def connect(self, uid: int) -> socket.socket:
        self._uid = uid
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._path)
        connection.setblocking(False)
        self.turn()
        return connection

    def answered(self, connection: socket.socket, verb: str = "status") -> bool:
        """Whether the question is answered; False when the server hung up."""
        try:
            connection.send(wire.encode({"verb": verb, "args": {}}))
            self.turn()
            return connection.recv(1000) != b""
        except (BrokenPipeError, ConnectionResetError):
            return False

    def pass_s(self, seconds: float) -> None:
        self.clock.now += seconds
        self.turn()


@pytest.fixture
def bench(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    yield Bench(short_path / "api.sock", monkeypatch)


def is_open(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True


def test_a_user_has_few_connections_and_the_others_still_get_in(bench: Bench) -> None:
    held = [bench.connect(SOMEBODY) for _ in range(CLIENTS_MAX)]
    assert [is_open(one) for one in held] == [True] * USER_CLIENTS_MAX + [False] * (CLIENTS_MAX - USER_CLIENTS_MAX)
    for uid in (0, AGENT, SOMEBODY + 1):
        assert bench.answered(bench.connect(uid)), uid
    held[0].close()
    bench.turn()
    assert bench.answered(bench.connect(SOMEBODY)), "who hangs up makes room"


def test_the_agents_own_user_is_not_counted_but_bounded_and_root_always_gets_in(bench: Bench) -> None:
    held = [bench.connect(AGENT) for _ in range(CLIENTS_MAX)]
    assert all(is_open(one) for one in held)
    assert not bench.answered(bench.connect(SOMEBODY)) and not bench.answered(bench.connect(AGENT))
    roots = [bench.connect(0) for _ in range(2 * USER_CLIENTS_MAX)]
    assert all(bench.answered(one) for one in roots)


def test_who_asks_nothing_is_dropped(bench: Bench) -> None:
    silent, half = bench.connect(SOMEBODY), bench.connect(SOMEBODY)
    bench.pass_s(IDLE_S / 2)
    later = bench.connect(SOMEBODY)
    half.send(b'{"verb": "status"')
    bench.pass_s(IDLE_S / 2)
    assert not is_open(silent) and not is_open(half) and is_open(later)
    bench.pass_s(IDLE_S / 2)
    assert not is_open(later)
    assert bench.asked == []


def test_who_is_being_answered_is_not_dropped_until_he_is_silent_afterwards(bench: Bench) -> None:
    watching, asking = bench.connect(SOMEBODY), bench.connect(SOMEBODY)
    assert bench.answered(watching, "watch")
    for _ in range(5):
        bench.pass_s(IDLE_S * 0.9)
        assert bench.answered(asking), "who asks again and again stays"
    assert is_open(watching)
    bench.replies[0]({"result": {}})
    assert watching.recv(1000) != b""
    bench.pass_s(IDLE_S)
    assert not is_open(watching) and f"uid {SOMEBODY} hung up" in bench.asked


def test_nobody_connected_wakes_nobody(bench: Bench) -> None:
    bench.connect(SOMEBODY).close()
    bench.pass_s(IDLE_S)
    assert bench.loop._wait_s() is None


def test_many_short_visits_leave_one_timer(bench: Bench) -> None:
    for _ in range(100):
        connection = bench.connect(SOMEBODY)
        assert bench.answered(connection)
        connection.close()
    assert len(bench.loop._timers) == 1


def test_a_line_that_is_no_request_leaves_the_one_under_way_as_it_is(bench: Bench) -> None:
    """A payment application's hold would be gone for a slip of its pen."""
    watching = bench.connect(SOMEBODY)
    assert bench.answered(watching, "watch")
    for line in (b"nonsense\n", b'{"verb": "update"}\n', b"[]\n"):
        watching.send(line)
        bench.turn()
        assert b'"error"' in watching.recv(1000)
    bench.pass_s(3 * IDLE_S)
    assert is_open(watching) and bench.asked == [f"uid {SOMEBODY}"]
    assert bench.answered(watching), "a request takes its place"
    assert bench.asked == [f"uid {SOMEBODY}", f"uid {SOMEBODY} hung up", f"uid {SOMEBODY}"]


def test_who_is_gone_before_the_answer_can_be_sent_is_hung_up_on(bench: Bench) -> None:
    """A payment application that says its last word and ends: its session must end, too."""
    caller = bench.connect(SOMEBODY)
    caller.send(wire.encode({"verb": "watch", "args": {}}))
    caller.close()
    bench.turn()
    assert bench.asked == [f"uid {SOMEBODY}", f"uid {SOMEBODY} hung up"]


def test_a_verb_may_have_groups_of_its_own(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: AGENT)
    members = {"pay": 20, "admins": 30}
    monkeypatch.setattr(grp, "getgrnam", lambda name: grp.struct_group((name, "", members[name], [])))
    monkeypatch.setattr(
        pwd, "getpwuid", lambda uid: pwd.struct_passwd((f"u{uid}", "", uid, {1: 20, 2: 30, 3: 40}[uid], "", "", ""))
    )
    server = ApiServer(
        str(short_path / "api.sock"),
        Loop(Clock()),
        lambda *_: lambda: None,
        admin_groups=("admins",),
        open_verbs=("status",),
        verb_groups={"payment": ("pay",)},
    )
    allowed = {
        uid: [verb for verb in ("status", "payment", "update") if server.allowed(verb, uid)] for uid in (1, 2, 3)
    }
    assert allowed == {1: ["status", "payment"], 2: ["status", "payment", "update"], 3: ["status"]}
