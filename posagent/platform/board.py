"""The board as root finds it: files and devices, users, who holds a device, the watchdog. For `posagent doctor`.

Rules: looking changes nothing; every text and list is bounded. Files of the kernel's and of systemd's are looked up
with `system`, below one root; what the configuration names is looked up as it is. A watchdog is only opened where a
test of it was asked for: opening starts it.
Source: Linux Documentation/watchdog/watchdog-api.rst.
"""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import pwd
import stat
import struct
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import islice

from posagent.platform import host
from posagent.platform.commands import run

TEXT_BYTES_MAX = 1 << 16
NAMES_MAX = 4096
DIGITS_MAX = 19
COMMAND_S = 20.0
COMMAND_BYTES_MAX = 4 << 20
WDIOC_GETSUPPORT, WDIOC_SETTIMEOUT, WDIOC_GETTIMEOUT = 0x80285700, 0xC0045706, 0x80045707
_INFO = struct.Struct("II32s")
_KINDS: Sequence[tuple[Callable[[int], bool], str]] = (
    (stat.S_ISREG, "file"),
    (stat.S_ISDIR, "directory"),
    (stat.S_ISBLK, "block device"),
    (stat.S_ISCHR, "character device"),
    (stat.S_ISSOCK, "socket"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What the file system says of a name; `number` is MAJOR:MINOR of a device, `mode` has the permission bits."""

    kind: str
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    number: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A process that has a device open."""

    pid: int
    name: str


class OpenWatchdog:
    """A running watchdog that nobody pets; `identity` is the driver's own name. Raises OSError.

    Anything else that is opened by mistake (a disk, a pipe) is closed again without a byte written to it.
    """

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            answer = fcntl.ioctl(self._descriptor, WDIOC_GETSUPPORT, bytes(_INFO.size))
        except OSError:
            os.close(self._descriptor)
            raise OSError(errno.ENOTTY, "is no watchdog", path) from None
        self.identity = str(_INFO.unpack(answer)[2].partition(b"\0")[0].decode("ascii", "replace")) or path

    def set_timeout(self, seconds: int) -> int:
        """What the driver made of it; it may keep a time of its own."""
        for request in (WDIOC_SETTIMEOUT, WDIOC_GETTIMEOUT):
            try:
                return int(struct.unpack("i", fcntl.ioctl(self._descriptor, request, struct.pack("i", seconds)))[0])
            except OSError:
                continue  # a driver that cannot be asked
        return seconds

    def disarm(self) -> None:
        """Stop it, where the driver lets itself be stopped."""
        try:
            os.write(self._descriptor, b"V")
        finally:
            os.close(self._descriptor)


class LinuxBoard:
    """Raises OSError where something is there and cannot be looked at."""

    def __init__(self, root: str = "/") -> None:
        self._root = root.rstrip("/")

    def system(self, path: str) -> str:
        """Where a file of the kernel's or of systemd's is."""
        return self._root + path

    def am_root(self) -> bool:
        return os.geteuid() == 0

    # files

    def about(self, path: str) -> About | None:
        """None where there is no such name. Links are followed."""
        try:
            found = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        kind = next((name for is_kind, name in _KINDS if is_kind(found.st_mode)), "special file")
        device = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}" if kind.endswith("device") else ""
        return About(kind=kind, mode=stat.S_IMODE(found.st_mode), uid=found.st_uid, gid=found.st_gid, number=device)

    def text(self, path: str, bytes_max: int = TEXT_BYTES_MAX) -> str | None:
        """The beginning of a file; None where there is none."""
        try:
            return self.read(path, 0, bytes_max).decode("utf-8", "replace")
        except (FileNotFoundError, NotADirectoryError):
            return None

    def word(self, path: str) -> str:
        """The one word in a file of sysfs; empty where it is missing or cannot be read."""
        try:
            return (self.text(path, 256) or "").strip()
        except OSError:
            return ""  # drivers answer EIO and ENODATA for what they do not know

    def number(self, path: str) -> int | None:
        """The number in a file of sysfs; None where there is none."""
        word = self.word(path)
        return int(word) if word.isascii() and word.isdecimal() and len(word) < DIGITS_MAX else None

    def read(self, path: str, offset: int, length: int) -> bytes:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if offset:
                os.lseek(descriptor, offset, os.SEEK_SET)
            parts = []
            while length > 0 and (data := os.read(descriptor, min(length, 1 << 16))):
                parts.append(data)
                length -= len(data)
            return b"".join(parts)
        finally:
            os.close(descriptor)

    def size(self, path: str) -> int:
        """Bytes of a file or block device."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            return os.lseek(descriptor, 0, os.SEEK_END)
        finally:
            os.close(descriptor)

    def names(self, path: str) -> list[str]:
        """Sorted names in a directory; empty where there is none."""
        try:
            with os.scandir(path) as entries:
                return sorted(entry.name for entry in islice(entries, NAMES_MAX))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def real(self, path: str) -> str:
        return os.path.realpath(path)

    def refuses_exclusive(self, path: str) -> str:
        """Why a block device cannot be had for oneself; empty where it can."""
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
        except OSError as error:
            return error.strerror or str(error)
        return ""

    # users

    def uid_of(self, user: str) -> int | None:
        try:
            return pwd.getpwnam(user).pw_uid
        except KeyError:
            return None

    def groups_of(self, user: str) -> set[int]:
        """Ids of the groups that the user database gives a user."""
        try:
            return set(os.getgrouplist(user, pwd.getpwnam(user).pw_gid))
        except KeyError:
            return set()

    def gid_of(self, group: str) -> int | None:
        try:
            return grp.getgrnam(group).gr_gid
        except KeyError:
            return None

    def members(self, group: str) -> set[str]:
        """The users that the user database puts into a group; none where it does not exist."""
        try:
            found = grp.getgrnam(group)
        except KeyError:
            return set()
        return set(found.gr_mem) | {user.pw_name for user in pwd.getpwall() if user.pw_gid == found.gr_gid}

    def user_name(self, uid: int) -> str:
        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return str(uid)

    # processes

    def holders(self, paths: Collection[str]) -> list[Holder]:
        """Processes that have one of the files open. As root all of them, else one's own."""
        found = []
        for name in self.names(self.system("/proc")):
            if name.isdecimal() and not set(paths).isdisjoint(self._open_files(name)):
                found.append(Holder(pid=int(name), name=self.word(self.system(f"/proc/{name}/comm"))))
        return found

    def _open_files(self, pid: str) -> list[str]:
        here = self.system(f"/proc/{pid}/fd")
        paths = []
        try:
            for name in self.names(here):
                paths.append(os.readlink(f"{here}/{name}"))
        except OSError:
            pass  # it has just ended, or is somebody else's
        return paths

    def run(self, command: Sequence[str]) -> str:
        """What a command says. Raises CommandFailed."""
        said = run(command, timeout_s=COMMAND_S, output_bytes_max=COMMAND_BYTES_MAX)
        return said.decode("utf-8", "replace")

    def open_watchdog(self, path: str) -> OpenWatchdog:
        """Start the watchdog. Raises OSError."""
        return OpenWatchdog(path)

    def pause(self, seconds: float) -> None:
        host.pause(seconds)

    def sync(self) -> None:
        """Everything written is durable: the board is about to be reset."""
        os.sync()
