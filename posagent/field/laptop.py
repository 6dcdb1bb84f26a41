"""What differs between laptops: where ssh-keygen is, how it is kept from asking, what ports are called, raw keys.

Owns: every look at the operating system's name in this room. Linux is what the tests run on; the branches for macOS and
Windows are tested for what they choose, not on such a machine.
"""

from __future__ import annotations

import fnmatch
import glob
import locale
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from posagent.core.errors import PosagentError

WINDOWS = "win32"
MAC = "darwin"
HANG_UP: int | None = getattr(signal, "SIGHUP", None)
"""What a process is told when its window is closed; Windows ends it instead."""


def ssh_keygen(
    system: str = sys.platform,
    environment: Mapping[str, str] = os.environ,
    find: Callable[[str], str | None] = shutil.which,
    exists: Callable[[str], bool] = os.path.exists,
) -> str:
    """Path of ssh-keygen. Windows has it as an optional feature, in a directory that need not be on PATH.
    Raises PosagentError `engineer_key`."""
    found = find("ssh-keygen")
    if found:
        return found
    if system == WINDOWS:
        path = environment.get("SYSTEMROOT", r"C:\Windows") + r"\System32\OpenSSH\ssh-keygen.exe"
        if exists(path):
            return path
        raise PosagentError("engineer_key", "ssh-keygen is missing: install Windows' optional feature OpenSSH Client")
    raise PosagentError("engineer_key", "ssh-keygen is missing: install OpenSSH")


def unattended(
    system: str = sys.platform, environment: Mapping[str, str] = os.environ
) -> tuple[dict[str, str], dict[str, Any]]:
    """Environment and further arguments of Popen for a command that must not ask for anything in the middle of a live
    screen: without a terminal of its own it fails instead, and says so."""
    quiet = {**environment, "SSH_ASKPASS_REQUIRE": "never"}
    if system == WINDOWS:
        return quiet, {"creationflags": 0x08000000}  # CREATE_NO_WINDOW
    return quiet, {"start_new_session": True}


def language(
    environment: Mapping[str, str] = os.environ, named: Callable[[], tuple[str | None, ...]] = locale.getlocale
) -> str:
    """The user's, in POSIX's words. Windows does not set LANG, and calls it "Chinese (Simplified)_China"."""
    told = environment.get("LC_ALL") or environment.get("LANG") or named()[0] or ""
    return "zh" if told.startswith("Chinese") else told


def ports_named(
    patterns: Iterable[str],
    known: Iterable[str],
    system: str = sys.platform,
    look: Callable[[str], list[str]] = glob.glob,
) -> list[str]:
    """The ports that a user's words mean now: names as they are, `*` and `?` for those that are there. On Windows ports
    are no files, so that only those can be found that it lists, whatever their letters' case."""
    known = list(known)
    found: list[str] = []
    for pattern in patterns:
        if not glob.has_magic(pattern):
            found += [pattern] if system == WINDOWS or os.path.exists(pattern) else []
        elif system == WINDOWS:
            found += [name for name in known if fnmatch.fnmatchcase(name.upper(), pattern.upper())]
        else:
            found += sorted(look(pattern))
    return list(dict.fromkeys(found))


def usual(name: str, usb: bool, system: str = sys.platform) -> bool:
    """Whether a listed port is one that a cable to a terminal is likely at. macOS lists each port twice (`tty.` waits
    for a carrier, `cu.` does not) and its own Bluetooth ports as well."""
    if system == MAC:
        return usb and not name.startswith("/dev/tty.")
    return usb


def replace(path: Path, data: bytes, system: str = sys.platform) -> None:
    """The file has the old or the new content whatever happens. Raises PosagentError `laptop_io`."""
    temporary = path.with_name(path.name + ".new")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        if system != WINDOWS:  # which cannot open a directory
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        raise PosagentError("laptop_io", f"{path}: {error.strerror or error}") from None
