"""The one way to run an external command: an argument list, a deadline, bounded output, never a shell.

Rules: the command gets nothing of our environment but a fixed search path; when it fails, the error has the line that
a person can paste into a shell to see the same.
"""

from __future__ import annotations

import os
import selectors
import shlex
import signal
import subprocess
from collections.abc import Sequence

from posagent.platform.host import LinuxClock

OUTPUT_BYTES_MAX = 1 << 16
SHOWN_BYTES_MAX = 500
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}


class CommandFailed(Exception):
    """A command could not be started, ended with an error, took too long or said too much."""

    def __init__(self, command: Sequence[str], why: str, output: bytes = b"") -> None:
        self.line = shlex.join(command)
        said = output[-SHOWN_BYTES_MAX:].decode(errors="replace").strip()
        super().__init__(f"{self.line}: {why}" + (f": {said}" if said else ""))


def run(
    command: Sequence[str], *, timeout_s: float, stdin: bytes = b"", output_bytes_max: int = OUTPUT_BYTES_MAX
) -> bytes:
    """What `command` writes to its standard output. Raises CommandFailed; the command is dead then."""
    given = os.memfd_create("stdin", os.MFD_CLOEXEC)  # a real file: also readable by name as /dev/stdin
    try:
        os.write(given, stdin)
        os.lseek(given, 0, os.SEEK_SET)
        child = subprocess.Popen(
            command,
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
            start_new_session=True,
        )
    except OSError as error:
        raise CommandFailed(command, error.strerror or str(error)) from None
    finally:
        os.close(given)
    try:
        stdout, stderr = _collect(child, command, timeout_s, output_bytes_max)
    finally:
        _end(child)
    if child.returncode:
        raise CommandFailed(command, f"ended with {child.returncode}", stderr or stdout)
    return stdout


def _collect(
    child: subprocess.Popen[bytes], command: Sequence[str], timeout_s: float, output_bytes_max: int
) -> tuple[bytes, bytes]:
    """Both outputs until the command has closed them and ended."""
    clock = LinuxClock()
    deadline = clock.monotonic() + timeout_s
    assert child.stdout is not None and child.stderr is not None
    said = {child.stdout.fileno(): bytearray(), child.stderr.fileno(): bytearray()}
    with selectors.DefaultSelector() as selector:
        for descriptor in said:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - clock.monotonic()))
            if not ready:
                raise CommandFailed(command, f"no end after {timeout_s:g} s", b"".join(said.values()))
            for key, _ in ready:
                data = os.read(key.fd, 65536)
                said[key.fd] += data
                if not data:
                    selector.unregister(key.fd)
            if sum(map(len, said.values())) > output_bytes_max:
                raise CommandFailed(command, f"more than {output_bytes_max} bytes of output")
    try:
        child.wait(max(0.0, deadline - clock.monotonic()))
    except subprocess.TimeoutExpired:
        raise CommandFailed(command, f"no end after {timeout_s:g} s") from None
    return bytes(said[child.stdout.fileno()]), bytes(said[child.stderr.fileno()])


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the command and of its own children, and close our ends."""
    if child.returncode is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    for stream in (child.stdout, child.stderr):
        if stream is not None:
            stream.close()
