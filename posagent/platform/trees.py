"""Directories of the merchant's data on Linux, which other users own parts of, and the name they are published by.

Rules: below the root directory no link is followed on the way to a file, because the owner of the data could put one
there between two looks; a file with a second name, or a pipe in its place, is not read. Everything here raises OSError
as the operating system does, and PosagentError `data_unreadable` for those two.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from posagent.core.durable import parent
from posagent.core.errors import PosagentError
from posagent.platform.storage import DIR_MODE, LinuxFiles, pread

CLOSED, PASSABLE, OWNERS, OWNERS_FILE = 0o700, 0o711, 0o700, 0o600
_WAY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BROUGHT_UP = ".removed"
_LOOK = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


class LinuxTrees(LinuxFiles):
    """core.ports.Trees below `root`, for data of the user `owner`; "" is whoever runs this. Raises KeyError where there
    is none of that name."""

    def __init__(self, root: str, owner: str = "") -> None:
        super().__init__()
        self._root = root
        self._user = pwd.getpwnam(owner) if owner else None

    # core.ports.Files, with the way to each file held open

    def size(self, path: str) -> int | None:
        try:
            with self._held(path) as held:
                return super().size(held)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        with self._held(path) as held, _opened(held) as descriptor:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise PosagentError("data_unreadable", f"{path} is no file")
            if found.st_nlink > 1:
                raise PosagentError("data_unreadable", f"{path} has another name (a hard link)")
            return pread(descriptor, offset, max(0, found.st_size - offset) if length is None else length)

    def write(self, path: str, offset: int, data: bytes) -> None:
        with self._held(path) as held:
            super().write(held, offset, data)

    def truncate(self, path: str, size: int) -> None:
        with self._held(path) as held:
            super().truncate(held, size)

    def sync(self, path: str) -> None:
        """Owner and mode too, which fdatasync leaves out."""
        with self._held(path) as held, _opened(held) as descriptor:
            os.fsync(descriptor)

    def sync_dir(self, path: str) -> None:
        self.sync(path)

    def rename(self, source: str, target: str) -> None:
        with self._held(source) as held, self._held(target) as there:
            super().rename(held, there)

    def unlink(self, path: str) -> None:
        try:
            with self._held(path) as held:
                super().unlink(held)
        except (FileNotFoundError, NotADirectoryError):
            pass  # gone is what was asked for

    def names(self, path: str) -> list[str]:
        return [name for name, _ in self.entries(path)]

    def make_dir(self, path: str) -> None:
        if path == self._root or not path.startswith(f"{self._root}/"):
            super().make_dir(path)
            return
        if self.size(path) is None:
            self.make_dir(parent(path))
            with self._held(path) as held:
                os.mkdir(held, DIR_MODE)
            self.sync_dir(parent(path))

    # core.ports.Trees

    def entries(self, path: str) -> list[tuple[str, str]]:
        try:
            with self._held(path) as held:
                descriptor = os.open(held, _LOOK | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return []
        try:
            with os.scandir(descriptor) as found:
                return sorted((entry.name, _kind(entry)) for entry in found)
        finally:
            os.close(descriptor)

    def remove_tree(self, path: str) -> None:
        with self._held(path) as held:
            try:
                top = os.open(held, _LOOK | os.O_DIRECTORY)
            except FileNotFoundError:
                return
            try:
                _empty(top)
            finally:
                os.close(top)
            os.rmdir(held)
        self.sync_dir(parent(path))

    def like(self, source: str, target: str) -> None:
        with self._held(source) as old, _opened(old) as descriptor:
            found = os.fstat(descriptor)
        with self._held(target) as new, _opened(new) as descriptor:
            os.fchown(descriptor, found.st_uid, found.st_gid)
            os.fchmod(descriptor, found.st_mode & 0o777)
            os.utime(descriptor, ns=(found.st_atime_ns, found.st_mtime_ns))

    def adopt(self, path: str) -> None:
        with self._held(path) as held, _opened(held) as descriptor:
            if self._user is not None:
                os.fchown(descriptor, self._user.pw_uid, self._user.pw_gid)
            is_dir = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            os.fchmod(descriptor, OWNERS if is_dir else OWNERS_FILE)

    def protect(self, path: str, *, passable: bool) -> None:
        with self._held(path) as held, _opened(held) as descriptor:
            os.fchmod(descriptor, PASSABLE if passable else CLOSED)

    @contextmanager
    def _held(self, path: str) -> Iterator[str]:
        """A name of the file that leads through no directory that somebody could exchange meanwhile."""
        inside = path.removeprefix(f"{self._root}/")
        if inside == path:
            yield path
            return
        *way, name = inside.split("/")
        if {"", ".", ".."} & {*way, name}:
            raise PermissionError(1, "not a plain path", path)
        here = os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in way:
                inner = os.open(part, _WAY, dir_fd=here)
                os.close(here)
                here = inner
            yield f"/proc/self/fd/{here}/{name}"
        except OSError as error:
            error.filename = path
            raise
        finally:
            os.close(here)


@contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = os.open(path, _LOOK)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _empty(top: int) -> None:
    """Remove all in the directory, however deep: a directory in one of its directories is brought up first."""
    numbers = count(1)
    while names := os.listdir(top):
        for name in names:
            if _is_unlinked(name, top):
                continue
            inner = os.open(name, _LOOK | os.O_DIRECTORY, dir_fd=top)
            try:
                for one in os.listdir(inner):
                    if not _is_unlinked(one, inner):
                        _bring_up(one, inner, top, numbers)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=top)


def _is_unlinked(name: str, directory: int) -> bool:
    """False of a directory."""
    try:
        os.unlink(name, dir_fd=directory)
    except IsADirectoryError:
        return False
    return True


def _bring_up(name: str, inner: int, top: int, numbers: Iterator[int]) -> None:
    for number in numbers:
        try:
            os.rename(name, f"{number}{_BROUGHT_UP}", src_dir_fd=inner, dst_dir_fd=top)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
            continue  # something of that name is there
        return


def _kind(entry: os.DirEntry[str]) -> str:
    """As the directory says: it may be gone already, and is "other" then where that says nothing."""
    if entry.is_symlink():
        return "link"
    if entry.is_dir(follow_symlinks=False):
        return "dir"
    return "file" if entry.is_file(follow_symlinks=False) else "other"


TRIAL = ".trial"
"""Ending of the name of the file beside a link that leads to something on trial."""


class LinkPublisher:
    """core.ports.Publisher: a symbolic link, which must be on tmpfs, and a file beside it during a trial."""

    def __init__(self, link: str) -> None:
        self._link, self._trial = Path(link), Path(link + TRIAL)

    def published(self) -> str:
        try:
            return str(self._link.readlink())
        except FileNotFoundError:
            return ""

    def publish(self, path: str, *, trial: bool = False) -> None:
        self._link.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if trial:
            self._trial.touch(mode=0o644)
        if self.published() != path:
            new = self._link.with_name(self._link.name + ".new")
            new.unlink(missing_ok=True)
            new.symlink_to(path)
            new.replace(self._link)
        if not trial:
            self._trial.unlink(missing_ok=True)

    def withhold(self) -> None:
        self._link.unlink(missing_ok=True)
