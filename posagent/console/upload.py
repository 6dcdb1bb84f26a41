"""The inbox: a bundle that comes over the serial line, byte by byte, kept until an update takes it.

Owns: one directory that the agent writes and the fetcher takes files out of by renaming them. In it: `.partial`, what
has come of a file so far, `.record`, which file that is and how much of it is there durably, and a whole file by its
name; `.receive` is the human mode's. Rules: one upload at a time, of a file whose length and digest are said before;
bounded; a power cut costs what came since the last checkpoint, a cable pull nothing. Nothing here judges a bundle: that
is the installer's.
"""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from posagent.core import durable
from posagent.core.deadline import Deadline
from posagent.core.errors import FetchError, PosagentError, Refusal
from posagent.core.ports import Clock, Files, Timers

NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
"""What a file in the inbox may be called; with a dot at the beginning are the inbox's own."""
RECEIVING = ".receive"
"""The directory in it where files come by ZMODEM (platform.receiver)."""
KEPT_S = 86400.0
CHECKPOINT_BYTES = 64 << 10
BLOCK_BYTES = 4096
"""What a power cut may take at once of a file that is appended to: only whole ones count as durable."""
SLICE_BYTES = 256 << 10
"""Of a file that is there already, so much is digested at a time: the agent has other things to do."""
NOT_OURS = "The inbox is not as it should be: run `posagent doctor` on the terminal, which says how."
NOT_OURS_ZH = "目录权限不正确：请在终端上运行 posagent doctor 查看。"
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """The file that is going to come."""

    name: str
    size: int
    sha256: str

    @staticmethod
    def of(args: Any) -> Announced:
        """Raises PosagentError `bad_request`."""
        name, size, sha256 = (args.get(key) for key in ("name", "size", "sha256"))
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise PosagentError("bad_request", "a file's name is of at most 64 letters, digits, dots, - and _")
        if type(size) is not int or size < 1:
            raise PosagentError("bad_request", "size must be a number of bytes")
        if not isinstance(sha256, str) or not _DIGEST.fullmatch(sha256):
            raise PosagentError("bad_request", "sha256 must be a digest in hexadecimal")
        return Announced(name=name, size=size, sha256=sha256)


Ended = Callable[[PosagentError | None], None]


class Inbox:
    """`in_use` is the source of the update that is under way, which is left alone; `bytes_max` bounds a file, and
    `keep_free_bytes` stay free beside it."""

    def __init__(
        self,
        *,
        files: Files,
        directory: str,
        timers: Timers,
        clock: Clock,
        bytes_max: int,
        keep_free_bytes: int,
        in_use: Callable[[], str] = lambda: "",
    ) -> None:
        self.files, self.timers = files, timers
        self.directory = directory
        self._clock = clock
        self._bytes_max, self._keep_free_bytes = bytes_max, keep_free_bytes
        self._in_use = in_use
        self._upload: Upload | None = None
        self._tidy = Deadline(timers, clock, self._expire)
        self._expire()

    def begin(self, announced: Announced) -> Upload:
        """Go on with that file, or begin with it; another one that was there is removed. Raises PosagentError."""
        if announced.size > self._bytes_max:
            raise FetchError("bundle_too_large", f"{announced.size} bytes, {self._bytes_max} are allowed")
        if self._upload is not None and self._upload.open and self._upload.announced == announced:
            self._check_space(announced.size - self._upload.offset)
            return self._upload
        try:
            if self._upload is not None:
                self._upload.pause()
            self.files.make_dir(self.directory)
            self._upload = Upload(self, announced, self._kept(announced))
            self._keep(announced, self._upload.offset)
        except OSError as error:
            raise trouble(error) from error
        self._tidy.set(self._clock.monotonic() + KEPT_S)
        self._check_space(announced.size - self._upload.offset)
        return self._upload

    def adopt(self, path: str, name: str, size: int, sha256: str) -> str:
        """A whole file that came another way, into RECEIVING, takes the place of what was here. Returns where it is
        then. Raises PosagentError."""
        announced, place = Announced(name=name, size=size, sha256=sha256), self.path(name)
        try:
            self._check_free(place)
            self._upload = None
            self.files.sync(path)
            self.forget()
            self._keep(announced, size)
            self.files.rename(path, place)
            self.files.sync_dir(self.directory)
        except OSError as error:
            raise trouble(error) from error
        self._tidy.set(self._clock.monotonic() + KEPT_S)
        return place

    def path(self, name: str) -> str:
        return f"{self.directory}/{name}"

    @property
    def partial(self) -> str:
        return self.path(".partial")

    def pause(self) -> None:
        """The line is gone: what has come stays."""
        if self._upload is not None:
            self._upload.pause()

    def note(self, announced: Announced, stored: int) -> None:
        """So much of the file is there durably. Raises OSError."""
        self._keep(announced, stored)

    def forget(self) -> None:
        """Remove all that came, but what an update uses. Raises OSError."""
        kept = (RECEIVING, self._in_use().removeprefix(self.path("")))
        names = [name for name in self.files.names(self.directory) if name not in kept]
        for name in sorted(names, key=lambda name: name != ".record"):  # a record without its file would be believed
            self.files.unlink(self.path(name))
        if names:
            self.files.sync_dir(self.directory)

    def _kept(self, announced: Announced) -> int:
        """How much of the announced file is there; what is there of another one is removed."""
        record = durable.read_json(self.files, self.path(".record"))
        known = isinstance(record, dict) and all(record.get(key) == value for key, value in asdict(announced).items())
        if known and self.files.size(self.path(announced.name)) == announced.size == record.get("stored"):
            return announced.size
        stored = record.get("stored") if known else None
        there = self.files.size(self.partial)
        if type(stored) is int and there is not None and 0 < stored <= there:
            self.files.truncate(self.partial, stored)
            return stored
        self._check_free(self.path(announced.name))
        self.forget()
        return 0

    def _check_free(self, place: str) -> None:
        if place == self._in_use() and self.files.size(place) is not None:
            raise Refusal("busy", "the update that is under way uses a file of that name")

    def _keep(self, announced: Announced, stored: int) -> None:
        record = {**asdict(announced), "stored": stored, "at": round(self._clock.wall())}
        durable.replace_json(self.files, self.path(".record"), record)

    def _check_space(self, needed: int) -> None:
        try:
            room = self.files.free_bytes(self.directory) - self._keep_free_bytes
        except OSError as error:
            raise trouble(error) from error
        if room < needed:
            raise FetchError("spool_full", f"{needed} more bytes are needed, {max(room, 0)} may be used")

    def _expire(self) -> None:
        """Remove what nobody took in a day. By the clock on the wall, because terminals restart daily; one that went
        back begins a new day."""
        try:
            names = self.files.names(self.directory)
            record = durable.read_json(self.files, self.path(".record")) if names else None
            at = record.get("at") if isinstance(record, dict) else None
            age = self._clock.wall() - at if isinstance(at, int | float) else 0.0
            if age >= KEPT_S and self._upload is None:
                self.forget()
            elif names:
                self._upload = None if age >= KEPT_S else self._upload
                self._tidy.set(self._clock.monotonic() + max(KEPT_S - max(age, 0.0), 60.0))
        except OSError:
            pass  # what cannot be read cannot be tidied, and the agent has to go on


