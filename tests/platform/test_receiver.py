"""Files over a serial line by the real `rz` and `sz`: whole, broken off, gone on with, too large, hostile."""

from __future__ import annotations

import hashlib
import os
import pty
import random
import select
import subprocess
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from posagent.console.port import SerialPort
from posagent.core.errors import PosagentError
from posagent.core.ports import Message
from posagent.platform import receiver as receivers
from posagent.platform.loop import Loop
from posagent.platform.receiver import ZmodemReceiver, harmless

pytestmark = pytest.mark.real
DEADLINE_S = 30.0
SIZE = 600_000
LONG = 24_000_000
"""So much that it is still coming when the receiver looks for the first time, however fast this machine is."""


class Clock:
    """core.ports.Clock that can be pushed on, so that nobody waits for a minute of silence."""

    def __init__(self) -> None:
        self.pushed_s = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.pushed_s

    def wall(self) -> float:
        return time.time() + self.pushed_s


class Bench:
    """A terminal's port with a receiver behind it, joined by two ptys to a laptop."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inbox = folder / "inbox"
        self.inbox.mkdir()
        self.files = folder / "laptop"
        self.files.mkdir()
        self.clock = Clock()
        self.loop = Loop(self.clock)
        self.typed = b""
        self.lost = 0
        self.passed = 0
        self.cut_after: int | None = None
        """So many bytes towards the terminal, then the cable passes nothing."""
        self._ends = [pty.openpty(), pty.openpty()]
        for master, slave in self._ends:
            tty.setraw(slave)
            os.set_blocking(master, False)
        self._listen(0, 1)
        self._listen(1, 0)
        self.port = SerialPort(
            device=os.ttyname(self._ends[0][1]),
            baud=115200,
            watch=self.loop.watch,
            timers=self.loop,
            on_data=self._typed,
            on_lost=self._gone,
        )
        self.job: Any = None
        self.messages: list[Message] = []
        self.before = termios.tcgetattr(self._ends[0][1])
        self.sender: subprocess.Popen[bytes] | None = None
        self.make()

    def make(self, *, command: str = "/usr/bin/rz", bytes_max: int = 1 << 24) -> None:
        self.receiver = ZmodemReceiver(
            command=command,
            inbox_dir=str(self.inbox),
            bytes_max=bytes_max,
            keep_free_bytes=0,
            timers=self.loop,
            clock=self.clock,
            lend=self.port.lend,
            take_back=self.port.take_back,
            adopt=self._adopt,
        )

    def _adopt(self, path: str, name: str, size: int, sha256: str) -> str:
        place = self.inbox / name
        Path(path).rename(place)
        return str(place)

    def _typed(self, data: bytes) -> None:
        self.typed += data

    def _gone(self) -> None:
        self.lost += 1
        self.job.cancel()

    def _listen(self, source: int, sink: int) -> None:
        self.loop.watch(self._ends[source][0], lambda: self._pass(source, sink))

    def _pass(self, source: int, sink: int) -> None:
        """A kilobyte in a millisecond, and nothing is lost: like a line with flow control."""
        master = self._ends[source][0]
        try:
            data = os.read(master, 1024)
        except OSError:
            return
        self.loop.watch(master, None)
        self.loop.call_later(0.001, lambda: self._listen(source, sink))
        if source == 1:
            self.passed += len(data)
            if self.cut_after is not None and self.passed > self.cut_after:
                return
        deadline = time.monotonic() + 0.5
        while data and time.monotonic() < deadline:  # whoever does not read at all loses bytes
            try:
                data = data[os.write(self._ends[sink][0], data) :]
            except BlockingIOError:
                select.select([], [self._ends[sink][0]], [], 0.01)

    def file(self, name: str, size: int, seed: int = 1) -> bytes:
        data = random.Random(seed).randbytes(size)
        (self.files / name).parent.mkdir(parents=True, exist_ok=True)
        (self.files / name).write_bytes(data)
        return data

    def begin(self, *, resume: bool = False) -> None:
        self.messages = []
        self.job = self.receiver.start(resume=resume, notify=self.messages.append)

    def send(self, *words: str) -> None:
        """`sz` on the laptop's end of the line."""
        line = self._ends[1][1]
        self.sender = subprocess.Popen(
            ["sz", "-q", *words], stdin=line, stdout=line, stderr=subprocess.DEVNULL, cwd=self.files
        )

    def run_until(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_S

        def look() -> None:
            if reached() or time.monotonic() > deadline:
                self.loop.stop()
            else:
                self.loop.call_later(0.01, look)

        self.loop.call_later(0, look)
        self.loop.run()
        if not reached():
            raise TimeoutError(self.messages[-3:])

    def end(self) -> Message:
        """Run to the end of the transfer; how it ended."""
        self.run_until(lambda: bool(self.messages) and "progress" not in self.messages[-1])
        return self.messages[-1]

    def result(self) -> dict[str, Any]:
        message = self.end()
        assert "result" in message, message
        result: dict[str, Any] = message["result"]
        return result

    def code(self) -> str:
        message = self.end()
        assert "error" in message, message
        return str(message["error"]["code"])

    @property
    def settings(self) -> list[Any]:
        """Of the terminal's end of the line."""
        return termios.tcgetattr(self._ends[0][1])

    def pull_out(self) -> None:
        """As a USB adapter that is pulled out of the terminal."""
        self.loop.watch(self._ends[0][0], None)
        for descriptor in self._ends[0]:
            os.close(descriptor)
        self._ends[0] = pty.openpty()

    def wait_for_bytes(self, count: int) -> None:
        """So many have come of the file."""
        self.run_until(lambda: any(one.get("progress", {}).get("bytes_done", 0) >= count for one in self.messages))

    def running(self) -> str:
        """How rz was started."""
        self.run_until(lambda: self.alive)
        child = self.job._child
        assert child is not None
        return Path(f"/proc/{child.pid}/cmdline").read_text().rstrip("\0").rpartition("\0")[2]

    @property
    def alive(self) -> bool:
        """Whether an rz of ours runs."""
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # of others', or gone meanwhile
                if os.readlink(path / "cwd").startswith(str(self.inbox)):
                    return True
        return False

    def received(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.inbox.iterdir() if path.is_file()}

    def drain(self) -> None:
        """What a sender left in the line goes, as it does in a minute."""
        if self.sender is not None:
            self.sender.wait(DEADLINE_S)
        for end in self._ends:
            termios.tcflush(end[1], termios.TCIOFLUSH)
        self.loop.call_later(0.05, self.loop.stop)
        self.loop.run()
        self.typed = b""

    def close(self) -> None:
        if self.sender is not None:
            self.sender.kill()
            self.sender.wait()
        for end in self._ends:
            for descriptor in end:
                os.close(descriptor)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    if made.job is not None:
        made.job.cancel()
    made.close()


def test_a_file_arrives_whole_with_its_digest(bench: Bench) -> None:
    data = bench.file("2.0.0.bundle", 300_000)
    bench.begin()
    bench.send("2.0.0.bundle")
    result = bench.result()
    assert result["sha256"] == hashlib.sha256(data).hexdigest()
    assert (result["name"], result["size"], result["came"]) == ("2.0.0.bundle", 300_000, 300_000)
    assert bench.received() == {"2.0.0.bundle": data}
    assert (bench.inbox / "2.0.0.bundle").stat().st_mode & 0o7777 == 0o660


def test_meanwhile_the_line_is_the_files_alone_and_afterwards_ours_as_it_was(bench: Bench) -> None:
    settings = bench.settings
    bench.file("x", SIZE)
    bench.port.write(b"send it now\r\n")
    bench.begin()
    bench.send("x")
    bench.wait_for_bytes(1)
    bench.port.write(b"a word of the agent's in between")
    bench.result()
    assert bench.typed == b"", "nothing of the file was taken for a command"
    assert bench.settings == settings
    os.write(bench._ends[1][1], b"status\r")
    bench.run_until(lambda: bench.typed == b"status\r")


def test_an_empty_file_arrives_too(bench: Bench) -> None:
    bench.file("empty", 0)
    bench.begin()
    bench.send("empty")
    assert bench.result()["size"] == 0


@pytest.mark.parametrize("how", ["silence", "given up", "hang-up"])
def test_what_has_come_is_kept_and_gone_on_with(bench: Bench, how: str) -> None:
    data = bench.file("x.bundle", SIZE)
    bench.cut_after = 300_000
    bench.begin()
    bench.send("x.bundle")
    bench.wait_for_bytes(200_000)
    assert bench.sender is not None
    bench.sender.kill()
    bench.drain()
    if how == "hang-up":
        bench.job.cancel()
    else:
        if how == "silence":
            bench.clock.pushed_s += receivers.QUIET_S
        else:
            bench.cut_after = None
            os.write(bench._ends[1][1], b"\x18" * 10)  # rz removes the file then
        assert bench.code() == "upload_failed"
    assert not bench.alive and bench.received() == {}
    kept = bench.receiver.kept()
    assert kept is not None and kept[0] == "x.bundle" and 100_000 < kept[1] < SIZE
    bench.drain()
    bench.cut_after, bench.passed = None, 0
    bench.begin(resume=True)
    bench.send("x.bundle")
    result = bench.result()
    assert bench.received() == {"x.bundle": data} and result["sha256"] == hashlib.sha256(data).hexdigest()
    assert bench.passed < 1.1 * (SIZE - kept[1]) + 10_000 and result["came"] == SIZE - kept[1]
    assert bench.receiver.kept() is None


def test_going_on_with_another_file_takes_that_one(bench: Bench) -> None:
    bench.file("old", LONG)
    bench.begin()
    bench.send("old")
    bench.wait_for_bytes(200_000)
    bench.job.cancel()
    assert bench.sender is not None
    bench.sender.kill()
    bench.drain()
    data = bench.file("new", 50_000, seed=2)
    bench.begin(resume=True)
    bench.send("new")
    assert bench.result()["came"] == 50_000
    assert bench.received() == {"new": data} and bench.receiver.kept() is None


def test_going_on_where_nothing_was_kept_begins(bench: Bench) -> None:
    data = bench.file("x", 10_000)
    bench.begin(resume=True)
    bench.send("x")
    assert bench.result()["came"] == 10_000 and bench.received() == {"x": data}


def test_what_was_kept_is_forgotten_after_a_day_and_by_the_next_file(bench: Bench) -> None:
    bench.file("x", LONG)
    for forget in ("a day", "another"):
        bench.begin()
        bench.send("x")
        bench.wait_for_bytes(200_000)
        bench.job.cancel()
        assert bench.sender is not None
        bench.sender.kill()
        bench.drain()
        assert bench.receiver.kept() is not None
        if forget == "a day":
            bench.clock.pushed_s += receivers.KEPT_S + 1
            bench.make()
        else:
            bench.begin()
            bench.job.cancel()
        assert bench.receiver.kept() is None


def test_where_nothing_comes_the_line_is_given_back(bench: Bench) -> None:
    bench.begin()
    bench.run_until(lambda: bench.alive)
    bench.clock.pushed_s += receivers.BEGIN_S
    assert bench.code() == "upload_failed"
    assert not bench.alive and bench.settings == bench.before


def test_a_line_that_is_pulled_out_is_noticed_and_ends_the_receiver(bench: Bench) -> None:
    bench.file("x", LONG)
    bench.begin()
    bench.send("x")
    bench.wait_for_bytes(1)
    bench.pull_out()
    bench.run_until(lambda: bench.lost == 1)
    assert not bench.alive and "progress" in bench.messages[-1], "nobody is told who is not there"


def test_no_more_is_written_than_there_is_room_for(bench: Bench) -> None:
    bench.make(bytes_max=100_000)
    bench.file("large", 300_000)
    bench.begin()
    bench.send("large")
    assert bench.code() == "bundle_too_large"
    assert bench.received() == {} and bench.receiver.kept() is None and not bench.alive


def test_one_file_at_a_time(bench: Bench) -> None:
    for number in range(3):
        bench.file(f"x{number}", 100_000)
    bench.begin()
    bench.send("x0", "x1", "x2")
    assert bench.code() == "upload_failed"
    assert bench.received() == {}


@pytest.mark.parametrize("how", ["--restricted", "--resume"])
@pytest.mark.parametrize("name", ["../../{}", "{folder}/{}", "../{}", "./../now/../{}"])
def test_a_name_that_leads_out_of_the_directory_leads_nowhere(bench: Bench, name: str, how: str) -> None:
    """rz sees to that, with the option that confines it and with the one that lets it go on with a file."""
    bench.receiver.room()
    if how == "--resume":
        (bench.inbox / ".receive/kept/other").write_bytes(b"x" * 100_000)
    evil = name.format("owned", folder=bench.folder)
    where = bench.files / "a/b"
    (bench.files / "a/now").mkdir(parents=True)
    where.mkdir()
    (where / evil).write_bytes(b"x" * 1000)
    before = set(bench.folder.rglob("*"))
    bench.begin(resume=how == "--resume")
    assert bench.running() == how
    line = bench._ends[1][1]
    bench.sender = subprocess.Popen(
        ["sz", "-q", "-f", evil], stdin=line, stdout=line, stderr=subprocess.DEVNULL, cwd=where
    )
    bench.run_until(lambda: not bench.alive or bench.sender is None or bench.sender.poll() is not None)
    bench.clock.pushed_s += receivers.BEGIN_S
    assert bench.code() == "upload_failed"
    assert set(bench.folder.rglob("*")) | {bench.inbox / ".receive/kept/other"} == before | {
        bench.inbox / ".receive" / one for one in ("kept/other", "now/other") if how == "--resume"
    } | {bench.inbox / ".receive/kept/other"}


@pytest.mark.parametrize("name", ["my bundle (1).bundle", "-rf", "升级.bundle", "x" * 100, "a\\b;c"])
def test_an_odd_name_is_made_harmless(bench: Bench, name: str) -> None:
    data = bench.file(name, 1000)
    bench.begin()
    bench.send("--", name)
    assert bench.result()["name"] == harmless(name)
    assert bench.received() == {harmless(name): data}


@pytest.mark.parametrize(
    ("name", "safe"),
    [("2.0.0.bundle", "2.0.0.bundle"), ("a b", "a_b"), (".hidden", "_hidden"), ("..", "_."), ("x" * 99, "x" * 64)],
)
def test_harmless_names(name: str, safe: str) -> None:
    assert harmless(name) == safe


def test_no_command_of_the_sender_is_carried_out(bench: Bench) -> None:
    bench.begin()
    bench.send("-c", f"touch {bench.folder}/owned")
    bench.clock.pushed_s += receivers.BEGIN_S
    assert bench.code() == "upload_failed"
    assert not (bench.folder / "owned").exists()


@pytest.mark.parametrize("command", ["/nowhere/rz", "/proc/version"])
def test_where_rz_is_missing_it_is_refused_with_what_to_do(bench: Bench, command: str) -> None:
    bench.job = bench.receiver.start(resume=False, notify=bench.messages.append)
    bench.job.cancel()
    bench.make(command=command)
    with pytest.raises(PosagentError) as caught:
        bench.receiver.room()
    assert caught.value.code == "no_zmodem" and "lrzsz" in caught.value.spec.remedy


def test_without_free_space_nothing_is_begun(bench: Bench) -> None:
    bench.begin()
    bench.job.cancel()
    bench.receiver._keep_free_bytes = 1 << 62
    with pytest.raises(PosagentError) as caught:
        bench.begin()
    assert caught.value.code == "spool_full"


def test_an_inbox_that_cannot_be_written_is_an_error_with_a_code(bench: Bench) -> None:
    bench.begin()
    bench.job.cancel()
    (bench.folder / "file").write_text("")
    receiver = bench.receiver
    receiver.now = bench.folder / "file" / ".receive" / "now"
    with pytest.raises(PosagentError) as caught:
        receiver.room()
    assert caught.value.code == "spool_io"
