"""Linux's crash store: what the kernel kept of how it ended, where pstore shows it and where systemd-pstore moves it.

Rules: every list and every read is bounded; nothing is followed, nothing blocks. A record is known by its content.
Sources: Linux Documentation/ABI/testing/pstore, systemd-pstore.service(8).
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from posagent.platform.storage import FileSource

RECORD_BYTES_READ = 1 << 14  # at either end of a record
RECORDS_MAX = 512
NAMES_MAX = 1024
DEPTH_MAX = 2  # systemd-pstore makes a directory for each crash; for ERST another one inside
NAME_ONLY = "*name:"
"""Begins the key of a record of which only the name is known."""

SAFE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PART = re.compile(rb"Part(\d{1,6})")


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashRecord:
    """One file of the crash store; `tail` is empty where it cannot be read as text."""

    key: str
    name_key: str
    panic: bool = False
    console: bool = False
    part: int = 0
    written: int = 0
    tail: bytes = b""

    @property
    def age(self) -> tuple[int, int]:
        """The kernel writes the end of its log first, as part 1."""
        return -self.part, self.written


class CrashStore:
    """One look at all places where crash records are kept: where the kernel shows them first, then where systemd-pstore
    moves them to, so that none slips past us on its way."""

    def __init__(self, directories: Sequence[str]) -> None:
        self.records: list[CrashRecord] = []
        self.whole = True
        found = [self._enter(directory, None, DEPTH_MAX) for directory in directories]
        self.empty = found[:1] == [0]
        """The kernel has a crash store and nothing is in it."""

    def _enter(self, path: str, above: int | None, depth: int) -> int | None:
        """Add the records in this directory. Number of its names, None where it is no directory."""
        try:
            link = 0 if above is None else os.O_NOFOLLOW
            here = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | link, dir_fd=above)
        except OSError as error:
            self.whole &= error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
            return None
        try:
            with os.scandir(here) as entries:
                names = [entry.name for entry in islice(entries, NAMES_MAX + 1)]
            for name in sorted(names):
                self._take(name, here, depth)
        except OSError:
            self.whole = False
            return None
        finally:
            os.close(here)
        self.whole &= len(names) <= NAMES_MAX
        return len(names)

    def _take(self, name: str, here: int, depth: int) -> None:
        if not name.startswith(("dmesg-", "console-ramoops")):
            if depth > 0:
                self._enter(name, here, depth - 1)
        elif len(self.records) >= RECORDS_MAX:
            self.whole = False
        else:
            self.records += _records(name, here)


def _records(name: str, here: int) -> list[CrashRecord]:
    """The record of that name; none where it is something else than a file, or has been moved away just now."""
    name_key = NAME_ONLY + _digest(os.fsencode(name))
    try:
        descriptor = os.open(name, SAFE_FLAGS, dir_fd=here)
        try:
            about, source = os.fstat(descriptor), FileSource(descriptor)
            head = source.pread(0, RECORD_BYTES_READ)
            tail = source.pread(max(0, source.size - RECORD_BYTES_READ), RECORD_BYTES_READ)
        finally:
            os.close(descriptor)
    except OSError as error:
        gone = error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ESPIPE)
        return [] if gone else [CrashRecord(key=name_key, name_key=name_key)]
    console, packed = not name.startswith("dmesg-"), name.endswith(".z")
    signs = any(sign in text for sign in (b"Panic#", b"Kernel panic") for text in (head, tail))
    part = _PART.search(head[:64])
    record = CrashRecord(
        key=_digest(b"%d " % source.size + head + tail),
        name_key=name_key,
        panic=not console and (packed or signs),
        console=console,
        part=int(part[1]) if part else 0,
        written=about.st_mtime_ns,
        tail=b"" if packed else tail,
    )
    return [record]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:24]
