"""The virtual terminal as a thing with a power switch and a main console.

Owns: the QEMU process. Power goes away by killing it, as a plug that is pulled; the card then holds what QEMU had been
given, which is more than a real card would: writes that were not flushed are never lost here (docs/power-loss.md).
"""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import threading
import time
from pathlib import Path

from hil.image import start

START_S = 20.0
UNREAD_BYTES_MAX = 8 << 20
_FIELD = re.compile(r"(/dev/pts/\d+) \(label field\)")


class _Said:
    """What the console says, taken in at once by a thread: a serial port that nobody reads goes on, QEMU's would stop
    the machine."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._ended = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def take_from(self, console: socket.socket) -> None:
        self._thread = threading.Thread(target=self._take, args=(console,), daemon=True)
        self._thread.start()

    def _take(self, console: socket.socket) -> None:
        data = b"?"
        while data:
            try:
                data = console.recv(1 << 16)
            except OSError:
                data = b""
            with self._changed:
                self._data += data
                del self._data[:-UNREAD_BYTES_MAX]
                self._ended = not data
                self._changed.notify_all()

    def next(self, timeout_s: float, bytes_max: int) -> bytes:
        """Nothing within the time-out is nothing. Raises OSError when all was read of a machine that has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._data or self._ended, timeout_s)
            if self._ended and not self._data:
                raise OSError("the machine has ended")
            data = bytes(self._data[:bytes_max])
            del self._data[:bytes_max]
            return data

    def end(self) -> None:
        """When QEMU has ended."""
        if self._thread is not None:
            self._thread.join()


class Machine:
    """`folder` is for sockets and transcripts; `clock` is where the machine's clock begins."""

    def __init__(self, card: Path, folder: Path, *, payments: int = 0, log: Path | None = None) -> None:
        self.clock = "utc"
        self.field = ""
        """The laptop's end of the field line, a device path."""
        self._card, self._folder = card, folder
        self._payments, self._log = payments, log
        self.transcript = folder / "console.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._console: socket.socket | None = None
        self._said = _Said()

    def on(self) -> None:
        if self._process is not None:
            return
        said, path = self._folder / "qemu.log", self._folder / "console.sock"
        path.unlink(missing_ok=True)
        transcript = f"logfile={self.transcript},logappend=on"
        command = start.qemu(
            self._card,
            console=f"socket,path={path},server=on,wait=on,{transcript}",
            field="pty",
            payments=self._payments,
            log=self._log,
            more=("-rtc", f"base={self.clock}"),
        )
        with said.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self._console = self._connected(path, said)
        self._said = _Said()
        self._said.take_from(self._console)
        self.field = self._found(said)

    def off(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        if self._console is not None:
            self._said.end()
            self._console.close()
            self._console = None

    def read(self, timeout_s: float, bytes_max: int = 1 << 16) -> bytes:
        """What the console says next; nothing within the time-out is nothing. Raises OSError when it is off."""
        if self._console is None:
            raise OSError("the terminal is off")
        return self._said.next(timeout_s, bytes_max)

    def write(self, data: bytes) -> None:
        """Type it on the console. Raises OSError when it is off."""
        if self._console is None:
            raise OSError("the terminal is off")
        self._console.sendall(data)

    def _connected(self, path: Path, said: Path) -> socket.socket:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self._process is not None
            if self._process.poll() is not None:
                break
            connection = socket.socket(socket.AF_UNIX)
            with contextlib.suppress(OSError):
                connection.connect(str(path))
                return connection
            connection.close()
            time.sleep(0.05)
        raise RuntimeError(f"QEMU did not start: {said.read_text(errors='replace')[-500:]}")

    @staticmethod
    def _found(said: Path) -> str:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if found := _FIELD.search(said.read_text(errors="replace")):
                return found[1]
            time.sleep(0.05)
        raise RuntimeError(f"QEMU names no field line: {said.read_text(errors='replace')[-500:]}")
