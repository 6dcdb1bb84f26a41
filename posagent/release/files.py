"""Files of the release desk: replaced whole, made durable, and errors of the operating system as coded ones."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from posagent.core.errors import ReleaseError


@contextlib.contextmanager
def coded() -> Iterator[None]:
    """Turns OSError into ReleaseError `release_io`."""
    try:
        yield
    except OSError as error:
        raise ReleaseError("release_io", f"{error.filename or ''}: {error.strerror or error}".lstrip(": ")) from None


def now_s() -> int:
    """Seconds since 1970; SOURCE_DATE_EPOCH where set, so that a build can be repeated bit for bit."""
    fixed = os.environ.get("SOURCE_DATE_EPOCH", "")
    return int(fixed) if fixed.isdecimal() else int(time.time())


def settle(temporary: Path, path: Path, mode: int = 0o644) -> None:
    """Make a finished temporary file durable and give it its name."""
    with temporary.open("rb") as stream:
        os.fchmod(stream.fileno(), mode)
        os.fsync(stream.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def replace(path: Path, data: bytes, mode: int = 0o644) -> None:
    """The file has the old or the new content whatever happens; it is never readable with a wider mode."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
        stream.write(data)
    settle(temporary, path, mode)


def replace_json(path: Path, value: Any, mode: int = 0o644) -> None:
    replace(path, json.dumps(value, sort_keys=True, indent=1).encode() + b"\n", mode)


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Only one process at a time works with the keys in `directory`; the lock goes with the process."""
    with (directory / ".lock").open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
