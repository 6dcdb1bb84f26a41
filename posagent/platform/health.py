"""What self-tests look at: commands, loopback ports, file digests, free space.

Rules: every probe ends within its time-out; a command's whole process group dies with it; output is bounded.
"""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence

from posagent.core.ports import Clock
from posagent.platform import host

OUTPUT_BYTES_MAX = 2048
CHUNK_BYTES = 1 << 20


class LinuxProbes:
    """selftest.checks.Probes. Each returns None when all is well, else what was wrong."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def pause(self, seconds: float) -> None:
        host.pause(seconds)

    def command(self, words: Sequence[str], timeout_s: float) -> str | None:
        """None when it ends with 0."""
        with tempfile.TemporaryFile() as output:
            try:
                process = subprocess.Popen(
                    list(words), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
                )
            except OSError as error:
                return f"{words[0]}: {error.strerror}"
            try:
                code = process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                return f"no end after {timeout_s:.0f} s"
            finally:
                _end_group(process)
            if code == 0:
                return None
            output.seek(max(0, output.seek(0, os.SEEK_END) - OUTPUT_BYTES_MAX))
            said = output.read().decode("utf-8", "replace").strip()
            return f"exit {code}" + (f": {said}" if said else "")

    def tcp(self, host: str, port: int, timeout_s: float) -> str | None:
        """None when something accepts the connection."""
        try:
            with socket.create_connection((host, port), timeout_s):
                return None
        except OSError as error:
            return f"{host}:{port}: {error.strerror or error}"

    def digest(self, path: str, sha256: str, timeout_s: float) -> str | None:
        """None when the file has this digest."""
        found, deadline = hashlib.sha256(), self._clock.monotonic() + timeout_s
        try:
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


def _end_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # all of it has ended
    process.wait()
