"""The serial port over real ptys: bytes both ways, the other end going away and coming back, nobody reading."""

from __future__ import annotations

import os
import pty
import select
import termios
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import serial

from posagent.console.port import REOPEN_S, SerialPort
from posagent.platform.loop import Loop

DEADLINE_S = 5.0


class FastClock:
    """core.ports.Clock that may be pushed on, so that nobody waits for REOPEN_S."""

    def __init__(self) -> None:
        self.pushed_s = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.pushed_s

    def wall(self) -> float:
        return time.time()


class Cable:
    """A terminal's port on the agent's loop, and a laptop's end that is plugged in and out."""

    def __init__(self, folder: Path) -> None:
        self.device = folder / "serial"
        self.clock = FastClock()
        self.loop = Loop(self.clock)
        self.received = b""
        self.shown = bytearray()
        self.lost = 0
        self._master: int | None = None

    def plug_in(self) -> None:
        self.shown.clear()
        self._master, slave = pty.openpty()
        tty.setraw(slave)
        self.device.unlink(missing_ok=True)
        self.device.symlink_to(os.ttyname(slave))
        os.set_blocking(self._master, False)
        self._slave = slave

    def unplug(self) -> None:
        """As a USB adapter that is pulled out."""
        if self._master is not None:
            os.close(self._master)
            os.close(self._slave)
            self._master = None
            self.device.unlink()

    def open(self) -> SerialPort:
        self.port = SerialPort(
            device=str(self.device),
            baud=115200,
            watch=self.loop.watch,
            timers=self.loop,
            on_data=self._data,
            on_lost=self._gone,
        )
        return self.port

    def _data(self, data: bytes) -> None:
        self.received += data

    def _gone(self) -> None:
        self.lost += 1

    def run_until(self, reached: Callable[[], bool]) -> None:
        """Serve until it holds. Raises TimeoutError."""
        deadline = time.monotonic() + DEADLINE_S

        def look() -> None:
            if reached() or time.monotonic() > deadline:
                self.loop.stop()
            else:
                self.loop.call_later(0.002, look)

        self.loop.call_later(0, look)
        self.loop.run()
        if not reached():
            raise TimeoutError

    def turn(self) -> None:
        """Let the loop do what can be done now."""
        self.run_until(lambda: True)

    def quiet(self) -> bool:
        """Nothing more arrives at the laptop."""
        return len(self.shown) == len(self.read())

    def type(self, data: bytes) -> None:
        assert self._master is not None
        os.write(self._master, data)

    def read(self) -> bytes:
        """What has arrived at the laptop, taken out of the line."""
        assert self._master is not None
        while select.select([self._master], [], [], 0)[0]:
            self.shown += os.read(self._master, 65536)
        return bytes(self.shown)


@pytest.fixture
def cable(tmp_path: Path) -> Iterator[Cable]:
    made = Cable(tmp_path)
    yield made
    made.unplug()


def test_bytes_go_both_ways(cable: Cable) -> None:
    cable.plug_in()
    port = cable.open()
    cable.type(bytes(range(256)))
    cable.run_until(lambda: len(cable.received) == 256)
    assert cable.received == bytes(range(256)), "nothing is taken for a control character"
    port.write(b"terminal: 1\r\n")
    port.write(bytes(range(256)))
    cable.run_until(lambda: cable.read() == b"terminal: 1\r\n" + bytes(range(256)))


def test_a_line_that_goes_away_is_reported_once_and_opened_again_when_it_is_back(cable: Cable) -> None:
    cable.plug_in()
    port = cable.open()
    for times in (1, 2):
        cable.type(b"status\r")
        cable.run_until(lambda: cable.received.endswith(b"status\r"))
        cable.unplug()
        cable.run_until(lambda: cable.lost == times)  # noqa: B023
        port.write(b"to nobody")
        cable.clock.pushed_s += REOPEN_S + 1
        cable.turn()
        cable.plug_in()
        cable.received = b""
        cable.clock.pushed_s += REOPEN_S + 1
        port_is_back(cable)
    assert cable.lost == 2


def port_is_back(cable: Cable) -> None:
    """Type until something arrives: opening a port throws away what came before."""

    def arrived() -> bool:
        cable.type(b"w")
        return cable.received != b""

    cable.run_until(arrived)


def test_a_port_that_is_not_there_at_the_start_is_opened_when_it_comes(cable: Cable) -> None:
    cable.open().write(b"dropped")
    cable.plug_in()
    cable.clock.pushed_s += REOPEN_S + 1
    port_is_back(cable)
    assert cable.lost == 0


@pytest.mark.parametrize("device", ["/dev/null", "/", "/dev/no-such-port"])
def test_what_is_no_serial_port_does_not_stop_the_agent(cable: Cable, device: str) -> None:
    cable.device = Path(device)
    cable.open().write(b"x")
    for _ in range(3):
        cable.clock.pushed_s += REOPEN_S + 1
        cable.turn()
    cable.device = Path("nowhere")


def test_an_adapter_pulled_out_while_it_is_opened_does_not_stop_the_agent(
    cable: Cable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pyserial lets termios.error through, which is no OSError; seen once in a hundred when racing with a close."""

    def pulled_out(*_: object, **__: object) -> None:
        raise termios.error(5, "Input/output error")

    cable.plug_in()
    with monkeypatch.context() as patched:
        patched.setattr(serial, "Serial", pulled_out)
        cable.open()
    cable.clock.pushed_s += REOPEN_S + 1
    port_is_back(cable)


def test_output_that_nobody_reads_is_dropped_and_never_blocks(cable: Cable) -> None:
    cable.plug_in()
    port = cable.open()
    started = time.monotonic()
    for number in range(20_000):
        port.write(f"{number:070}\r\n".encode())
        if number % 200 == 0:
            cable.turn()
    assert time.monotonic() - started < DEADLINE_S
    cable.type(b"status\r")
    cable.run_until(lambda: cable.received == b"status\r")
    cable.read()
    cable.run_until(cable.quiet)
    *lines, rest = cable.read().split(b"\r\n")
    assert 0 < len(lines) < 20_000 and rest == b"", "most of it is gone"
    assert all(len(line) == 70 for line in lines), "whole writes are dropped, not pieces"
    port.write(b"posagent> ")
    cable.run_until(lambda: cable.read().endswith(b"\r\nposagent> "))


def test_what_was_meant_for_a_line_that_is_gone_is_not_shown_to_the_next(cable: Cable) -> None:
    cable.plug_in()
    port = cable.open()
    for _ in range(20):
        port.write(b"secret" * 250)
    cable.turn()
    cable.unplug()
    cable.run_until(lambda: cable.lost == 1)
    cable.plug_in()
    cable.clock.pushed_s += REOPEN_S + 1
    port_is_back(cable)
    port.write(b"hello")
    cable.run_until(lambda: b"hello" in cable.read())
    assert b"secret" not in cable.shown
