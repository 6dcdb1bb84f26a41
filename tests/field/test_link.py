"""The laptop's end: calls that wait, lines that are not there, files from the terminal, several threads."""

from __future__ import annotations

import hashlib
import os
import pty
import random
import select
import threading
import time
import tty
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from posagent.console import auth
from posagent.core.errors import PosagentError
from posagent.core.ports import Message
from posagent.core.talk import Host, json_message, read
from posagent.field.link import LineLost, Terminal
from posagent.field.ports import open_port, ports
from posagent.sim.fieldline import FieldLine, Noise
from posagent.sim.inprocess import InProcessTerminal
from tests.console.visit import Visit

BUNDLE = random.Random(9).randbytes(100_000)
Visits = Callable[..., Visit]


# lines that are not there


def test_nobody_there_is_said_after_the_time_that_was_allowed(visit: Visit) -> None:
    visit.line.pull()
    begun = visit.line.monotonic()
    with pytest.raises(LineLost, match="no terminal answers"):
        visit.laptop.call("status", timeout_s=7.0)
    assert visit.line.monotonic() - begun == pytest.approx(7.0, abs=0.2)


def test_a_terminal_without_a_machine_mode_is_nobody(in_process: Callable[[], InProcessTerminal]) -> None:
    line = FieldLine(in_process())
    line.console.human.on_machine = None
    with pytest.raises(LineLost):
        Terminal(line.open, clock=line).connect(5.0)


def test_the_state_of_the_line_is_told(visit: Visit) -> None:
    visit.unlock()
    visit.line.pull()
    visit.laptop.tend(5)
    visit.line.plug_in()
    visit.laptop.call("status")
    visit.laptop.tend(130)
    assert visit.states == ["connecting", "connected", "unlocked", "lost", "connecting", "resumed", "locked"]


def test_an_answer_that_does_not_come_is_not_waited_for_for_ever(visits: Visits) -> None:
    class Mute:
        def __init__(self, _: InProcessTerminal) -> None: ...

        def call(self, *_: Any) -> Callable[[], None]:
            return lambda: None

    visit = visits(api=Mute)
    with pytest.raises(LineLost, match="no answer to status in 3 s"):
        visit.laptop.call("status", timeout_s=3.0)


def test_an_update_is_followed_for_as_long_as_something_is_heard_of_it(visit: Visit) -> None:
    with pytest.raises(PosagentError, match="bad_request"):
        visit.laptop.follow("u77", lambda _: None)
    visit.line.pull()
    begun = visit.line.monotonic()
    with pytest.raises(LineLost):
        visit.laptop.follow("u1", lambda _: None, quiet_s=60)
    assert 60 <= visit.line.monotonic() - begun < 70


def test_a_closed_line_stays_closed(visit: Visit) -> None:
    visit.laptop.connect()
    visit.laptop.close()
    visit.laptop.close()
    with pytest.raises(LineLost):
        visit.laptop.call("status")


def test_how_long_bytes_take_is_learned_from_the_line(visits: Visits, tmp_path: Path) -> None:
    visit = visits(noise=Noise(bit_errors=1e-4))
    assert visit.laptop.estimate_s(103_680) == pytest.approx(10.0)
    (tmp_path / "x").write_bytes(BUNDLE)
    visit.unlock()
    visit.laptop.upload(tmp_path / "x")
    assert visit.laptop.estimate_s(103_680) > 11.0


# files from the terminal


class Supporting:
    """question.Api of a terminal that makes support bundles."""

    def __init__(self, terminal: InProcessTerminal) -> None:
        self._terminal = terminal
        self.path = terminal.layout.root / "support.bin"
        self.made = 0

    def call(
        self, verb: str, args: dict[str, Any], reply: Callable[[Message], None], caller: str
    ) -> Callable[[], None]:
        if verb != "support":
            return self._terminal.api.call(verb, args, reply, caller)
        self.made += 1
        self.path.write_bytes(BUNDLE)
        digest = hashlib.sha256(BUNDLE).hexdigest()
        found = {"path": str(self.path), "size": len(BUNDLE), "sha256": digest, "code": "ABCD-EFGH"}

        def answer() -> None:
            reply({"progress": {"step": "collecting"}})
            reply({"result": found})

        return self._terminal.time.call_later(0.2, answer).cancel


@pytest.fixture
def supporting(visits: Visits, monkeypatch: pytest.MonkeyPatch) -> Visit:
    roles: Mapping[str, frozenset[str]] = {**auth.ROLES, "update": auth.ROLES["update"] | {"support"}}
    monkeypatch.setattr("posagent.console.access.ROLES", roles)
    visit = visits(api=Supporting)
    visit.unlock()
    return visit


def made(visit: Visit) -> int:
    api = visit.line.console._other_api
    assert isinstance(api, Supporting)
    return api.made


