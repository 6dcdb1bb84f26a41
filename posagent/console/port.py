"""The serial port on the agent's loop, through pyserial; the only module that knows it.

Rules: never blocks. What the line cannot take is kept up to OUTPUT_BYTES_MAX and then dropped: a stuck laptop must
not hold the agent. A port that vanishes (a USB adapter) is opened again when it is back. While it is lent to a program
that receives a file, nothing is read or written here; that it vanishes is still seen.
"""

from __future__ import annotations

import termios
from collections.abc import Callable
from typing import Any

import serial

from posagent.core.ports import Timers

OUTPUT_BYTES_MAX = 128 * 1024
READ_BYTES = 4096
REOPEN_S = 5.0
LOOK_S = 1.0

Watch = Callable[[int, Callable[[], None] | None, Callable[[], None] | None], None]


class SerialPort:
    """Opens `device` and keeps it open; `on_data` gets bytes, `on_lost` hears that the line is gone."""

    def __init__(
        self,
        *,
        device: str,
        baud: int,
        watch: Watch,
        timers: Timers,
        on_data: Callable[[bytes], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._device = device
        self._baud = baud
        self._watch = watch
        self._timers = timers
        self._on_data = on_data
        self._on_lost = on_lost
        self._out = bytearray()
        self._port: serial.Serial | None = None
        self._lend: Callable[[int], None] | None = None
        self._settings: list[Any] | None = None
        """The line's, while it is lent."""
        self._open()

    def write(self, data: bytes) -> None:
        """Send as the line takes it; dropped while the line is gone, stuck or lent."""
        if self._port is None or self._settings is not None or len(self._out) + len(data) > OUTPUT_BYTES_MAX:
            return
        self._out += data
        self._watch(self._port.fileno(), self._readable, self._writable)

    def lend(self, to: Callable[[int], None]) -> None:
        """Give the line away, by its descriptor, as soon as everything is written; until `take_back`."""
        self._lend = to
        if self._port is not None:
            self._watch(self._port.fileno(), None, self._writable)

    def take_back(self) -> None:
        """It is ours again, set as it was; what is left of a transfer is thrown away. Nothing happens where it is."""
        settings, self._settings, self._lend = self._settings, None, None
        if self._port is None:
            return
        try:
            if settings is not None:
                termios.tcsetattr(self._port.fileno(), termios.TCSAFLUSH, settings)
            self._watch(self._port.fileno(), self._readable, self._writable if self._out else None)
        except termios.error:
            self._lost()

    def _look(self) -> None:
        """Nobody reads a line that is lent: is it still there?"""
        if self._port is None or self._settings is None:
            return
        try:
            termios.tcgetattr(self._port.fileno())
        except termios.error:
            self._lost()
        else:
            self._timers.call_later(LOOK_S, self._look)

    def _open(self) -> None:
        try:
            self._port = serial.Serial(self._device, self._baud, timeout=0, write_timeout=0, exclusive=True)
            self._watch(self._port.fileno(), self._readable, None)
        except (OSError, ValueError, termios.error):  # SerialException is an OSError; the last: pulled out meanwhile
            self._port = None
            self._timers.call_later(REOPEN_S, self._open)

    def _lost(self) -> None:
        port, self._port = self._port, None
        self._settings, self._lend = None, None
        self._out.clear()
        if port is not None:
            self._watch(port.fileno(), None, None)
            port.close()
        self._on_lost()
        self._timers.call_later(REOPEN_S, self._open)

    def _readable(self) -> None:
        if self._port is None:
            return
        try:
            data = self._port.read(READ_BYTES)
        except OSError:
            self._lost()
            return
        if data:
            self._on_data(data)

    def _writable(self) -> None:
        """Called when the line takes bytes, so that pyserial's write does not spin."""
        if self._port is None:
            return
        try:
            if self._out:
                del self._out[: self._port.write(bytes(self._out[:READ_BYTES])) or 0]
            if self._lend is not None and not self._out:
                self._give_away(self._port.fileno(), self._lend)
                return
        except (OSError, termios.error):
            self._lost()
            return
        reads = None if self._lend is not None else self._readable
        self._watch(self._port.fileno(), reads, self._writable if self._out else None)

    def _give_away(self, descriptor: int, to: Callable[[int], None]) -> None:
        self._settings, self._lend = termios.tcgetattr(descriptor), None
        self._watch(descriptor, None, None)
        self._timers.call_later(LOOK_S, self._look)
        to(descriptor)
