"""Whatever a child starts stays ours, even in a session of its own, and is killed with it.

While it is held, this process inherits those whose parents ended (PR_SET_CHILD_SUBREAPER), and the kernel lists its
children: no process hides by changing its session, as it could from a process group. Of other processes nothing has to
be seen, which the unit forbids (ProtectProc=). Rules: single-threaded owners, because every new child is taken for one
of the held one's.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from posagent.platform.host import LinuxClock, pause

KILL_S = 10.0
"""As long as it is tried: a process that waits for broken hardware cannot be killed."""
PAUSE_S = 0.005
_PR_SET_CHILD_SUBREAPER = 36


@contextmanager
def held() -> Iterator[None]:
    """All children that there are at the end and were not at the beginning are killed, and theirs."""
    before = _children()
    _adopt(adopting=True)
    try:
        yield
    finally:
        clock = LinuxClock()
        until = clock.monotonic() + KILL_S
        while (left := _children() - before) and clock.monotonic() < until:
            for child in left:
                _kill(child)
            if left & _children():
                pause(PAUSE_S)
        _adopt(adopting=False)


def _children() -> set[int]:
    """Of all threads. Nothing where the kernel does not tell (CONFIG_PROC_CHILDREN)."""
    found = set[int]()
    for path in Path("/proc/self/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended
            found.update(map(int, path.read_text().split()))
    return found


def _kill(child: int) -> None:
    """It is our child and not waited for yet, so its number is no other process's."""
    os.kill(child, signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG)


def _adopt(*, adopting: bool) -> None:
    """Where it is refused, what has a session of its own lives on, as without it."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(adopting), 0, 0, 0)
