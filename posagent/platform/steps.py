"""Runs migration steps: the image's programs, as the owner of the data, each with a deadline and with nothing of ours.

Rules: a step gets an argument list, a fixed search path, the copy of the data as its working directory, and an empty
input; when it ends or its time is over, everything that it started is killed, in whatever session. Of its output the
end is kept, without card numbers and secrets, however much it writes.
"""

from __future__ import annotations

import os
import pwd
import resource
import selectors
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

from posagent.core.ports import Clock, StepRun
from posagent.core.redact import Redactor
from posagent.platform import descendants
from posagent.platform.commands import ENVIRONMENT
from posagent.platform.host import pause

STEPS_MAX = 256
LOOK_S = 1.0
"""How often somebody hears of a step that runs."""
PAUSE_S = 0.05
"""Between two looks at a step that has closed its output and not ended."""
TAIL_BYTES = 16 << 10
SAID_CHARACTERS_MAX = 500
FILE_BYTES_MAX = 1 << 30
LIMITS = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: FILE_BYTES_MAX, resource.RLIMIT_NOFILE: 256}
"""Memory and the number of processes are limited by the worker's unit."""


class LinuxSteps:
    """core.ports.Steps: the programs in `directory`. `owner` "" is whoever runs this. Raises KeyError where there
    is no such user."""

    def __init__(self, directory: str, *, owner: str, timeout_s: float, clock: Clock) -> None:
        self._directory = Path(directory)
        self._user = pwd.getpwnam(owner) if owner else None
        self._timeout_s = timeout_s
        self._clock = clock

    def run(self, directory: str, format_from: int, format_to: int) -> Iterator[StepRun]:
        for path in self._paths():
            yield StepRun(name=path.name, ended=False)
            with descendants.held():
                yield from self._run(path, [str(path), str(format_from), str(format_to)], directory)

    def _paths(self) -> list[Path]:
        try:
            found = sorted(self._directory.iterdir())
        except FileNotFoundError:
            return []  # an image without steps
        return [path for path in found if _is_program(path)][:STEPS_MAX]

    def _run(self, path: Path, words: list[str], directory: str) -> Iterator[StepRun]:
        began = self._clock.monotonic()
        try:
            child = self._start(words, directory)
        except (OSError, subprocess.SubprocessError) as error:
            yield StepRun(name=path.name, ended=True, trouble=f"cannot be started: {error}")
            return
        tail = bytearray()
        trouble = ""
        try:
            for _ in self._watched(child, tail, began + self._timeout_s):
                yield StepRun(name=path.name, ended=False, seconds=self._since(began))
            if not _has_ended(child):
                trouble = f"no end after {self._timeout_s:g} s"
        finally:
            _end(child)
        yield StepRun(
            name=path.name,
            ended=True,
            code=None if trouble else child.returncode,
            seconds=self._since(began),
            said=_said(bytes(tail)),
            trouble=trouble or (f"killed by signal {-child.returncode}" if child.returncode < 0 else ""),
        )

    def _start(self, words: list[str], directory: str) -> subprocess.Popen[bytes]:
        user = self._user
        return subprocess.Popen(
            words,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**ENVIRONMENT, "HOME": directory},
            umask=0o077,
            start_new_session=True,
            preexec_fn=_limit,  # noqa: PLW1509  the worker has one thread
            user=None if user is None else user.pw_uid,
            group=None if user is None else user.pw_gid,
            extra_groups=None if user is None else (),
        )

    def _watched(self, child: subprocess.Popen[bytes], tail: bytearray, deadline: float) -> Iterator[None]:
        """Takes what the child writes until it has ended or its time is over; stops now and then."""
        assert child.stdout is not None
        looked = self._clock.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            while (now := self._clock.monotonic()) < deadline:
                wait_s = max(0.0, min(looked + LOOK_S, deadline) - now)
                if not selector.get_map():
                    if _has_ended(child):
                        return
                    pause(min(wait_s, PAUSE_S))
                elif selector.select(wait_s):
                    data = os.read(child.stdout.fileno(), 65536)
                    tail += data
                    del tail[:-TAIL_BYTES]
                    if not data:  # it has closed its output, and may go on
                        selector.unregister(child.stdout)
                elif _has_ended(child):  # one that it started goes on and holds the output
                    return
                if self._clock.monotonic() >= looked + LOOK_S:
                    looked = self._clock.monotonic()
                    yield

    def _since(self, began: float) -> float:
        return round(self._clock.monotonic() - began, 3)


def _is_program(path: Path) -> bool:
    return not path.name.startswith(".") and stat.S_ISREG(path.stat().st_mode) and os.access(path, os.X_OK)


def _limit() -> None:
    for kind, most in LIMITS.items():
        hard = resource.getrlimit(kind)[1]
        value = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (value, value))


def _has_ended(child: subprocess.Popen[bytes]) -> bool:
    """Without taking note of it: as long as it is not waited for, its process group is its own."""
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill the whole group, whether or not its leader has ended already."""
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    if child.stdout is not None:
        child.stdout.close()


def _said(tail: bytes) -> str:
    """In one line; and only then it is redacted: digits that stand behind tabs or in lines of their own are a card
    number too."""
    text = "".join(one if one.isprintable() else " " for one in tail.decode(errors="replace").strip())
    return Redactor().text(text)[-SAID_CHARACTERS_MAX:]
