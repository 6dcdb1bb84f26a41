"""The machine as self-tests look at it: /proc, permissions, local sockets, commands, a directory to write into.

Rules: everything ends within its time-out and is bounded. `root` stands before every path of the system, so that tests
can lay out a /proc of their own. Trouble is an OSError whose strerror is for people.
"""

from __future__ import annotations

import errno
import os
import pwd
import socket
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from posagent.core.ports import Clock
from posagent.platform.commands import CommandFailed, run

TEXT_BYTES_MAX = 1 << 20
LINE_BYTES_MAX = 4096
WRITE_NAME = ".write-rate"


class LinuxSystem:
    """selftest.finding.System."""

    def __init__(self, clock: Clock, root: str = "") -> None:
        self._clock = clock
        self._root = root

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def text(self, path: str) -> str:
        """Only of regular files, which those of /proc and /sys are, too: a pipe would never come to an end."""
        descriptor = os.open(self._root + path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", path)
            return stream.read(TEXT_BYTES_MAX).decode("utf-8", "replace")

    def processes(self) -> set[str]:
        found = set()
        for directory in Path(f"{self._root}/proc").iterdir():
            if directory.name.isdecimal():
                try:
                    found.add((directory / "comm").read_text(errors="replace").strip())
                except OSError:
                    pass  # it has ended meanwhile
        return found

    def about(self, path: str) -> tuple[int, str]:
        found = os.lstat(self._root + path)
        try:
            owner = pwd.getpwuid(found.st_uid).pw_name
        except KeyError:
            owner = str(found.st_uid)
        return stat.S_IMODE(found.st_mode), owner

    def output(self, command: Sequence[str], timeout_s: float, stdin: bytes = b"") -> str:
        try:
            return run(command, timeout_s=timeout_s, stdin=stdin).decode("utf-8", "replace")
        except CommandFailed as error:
            raise OSError(errno.EIO, str(error)) from None

    def exchange(self, path: str, host: str, port: int, line: bytes, timeout_s: float) -> str:
        where, until = path or f"{host}:{port}", self._clock.monotonic() + timeout_s
        try:
            with self._connected(path, host, port, timeout_s) as connection:
                connection.sendall(line)
                said = b""
                while b"\n" not in said and len(said) < LINE_BYTES_MAX:
                    connection.settimeout(max(until - self._clock.monotonic(), 0.001))
                    data = connection.recv(LINE_BYTES_MAX)
                    if not data:
                        break
                    said += data
        except TimeoutError:
            raise OSError(errno.ETIMEDOUT, f"no answer within {timeout_s:.0f} s", where) from None
        except (OSError, UnicodeError) as error:
            raise OSError(errno.EIO, getattr(error, "strerror", None) or str(error), where) from None
        return said.partition(b"\n")[0].decode("utf-8", "replace")

    @staticmethod
    def _connected(path: str, host: str, port: int, timeout_s: float) -> socket.socket:
        if not path:
            return socket.create_connection((host, port), timeout_s)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout_s)
            connection.connect(path)
        except OSError:
            connection.close()
            raise
        return connection

    def handshake(
        self, device: str, baud: int, send: bytes, enough: Callable[[bytes], bool], timeout_s: float
    ) -> bytes:
        from posagent.platform import peripherals  # pyserial only where a check needs it

        return peripherals.handshake(self._clock, device, baud, send, enough, timeout_s)

    def write_s(self, directory: str, size: int) -> float:
        """Through the page cache and out of it, into a file that is gone afterwards; one that a power cut has left
        behind goes first."""
        name, data = f"{directory}/{WRITE_NAME}", os.urandom(size)  # zeros might be compressed
        Path(name).unlink(missing_ok=True)
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            began, view = self._clock.monotonic(), memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
            return self._clock.monotonic() - began
        finally:
            os.close(descriptor)
            Path(name).unlink()
