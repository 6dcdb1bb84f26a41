"""The host itself: clocks, boot id, shutdown inhibitor. The only module that asks for the time."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from posagent.core.errors import PosagentError


def pause(seconds: float) -> None:
    """Wait, in a worker: the resident never does."""
    time.sleep(seconds)


BOOT_ID_FILE = "/proc/sys/kernel/random/boot_id"


class LinuxClock:
    """core.ports.Clock over the kernel's clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()


def up_s() -> float:
    """Seconds since the kernel started, those in suspend included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id(path: str = BOOT_ID_FILE) -> str:
    """Changes with every start of the kernel. Raises PosagentError `internal`."""
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError as error:
        raise PosagentError("internal", f"{path}: {error.strerror}") from error


class LogindInhibitor:
    """core.ports.Inhibitor: a `systemd-inhibit` child holds the lock and dies with us (its stdin closes).

    Where logind is missing there is nothing that could shut down politely, and nothing to hold.
    """

    def __init__(self, command: str = "/usr/bin/systemd-inhibit") -> None:
        self._command = command
        self._child: subprocess.Popen[bytes] | None = None

    def hold(self, reason: str) -> None:
        if self._child is not None or not Path(self._command).exists() or not Path("/run/systemd/seats").exists():
            return
        self._child = subprocess.Popen(
            [self._command, "--what=shutdown", "--who=posagent", f"--why={reason}", "--mode=block", "/bin/cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def release(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            if child.stdin is not None:
                child.stdin.close()
            child.terminate()
            child.wait()
