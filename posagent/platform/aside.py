"""The file of an SQLite database that another user owns, and what stands beside it: held still, or copied aside.

Rules: SQLite obeys what stands beside a database. A journal may name any file to be removed, and a log may be a second
name of one that is only root's; so while there is either, root's SQLite opens nothing there, but a copy in a directory
of root's own. A journal that names a file is refused there too. What is copied was read twice and was the same.
Everything here raises OSError, and PosagentError `data_unreadable` for what the owner of data has no need to do.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from posagent.core.errors import PosagentError
from posagent.platform.host import LinuxClock, pause
from posagent.platform.storage import FileSource, directory_inside, open_inside

BUSY_S = 10.0
"""As long as another transaction is waited for."""
PAUSE_S = 0.05
ATTEMPTS = 3
SCRATCH = "scratch-"
"""How the directory's name begins: what is left of one is swept like all scratch."""
PIECE_BYTES = 1 << 18
_JOURNAL, _LOG, _INDEX = "-journal", "-wal", "-shm"
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
_NAME_BEHIND = 16
"""At least that many bytes end a journal that names another: length, checksum, and the mark again."""
_LOCKS_AT = 0x40000000
_PENDING, _SHARED, _ALL = (_LOCKS_AT, 1), (_LOCKS_AT + 2, 510), (_LOCKS_AT, 512)
"""Where SQLite's processes lock a database, and how many bytes."""
_LOCK = "hhqqi4x"
"""struct flock: kind, whence, start, length, process."""


def source(root: str, path: str) -> FileSource:
    """The file, which has no other name: another could be in a place that its owner does not get into."""
    found = open_inside(root, path)
    if found.links > 1:
        found.close()
        raise PosagentError("data_unreadable", f"{path} has another name (a hard link)")
    return found


def is_alone(path: str) -> bool:
    """Whether there is no journal and no log."""
    return not any(os.path.lexists(path + end) for end in (_JOURNAL, _LOG))


@contextmanager
def held(root: str, path: str) -> Iterator[FileSource]:
    """While no other process changes it, unless it is in WAL mode: the lock of SQLite's readers, on the opened file."""
    found = source(root, path)
    try:
        _locked(found, path, fcntl.F_RDLCK, _PENDING)  # a writer who waits for readers to end goes first
        _locked(found, path, fcntl.F_RDLCK, _SHARED)
        _lock(found.fileno(), fcntl.F_UNLCK, _PENDING)
        yield found
    finally:
        found.close()


@contextmanager
def copied(root: str, path: str) -> Iterator[str]:
    """A copy, with what is beside it, where only root gets in; SQLite may do with it what it likes."""
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=root) as place:
        target = f"{place}/copy"
        for _ in range(ATTEMPTS):
            first = [_read(root, path + end, target + end) for end in ("", _JOURNAL, _LOG)]
            if first == [_read(root, path + end) for end in ("", _JOURNAL, _LOG)]:
                break
        else:
            raise OSError(errno.EBUSY, "it was changed while it was read", path)
        _check_journal(target + _JOURNAL, path)
        yield target


@contextmanager
def taken(root: str, path: str) -> Iterator[str]:
    """As `copied`, while nobody has a transaction on it, and no log: nobody begins one either."""
    found = source(root, path)
    try:
        writable = os.open(f"/proc/self/fd/{found.fileno()}", os.O_RDWR | os.O_CLOEXEC)
    finally:
        found.close()
    with os.fdopen(writable, "rb"):
        if not _lock(writable, fcntl.F_WRLCK, _ALL):
            raise OSError(errno.EBUSY, "database is locked: somebody has it open", path)
        with copied(root, path) as copy:
            yield copy


def put_back(root: str, copy: str, path: str) -> None:
    """The copy, which stands alone, in place of the file and what is beside it. Until what is beside it is gone, doing
    what that says leaves the copy as it is: so a power cut at any moment loses nothing."""
    name = path.rpartition("/")[2]
    with _directory(root, path) as way, open(copy, "rb") as file:
        old = os.stat(name, dir_fd=way, follow_symlinks=False)
        os.fchown(file.fileno(), old.st_uid, old.st_gid)
        os.fchmod(file.fileno(), old.st_mode & 0o777)
        os.fsync(file.fileno())
        os.rename(copy, name, dst_dir_fd=way)
        os.fsync(way)
        for end in (_JOURNAL, _LOG, _INDEX):
            try:
                os.unlink(name + end, dir_fd=way)
            except FileNotFoundError:
                continue
        os.fsync(way)


@contextmanager
def _directory(root: str, path: str) -> Iterator[int]:
    above = directory_inside(root, path)
    try:
        way = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=above)
    finally:
        os.close(above)
    try:
        yield way
    finally:
        os.close(way)


def _read(root: str, path: str, target: str = "") -> str:
    """Digest of the file, which is written to `target` on the way; nothing where there is none."""
    if target:
        _remove(target)
    try:
        found = source(root, path)
    except FileNotFoundError:
        return ""
    digest, at = hashlib.sha256(), 0
    with open(target or os.devnull, "wb") as file:
        try:
            while piece := found.pread(at, PIECE_BYTES):
                digest.update(piece)
                file.write(piece)
                at += len(piece)
        finally:
            found.close()
    return digest.hexdigest()


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _check_journal(journal: str, path: str) -> None:
    try:
        with open(journal, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _NAME_BEHIND))
            end = file.read()
    except FileNotFoundError:
        return
    if len(end) == _NAME_BEHIND and end.endswith(_JOURNAL_MAGIC):
        raise PosagentError("data_unreadable", f"{path}{_JOURNAL} is of a transaction over several files")


def _locked(found: FileSource, path: str, kind: int, place: tuple[int, int]) -> None:
    clock = LinuxClock()
    until = clock.monotonic() + BUSY_S
    while not _lock(found.fileno(), kind, place):
        if clock.monotonic() >= until:
            raise OSError(errno.EBUSY, "database is locked", path)
        pause(PAUSE_S)


def _lock(descriptor: int, kind: int, place: tuple[int, int]) -> bool:
    """Of the opened file, so that no other descriptor that we close takes it away."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack(_LOCK, kind, os.SEEK_SET, *place, 0))
    except (BlockingIOError, PermissionError):
        return False
    return True