def test_a_support_bundle_comes_to_the_laptop(supporting: Visit, tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    out = supporting.laptop.download("support", tmp_path / "x.support", on_progress=told.append)
    assert out.read_bytes() == BUNDLE and [path.name for path in tmp_path.iterdir()] == ["x.support"]
    assert told[-1]["bytes_done"] == told[-1]["bytes_total"] == len(BUNDLE)


def test_a_download_goes_on_over_pulled_cables(supporting: Visit, tmp_path: Path) -> None:
    pulled = 0

    def pull(progress: dict[str, Any]) -> None:
        nonlocal pulled
        if progress["bytes_done"] > 20_000 * (pulled + 1):
            pulled += 1
            supporting.line.pull()
            supporting.line.sleep(2)
            supporting.line.plug_in()

    assert supporting.laptop.download("support", tmp_path / "x", on_progress=pull).read_bytes() == BUNDLE
    assert pulled == 4 and made(supporting) == 1


def test_a_download_begins_anew_when_the_terminal_has_forgotten_it(supporting: Visit, tmp_path: Path) -> None:
    restarted = False

    def restart(progress: dict[str, Any]) -> None:
        nonlocal restarted
        if progress["bytes_done"] > 50_000 and not restarted:
            restarted = True
            supporting.terminal.start_agent()

    assert supporting.laptop.download("support", tmp_path / "x", on_progress=restart).read_bytes() == BUNDLE
    assert made(supporting) == 2


def test_a_download_that_was_whole_but_for_its_end_is_gone_on_with(supporting: Visit, tmp_path: Path) -> None:
    """Asked by hand: the offset and the digest of what is there."""
    digest = hashlib.sha256(BUNDLE).hexdigest()
    told: list[dict[str, Any]] = []
    for args in ({}, {"sha256": digest, "offset": 90_000}, {"sha256": "0" * 64, "offset": 90_000}, {"sha256": digest}):
        args = {"what": "support", **args}
        supporting.laptop.call("download", args, on_progress=told.append)
        supporting.laptop._pieces.clear()
    assert [one["offset"] for one in told if "offset" in one] == [0, 90_000, 0, 0]
    assert made(supporting) == 2
    assert supporting.code("download", what="journal") == supporting.code("download") == "bad_request"


def test_a_file_that_vanishes_on_the_way_is_said(supporting: Visit, tmp_path: Path) -> None:
    def remove(progress: dict[str, Any]) -> None:
        (supporting.terminal.layout.root / "support.bin").unlink(missing_ok=True)

    with pytest.raises(PosagentError, match="spool_io"):
        supporting.laptop.download("support", tmp_path / "x", on_progress=remove)


# real ports and threads


class Peer:
    """A terminal's end on a pty, in a thread: answers every request with its verb, `slow` behind three others."""

    def __init__(self, folder: Path) -> None:
        self.device = folder / "port"
        self._done = False
        self.host = Host(terminal="pos-0001", new_number=lambda: os.urandom(8), bytes_per_s=1e6, now=time.monotonic())
        self.plug_in()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def plug_in(self) -> None:
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.device.unlink(missing_ok=True)
        self.device.symlink_to(os.ttyname(self._slave))

    def end(self) -> None:
        self._done = True
        self._thread.join()
        os.close(self._master)
        os.close(self._slave)

    def _serve(self) -> None:
        slow: list[int] = []
        quick = 0
        while not self._done:
            ready, _, _ = select.select([self._master], [], [], 0.005)
            now = time.monotonic()
            for happened in self.host.feed(os.read(self._master, 4096) if ready else b"", now):
                said = read(happened) if isinstance(happened, bytes) else None
                if not isinstance(said, dict):
                    continue
                if said["verb"] == "slow":
                    slow.append(said["id"])
                else:
                    quick += 1
                    self._answer(said["id"], said["verb"])
            if quick == 3 and slow:
                self._answer(slow.pop(), "slow")
            if out := self.host.poll(now):
                os.write(self._master, out)

    def _answer(self, number: int, verb: str) -> None:
        if self.host.link is not None:
            self.host.link.send(json_message({"id": number, "result": {"verb": verb}}))


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    made = Peer(tmp_path)
    yield made
    made.end()


def test_a_real_port_is_spoken_to(peer: Peer) -> None:
    terminal = Terminal(lambda: open_port(str(peer.device), 115200))
    assert terminal.call("status") == {"verb": "status"}
    assert terminal.terminal_id == "pos-0001"
    terminal.close()


def test_several_threads_call_at_once_and_the_fast_ones_do_not_wait_for_the_slow(peer: Peer) -> None:
    terminal = Terminal(lambda: open_port(str(peer.device), 115200))
    terminal.connect()
    order: list[str] = []

    def call(verb: str) -> None:
        order.append(terminal.call(verb, timeout_s=30)["verb"])

    threads = [threading.Thread(target=call, args=(verb,)) for verb in ("slow", "quick", "quick", "quick")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(order) == ["quick", "quick", "quick", "slow"], "the slow one is answered when the quick ones were"
    terminal.close()


def test_a_line_that_is_kept_is_alive_while_nobody_calls(peer: Peer) -> None:
    connected = threading.Event()

    def told(state: str) -> None:
        if state == "connected":
            connected.set()

    terminal = Terminal(lambda: open_port(str(peer.device), 115200), on_state=told)
    terminal.keep()
    terminal.keep()
    assert connected.wait(20), "nobody called"
    assert terminal.call("status") == {"verb": "status"}
    terminal.close()
    assert "line" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize("device", ["/dev/null", "/dev/no-such-port", "/"])
def test_what_is_no_port_is_an_error_of_the_system(device: str) -> None:
    with pytest.raises(OSError):
        open_port(device, 115200)


def test_the_ports_of_this_machine_are_listed_in_order() -> None:
    found = [port.device for port in ports()]
    assert found == sorted(found)
