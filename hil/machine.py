"""The virtual terminal as a thing with a power switch and a main console.

Owns: the QEMU process. Power goes away by killing it, as a plug that is pulled; the card then holds what QEMU had been
given, which is more than a real card would: writes that were not flushed are never lost here (docs/power-loss.md).
"""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import time
from pathlib import Path

from hil.image import start

START_S = 20.0
_FIELD = re.compile(r"(/dev/pts/\d+) \(label field\)")


class Machine:
    """`folder` is for sockets and transcripts; `clock` is where the machine's clock begins."""

    def __init__(self, card: Path, folder: Path, *, payments: int = 0, log: Path | None = None) -> None:
        self.clock = "utc"
        self.field = ""
        """The laptop's end of the field line, a device path."""
        self._card, self._folder = card, folder
        self._payments, self._log = payments, log
        self._process: subprocess.Popen[bytes] | None = None
        self._console: socket.socket | None = None

    def on(self) -> None:
        if self._process is not None:
            return
        said, path = self._folder / "qemu.log", self._folder / "console.sock"
        path.unlink(missing_ok=True)
        transcript = f"logfile={self._folder / 'console.log'},logappend=on"
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
        self.field = self._found(said)

    def off(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        if self._console is not None:
            self._console.close()
            self._console = None

    def read(self, timeout_s: float, bytes_max: int = 1 << 16) -> bytes:
        """What the console says next; nothing within the time-out is nothing. Raises OSError when it is off."""
        if self._console is None:
            raise OSError("the terminal is off")
        self._console.settimeout(max(timeout_s, 0.001))
        try:
            data = self._console.recv(bytes_max)
        except (TimeoutError, BlockingIOError):
            return b""
        if not data:
            raise OSError("the machine has ended")
        return data

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
