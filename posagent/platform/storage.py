"""Files of the data partition on Linux: writes that reach the medium, one opened bundle, one lock.

Rules: the last part of a path is never followed if it is a link, because other users own directories that root's
worker reads. Everything here raises OSError as the operating system does, except `lock`.
"""

from __future__ import annotations

import fcntl
import os
import stat

from posagent.core.errors import PosagentError

FILE_MODE = 0o640
SHARED_FILE_MODE = 0o660
"""Of files that another worker goes on with: the inbox's become the fetcher's."""
DIR_MODE = 0o750
_SAFE = os.O_NOFOLLOW | os.O_CLOEXEC


class LinuxFiles:
    """core.ports.Files over the operating system. A `mode` that gives more than FILE_MODE holds whatever the umask."""

    _mode = FILE_MODE

    def __init__(self, mode: int = FILE_MODE) -> None:
        self._mode = mode

    def size(self, path: str) -> int | None:
        try:
            return os.stat(path, follow_symlinks=False).st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        descriptor = os.open(path, os.O_RDONLY | _SAFE)
        try:
            if length is None:
                length = max(0, os.fstat(descriptor).st_size - offset)
            return pread(descriptor, offset, length)
        finally:
            os.close(descriptor)

    def write(self, path: str, offset: int, data: bytes) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | _SAFE, self._mode)
        try:
            if self._mode & ~FILE_MODE and offset == 0:
                os.fchmod(descriptor, self._mode)
            view = memoryview(data)
            while view:
                written = os.pwrite(descriptor, view, offset)
                view, offset = view[written:], offset + written
        finally:
            os.close(descriptor)

    def truncate(self, path: str, size: int) -> None:
        descriptor = os.open(path, os.O_WRONLY | _SAFE)
        try:
            os.ftruncate(descriptor, size)
        finally:
            os.close(descriptor)

    def sync(self, path: str) -> None:
        """fdatasync also writes the size, which is all of a file's metadata that reading it back needs."""
        descriptor = os.open(path, os.O_RDONLY | _SAFE)
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)

    def unlink(self, path: str) -> None:
        try:
            os.unlink(path)
        except (FileNotFoundError, NotADirectoryError):
            pass  # gone is what was asked for

    def sync_dir(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def names(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(path))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def make_dir(self, path: str) -> None:
        if os.path.isdir(path):
            return
        above = os.path.dirname(path)
        self.make_dir(above)
        try:
            os.mkdir(path, DIR_MODE)
        except FileExistsError:
            if not os.path.isdir(path):
                raise
        self.sync_dir(above)

    def free_bytes(self, path: str) -> int:
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize


class FileSource:
    """core.ports.ByteSource over one regular file, opened once: what happens to its name later does not matter."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        found = os.fstat(descriptor)
        self.size = found.st_size
        self.mtime_ns = found.st_mtime_ns
        self.identity = (found.st_dev, found.st_ino)
        self.links = found.st_nlink

    def fileno(self) -> int:
        return self._descriptor

    def pread(self, offset: int, length: int) -> bytes:
        return pread(self._descriptor, offset, min(length, max(0, self.size - offset)))

    def close(self) -> None:
        os.close(self._descriptor)


def open_inside(directory: str, path: str) -> FileSource:
    """Open the regular file `path` for reading if it lies inside `directory`; no link on the way in is followed.

    Raises OSError: PermissionError where it lies elsewhere or is something else than a file.
    """
    here = directory_inside(directory, path)
    try:
        # O_NONBLOCK: a pipe put there in the file's place must not make us wait
        descriptor = os.open(path.rpartition("/")[2], os.O_RDONLY | os.O_NONBLOCK | _SAFE, dir_fd=here)
    finally:
        os.close(here)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise PermissionError(1, "not a regular file", path)
    return FileSource(descriptor)


def directory_inside(directory: str, path: str) -> int:
    """Descriptor of the directory that `path` is in, as open_inside finds it."""
    parts = path.removeprefix(directory.rstrip("/") + "/").split("/")
    if not path.startswith(directory.rstrip("/") + "/") or {"", ".", ".."} & set(parts):
        raise PermissionError(1, f"not inside {directory}", path)
    here = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in parts[:-1]:
        try:
            inner = os.open(part, os.O_PATH | os.O_DIRECTORY | _SAFE, dir_fd=here)
        finally:
            os.close(here)
        here = inner
    return here


class FileLock:
    """core.ports.Lock: held until released or until the process ends, however it ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def lock(path: str) -> FileLock:
    """Take the lock file at `path`. Raises PosagentError `already_running` where somebody holds it, `journal_io`."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _SAFE, FILE_MODE)
    except OSError as error:
        raise PosagentError("journal_io", f"{path}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise PosagentError("already_running", f"{path} is held by another process") from None
    return FileLock(descriptor)


def pread(descriptor: int, offset: int, length: int) -> bytes:
    """Up to `length` bytes; the kernel may give less at a time (at most 2 GiB)."""
    data = os.pread(descriptor, length, offset)
    if len(data) == length or not data:
        return data
    parts = [data]
    while length - sum(map(len, parts)) > 0 and parts[-1]:
        done = sum(map(len, parts))
        parts.append(os.pread(descriptor, length - done, offset + done))
    return b"".join(parts)
