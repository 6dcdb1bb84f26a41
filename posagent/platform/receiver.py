"""Files that come over the serial line by ZMODEM: received by the distribution's `rz`, in a directory of its own.

Owns: `DIR/.receive` below the inbox: `now`, where rz works, and `kept`, which has what came of a file that did not come
whole. A whole one is moved into the inbox.
Rules: rz confines itself to its directory (--restricted; where it has to go on with a file, which that forbids, its
default, which does the same but for files that are there), may write so many bytes and no more, gets nothing of our
environment, and is killed when nothing comes, when the line is gone, and when it is done but does not say so. One file
at a time; its name is made harmless. The agent's loop only looks on, and digests the file slice by slice.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from posagent.core.errors import FetchError, PosagentError, Refusal
from posagent.core.ports import Clock, Message, Notify, Timers
from posagent.platform.commands import ENVIRONMENT

LOOK_S = 0.5
BEGIN_S = 120.0
"""So long the engineer may look for the file."""
QUIET_S = 60.0
DONE_S = 2.0
"""rz waits half a minute for a farewell that some terminal programs swallow, and the file is there."""
KEPT_S = 86400.0
DOUBTFUL_BYTES = 64 << 10
"""The end of what was kept: a power cut may have taken it."""
SLICE_BYTES = 256 << 10
FILE_MODE = 0o660
_OPTIONS = ("--zmodem", "--binary", "--quiet", "--bufsize", "4096")
_ODD = re.compile(r"[^A-Za-z0-9._-]")
NAME_CHARACTERS_MAX = 64


class ZmodemReceiver:
    """console.receive.Receiver. `lend` gives the line's descriptor when it is free, `take_back` ends that; `adopt` puts
    a whole file into the inbox, by path, name, size and digest, and returns where it is then."""

    def __init__(
        self,
        *,
        command: str,
        inbox_dir: str,
        bytes_max: int,
        keep_free_bytes: int,
        timers: Timers,
        clock: Clock,
        lend: Callable[[Callable[[int], None]], None],
        take_back: Callable[[], None],
        adopt: Callable[[str, str, int, str], str],
    ) -> None:
        self.command = command
        self.now, self._kept = (Path(inbox_dir) / ".receive" / name for name in ("now", "kept"))
        self._bytes_max, self._keep_free_bytes = bytes_max, keep_free_bytes
        self.timers, self.clock = timers, clock
        self.lend, self.take_back, self.adopt = lend, take_back, adopt
        self._expire()

    def room(self) -> int:
        if not os.access(self.command, os.X_OK):
            raise Refusal("no_zmodem", f"{self.command} is not there")
        try:
            self.now.mkdir(parents=True, exist_ok=True)
            self._kept.mkdir(exist_ok=True)
            there = os.statvfs(self.now)
        except OSError as error:
            raise _trouble(error) from error
        room = min(self._bytes_max, there.f_bavail * there.f_frsize - self._keep_free_bytes)
        if room <= 0:
            raise FetchError("spool_full")
        return room

    def kept(self) -> tuple[str, int] | None:
        for path in _files(self._kept):
            return path.name, max(0, path.stat().st_size - DOUBTFUL_BYTES)
        return None

    def start(self, *, resume: bool, notify: Notify) -> _Transfer:
        room = self.room()
        try:
            _empty(self.now)
            kept = self._go_on() if resume else None
            _empty(self._kept)
        except OSError as error:
            raise _trouble(error) from error
        return _Transfer(self, room=room, kept=kept, notify=notify)

    def keep(self, path: Path) -> None:
        """Whatever rz does to it, what came of the file stays; for a day."""
        with suppress(OSError):
            os.link(path, self._kept / path.name)
            self.timers.call_later(KEPT_S, self._expire)

    def forget(self) -> None:
        """It is whole, or useless."""
        with suppress(OSError):
            _empty(self._kept)

    def _go_on(self) -> tuple[str, int] | None:
        """Put what was kept to where rz goes on with it."""
        kept = self.kept()
        if kept is not None:
            os.truncate(self._kept / kept[0], kept[1])
            (self._kept / kept[0]).rename(self.now / kept[0])
        return kept

    def _expire(self) -> None:
        """What nobody asked for in a day goes; a clock that jumped costs a file that would have to be sent again."""
        with suppress(OSError):
            for folder in (self.now, self._kept):
                for path in _files(folder):
                    if not 0 <= self.clock.wall() - path.stat().st_mtime < KEPT_S:
                        path.unlink()


class _Transfer:
    """core.ports.Job: one run of rz, and what it brought. The line is lent as long as this goes on."""

    def __init__(self, receiver: ZmodemReceiver, *, room: int, kept: tuple[str, int] | None, notify: Notify) -> None:
        self._receiver = receiver
        self._room = room
        self._old, self._begins_at = kept or ("", 0)
        self._notify: Notify | None = notify
        self._child: subprocess.Popen[bytes] | None = None
        self._name, self._size = self._old, self._begins_at
        self._first_at = self._grown_at = self._written_at = 0.0
        receiver.lend(self._run)

    def cancel(self) -> None:
        """The line is gone, or nobody wants the file any more; what came of it is kept."""
        self._end()

    def _run(self, line: int) -> None:
        receiver = self._receiver
        if self._notify is None:
            return
        how = "--resume" if self._old else "--restricted"
        try:
            self._child = _start([receiver.command, *_OPTIONS, how], line, receiver.now, self._limit)
        except (OSError, subprocess.SubprocessError) as error:
            self._fail(Refusal("no_zmodem", f"{receiver.command}: {error}"))
            return
        self._grown_at = receiver.clock.monotonic()
        receiver.timers.call_later(LOOK_S, self._look)

    def _limit(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (self._room, self._room))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    # while it comes

    def _look(self) -> None:
        child, now = self._child, self._receiver.clock.monotonic()
        if child is None:
            return
        ended = child.poll()
        files = self._arrived()
        if len(files) > 1:
            self._fail(PosagentError("upload_failed", "one file at a time"))
        elif files and self._grew(files[0], now) and ended is None:
            if self._notify is not None:
                self._notify({"progress": {"bytes_done": self._size}})
            self._again()
        elif ended is not None:
            self._ended(ended, files)
        elif self._first_at and files and now - self._last_written(child.pid, files[0], now) > DONE_S:
            self._whole(files[0])
        elif now - self._grown_at > (QUIET_S if self._first_at else BEGIN_S):
            self._fail(PosagentError("upload_failed", "nothing more came" if self._first_at else "nothing came"))
        else:
            self._again()

    def _again(self) -> None:
        self._receiver.timers.call_later(LOOK_S, self._look)

    def _arrived(self) -> list[Path]:
        """What lies in rz' directory; a file that was to be gone on with counts only as long as no other comes."""
        files = _files(self._receiver.now)
        others = [path for path in files if path.name != self._old]
        if others and len(others) < len(files):
            (self._receiver.now / self._old).unlink(missing_ok=True)
            self._old, self._begins_at = "", 0
        return others or files

    def _grew(self, path: Path, now: float) -> bool:
        try:
            size = path.stat().st_size
        except OSError:
            return False
        if (path.name, size) == (self._name, self._size):
            return False
        if path.name != self._name or not self._first_at:
            self._receiver.keep(path)
            self._first_at = now
        self._name, self._size, self._grown_at = path.name, size, now
        _flush(path)
        return True

    def _last_written(self, pid: int, path: Path, now: float) -> float:
        """When rz had it open last, as far as it was looked at."""
        if self._written_at < self._grown_at or _is_open(pid, path):
            self._written_at = now
        return self._written_at

    def _ended(self, code: int, files: list[Path]) -> None:
        if code == 0 and files and self._first_at:
            self._whole(files[0])
        elif code == -signal.SIGXFSZ:
            self._receiver.forget()
            self._fail(FetchError("bundle_too_large", f"there is room for {self._room} bytes"))
        else:
            self._fail(PosagentError("upload_failed", "the sender gave up" if self._first_at else "nothing came"))

    # when it has come

    def _whole(self, path: Path) -> None:
        self._kill()
        digest, slices = hashlib.sha256(), _slices(path)

        def next_slice() -> None:
            if self._notify is None:
                return
            try:
                data = next(slices, b"")
                digest.update(data)
                if not data:
                    self._adopt(path, digest.hexdigest())
                    return
            except OSError as error:
                self._fail(_trouble(error))
                return
            self._receiver.timers.call_later(0.0, next_slice)

        next_slice()

    def _adopt(self, path: Path, digest: str) -> None:
        name, size = harmless(path.name), path.stat().st_size
        path.chmod(FILE_MODE)
        try:
            place = self._receiver.adopt(str(path), name, size, digest)
        except PosagentError as error:
            self._fail(error)
            return
        self._receiver.forget()
        took = max(self._grown_at - self._first_at, LOOK_S)
        told = {"name": name, "path": place, "size": size, "sha256": digest, "seconds": round(took, 1)}
        self._finish({"result": {**told, "came": size - self._begins_at}})

    def _fail(self, error: PosagentError) -> None:
        self._finish({"error": error.as_dict()})

    def _finish(self, message: Message) -> None:
        notify = self._notify
        self._end()
        if notify is not None:
            notify(message)

    def _end(self) -> None:
        self._notify = None
        self._kill()
        self._receiver.take_back()

    def _kill(self) -> None:
        """Without a word: a signal that it can answer would put its farewell on the screen."""
        child, self._child = self._child, None
        if child is not None and child.poll() is None:
            child.kill()
            child.wait()