class Upload:
    """One file on its way. `offset` bytes are there; `on_end` hears None when it is whole and what it should be."""

    def __init__(self, inbox: Inbox, announced: Announced, offset: int) -> None:
        self.announced = announced
        self.offset = offset
        self.path = inbox.path(announced.name)
        self.on_end: Ended = lambda _: None
        self.open = True
        """Whether bytes are taken."""
        self._inbox, self._files = inbox, inbox.files
        self._stored = offset
        self._digest, self._digested = hashlib.sha256(), 0
        self._planned = False

    def begin(self, on_end: Ended) -> None:
        """Whoever sends is there; what is whole already ends soon."""
        self.on_end = on_end
        self._go_on()

    def write(self, at: int, data: bytes) -> None:
        """The next bytes. Raises PosagentError; what came stays for another try."""
        if not self.open or at != self.offset or at + len(data) > self.announced.size:
            raise PosagentError("bad_request", f"bytes from {at} on, but those from {self.offset} on are to come")
        try:
            self._files.write(self._inbox.partial, at, data)
            self.offset += len(data)
            if self._digested == at:
                self._digest.update(data)
                self._digested = self.offset
            if self.offset - self._stored >= CHECKPOINT_BYTES:
                self._checkpoint()
        except OSError as error:
            self.open = False
            raise trouble(error) from error
        self._go_on()

    def pause(self) -> None:
        """Nobody sends any more."""
        self.on_end = lambda _: None
        if self.open and self.offset < self.announced.size:
            try:
                self._checkpoint()
            except OSError:
                self.open = False  # the next one who sends begins at what is there durably

    def _checkpoint(self) -> None:
        end = self.offset - self.offset % BLOCK_BYTES
        if end > self._stored:
            self._files.sync(self._inbox.partial)
            self._inbox.note(self.announced, end)
            self._stored = end

    def _go_on(self) -> None:
        """Digest what is not digested yet; the end of it is the end."""
        if not self._planned and (self._digested < self.offset or self.offset == self.announced.size):
            self._planned = True
            self._inbox.timers.call_later(0.0, self._slice)

    def _slice(self) -> None:
        self._planned = False
        if not self.open:
            return
        try:
            whole = self._files.size(self.path) == self.announced.size and self._files.size(self._inbox.partial) is None
            if self._digested < self.offset:
                place, length = self.path if whole else self._inbox.partial, self.offset - self._digested
                data = self._files.read(place, self._digested, min(SLICE_BYTES, length))
                if not data:
                    raise OSError(errno.EIO, "shorter than it was", place)
                self._digest.update(data)
                self._digested += len(data)
                self._go_on()
            elif self.offset == self.announced.size:
                self._end(whole)
        except OSError as error:
            self.open = False
            self.on_end(trouble(error))

    def _end(self, whole: bool) -> None:
        self.open = False
        if self._digest.hexdigest() != self.announced.sha256:
            self._inbox.forget()
            self.on_end(FetchError("upload_differs", f"its digest is {self._digest.hexdigest()}"))
            return
        if not whole:
            self._files.sync(self._inbox.partial)
            self._inbox.note(self.announced, self.offset)
            self._files.rename(self._inbox.partial, self.path)
            self._files.sync_dir(self._inbox.directory)
        self.on_end(None)


def trouble(error: OSError) -> FetchError:
    """An error of the data partition as one of ours."""
    said = f"{error.filename or 'inbox'}: {error.strerror or error}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return FetchError("spool_io", said, remedy=NOT_OURS, remedy_zh=NOT_OURS_ZH)
    return FetchError("spool_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "spool_io", said)
