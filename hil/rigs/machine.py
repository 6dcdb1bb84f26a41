"""The virtual terminal as labgrid sees it: a machine with a power switch and a console.

Owns: the QEMU process. Power goes away by killing it, as a plug that is pulled; the card then holds what QEMU had been
given, which is more than a real card would (see docs/power-loss.md for what that leaves out).
"""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import attr
from labgrid.driver import Driver
from labgrid.driver.consoleexpectmixin import ConsoleExpectMixin
from labgrid.factory import target_factory
from labgrid.protocol import ConsoleProtocol, PowerProtocol
from pexpect import TIMEOUT

from hil.image import start

START_S = 20.0
_FIELD = re.compile(r"(/dev/pts/\d+) \(label field\)")


@target_factory.reg_driver
@attr.s(eq=False)
class VirtualMachineDriver(ConsoleExpectMixin, Driver, PowerProtocol, ConsoleProtocol):  # type: ignore[misc]
    """`card` is the SD card's file, `folder` is for sockets and transcripts; `clock` is where its clock begins."""

    card: str = attr.ib(default="")
    folder: str = attr.ib(default="")
    clock: str = attr.ib(default="utc")
    more: tuple[str, ...] = attr.ib(default=())
    txdelay: float = attr.ib(default=0.0)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self._process: subprocess.Popen[bytes] | None = None
        self._console: socket.socket | None = None
        self.field = ""
        """The laptop's end of the field line, a device path."""

    def on_deactivate(self) -> None:
        self.off()

    def on(self) -> None:
        if self._process is not None:
            return
        folder = Path(self.folder)
        said, path = folder / "qemu.log", folder / "console.sock"
        path.unlink(missing_ok=True)
        transcript = f"logfile={folder / 'console.log'},logappend=on"
        command = start.qemu(
            Path(self.card),
            console=f"socket,path={path},server=on,wait=on,{transcript}",
            field="pty",
            more=("-rtc", f"base={self.clock}", *self.more),
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

    def cycle(self) -> None:
        self.off()
        self.on()

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

    # labgrid's console

    def _read(self, size: int = 1, timeout: float = 0.0, max_size: int | None = None) -> bytes:
        if self._console is None:
            raise TIMEOUT("the terminal is off")
        self._console.settimeout(max(timeout, 0.001))
        try:
            data = self._console.recv(max_size or max(size, 4096))
        except (TimeoutError, BlockingIOError):
            raise TIMEOUT(f"nothing in {timeout:.1f} s") from None
        if not data:
            raise TIMEOUT("the console was closed")
        return data

    def _write(self, data: bytes) -> Any:
        if self._console is None:
            raise TIMEOUT("the terminal is off")
        self._console.sendall(data)
        return len(data)
