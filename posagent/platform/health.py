"""What self-tests look at: commands, loopback ports, file digests, free space.

Rules: every probe ends within its time-out; a command's whole process group dies with it; output is bounded.
"""

from __future__ import annotations

import hashlib
import os
import select
import signal
import socket
import stat
import subprocess
from collections.abc import Sequence

from posagent.core.ports import Clock
from posagent.platform import host

OUTPUT_BYTES_MAX = 2048
PIPE_BYTES = 1 << 16
CHUNK_BYTES = 1 << 20
LOOK_S = 0.05
"""How often a silent command is asked whether it has ended: a child it leaves behind may hold its output open."""


class LinuxProbes:
    """selftest.checks.Probes. Each returns None when all is well, else what was wrong."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def pause(self, seconds: float) -> None:
        host.pause(seconds)

    def command(self, words: Sequence[str], timeout_s: float) -> str | None:
        """None when it ends with 0; else how it ended and the last of what it said."""
        try:
            process = subprocess.Popen(
                list(words),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            return f"{words[0]}: {error.strerror}"
        with process:
            try:
                said = self._listen(process, timeout_s).decode("utf-8", "replace").strip()
                code = process.returncode
            finally:
                _end_group(process)
        if code == 0:
            return None
        how = f"no end after {timeout_s:.0f} s" if code is None else f"exit {code}"
        return how + (f": {said}" if said else "")

    def _listen(self, process: subprocess.Popen[bytes], timeout_s: float) -> bytes:
        """The last of its output, once it has ended or its time is over."""
        assert process.stdout is not None
        said, deadline = b"", self._clock.monotonic() + timeout_s
        while True:
            left_s = max(0.0, deadline - self._clock.monotonic())
            last = process.poll() is not None or not left_s  # asked first: the pipe then holds all it said
            ready, _, _ = select.select([process.stdout], [], [], 0 if last else min(left_s, LOOK_S))
            data = os.read(process.stdout.fileno(), PIPE_BYTES) if ready else b""
            said = (said + data)[-OUTPUT_BYTES_MAX:]
            if last:
                return said
            if ready and not data:
                _await_end(process, left_s)

    def tcp(self, host: str, port: int, timeout_s: float) -> str | None:
        """None when something accepts the connection."""
        try:
            with socket.create_connection((host, port), timeout_s):
                return None
        except (OSError, UnicodeError) as error:
            return f"{host}:{port}: {getattr(error, 'strerror', None) or error}"

    def digest(self, path: str, sha256: str, timeout_s: float) -> str | None:
        """None when the file has this digest."""
        found, deadline = hashlib.sha256(), self._clock.monotonic() + timeout_s
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):
                return f"{path}: not a regular file"  # a pipe would never come to an end
            with open(path, "rb") as stream:
                while data := stream.read(CHUNK_BYTES):
                    found.update(data)
                    if self._clock.monotonic() > deadline:
                        return f"{path}: not read within {timeout_s:.0f} s"
        except OSError as error:
            return f"{path}: {error.strerror}"
        return None if found.hexdigest() == sha256.lower() else f"{path}: digest is {found.hexdigest()}"

    def free_space(self, path: str, free_bytes_min: int) -> str | None:
        """None when at least so many bytes are free."""
        try:
            found = os.statvfs(path)
        except OSError as error:
            return f"{path}: {error.strerror}"
        free = found.f_bavail * found.f_frsize
        return None if free >= free_bytes_min else f"{path}: {free} bytes free, needs {free_bytes_min}"


def _await_end(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    """It closed its output; wait for the rest of it."""
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        pass  # its return code stays unknown, which says so


def _end_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # all of it has ended
    process.wait()