def harmless(name: str) -> str:
    """A name for the inbox."""
    name = _ODD.sub("_", name)[:NAME_CHARACTERS_MAX]
    return f"_{name[1:]}" if name.startswith(".") else name


def _start(command: list[str], line: int, folder: Path, limit: Callable[[], None]) -> subprocess.Popen[bytes]:
    """With the line as input and output, by a descriptor of its own: ours does not block, and rz wants to be."""
    own = os.open(f"/proc/self/fd/{line}", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.set_blocking(own, True)
        return subprocess.Popen(
            command,
            stdin=own,
            stdout=own,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=ENVIRONMENT,
            start_new_session=True,
            preexec_fn=limit,  # noqa: PLW1509 - the agent has no threads
        )
    finally:
        os.close(own)


def _files(folder: Path) -> list[Path]:
    """What lies in it; a directory that a sender had made counts as a file that nobody can use."""
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _empty(folder: Path) -> None:
    for path in _files(folder):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Little by little: all of it in the end would hold the agent for seconds."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)


def _is_open(pid: int, path: Path) -> bool:
    """Whether the process has the file open."""
    try:
        wanted = path.stat()
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if os.path.samestat(descriptor.stat(), wanted):
                    return True
    except OSError:
        pass  # it has just ended
    return False


def _slices(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while data := stream.read(SLICE_BYTES):
            yield data


def _trouble(error: OSError) -> FetchError:
    code = "spool_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "spool_io"
    return FetchError(code, f"{error.filename or 'inbox'}: {error.strerror or error}")
