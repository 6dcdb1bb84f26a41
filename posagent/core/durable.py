"""How to replace a small file so that a power cut leaves the old or the new content, never a mixture."""

from __future__ import annotations

import json
from typing import Any

from posagent.core.ports import Files


def parent(path: str) -> str:
    """The directory part of an absolute path."""
    return path.rpartition("/")[0] or "/"


def replace(files: Files, path: str, data: bytes) -> None:
    """Write `data` beside the file, make it durable, then rename it over the file and make the name durable.

    The temporary name is fixed (`PATH.new`), so an interrupted attempt is overwritten by the next: nothing leaks.
    """
    temporary = path + ".new"
    files.unlink(temporary)
    files.write(temporary, 0, data)
    files.sync(temporary)
    files.rename(temporary, path)
    files.sync_dir(parent(path))


def replace_json(files: Files, path: str, value: Any) -> None:
    replace(files, path, json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def read_json(files: Files, path: str, limit: int = 1 << 20) -> Any:
    """The file's JSON value, or None where it is missing, too large or not JSON."""
    size = files.size(path)
    if size is None or size > limit:
        return None
    try:
        return json.loads(files.read(path, 0, size))
    except (ValueError, RecursionError):
        return None


def remove(files: Files, path: str) -> None:
    """Remove the file durably; a missing one is no error."""
    if files.size(path) is not None:
        files.unlink(path)
        files.sync_dir(parent(path))
