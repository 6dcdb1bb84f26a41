"""Files of this terminal: on a stick that may be pulled out, or in the inbox, where the agent puts what came over the
serial line."""

from __future__ import annotations

from collections.abc import Iterator

from posagent.config import FetchConfig
from posagent.core import durable
from posagent.core.errors import FetchError
from posagent.core.ports import ByteSource


def in_inbox(config: FetchConfig, path: str) -> bool:
    """Whether that is a whole file in the inbox, to be moved instead of copied. Names with a dot before them are those
    of files that are still to come."""
    name = path.rpartition("/")[2]
    return durable.parent(path) == config.inbox_dir and bool(name) and not name.startswith(".")


def pieces(source: ByteSource, offset: int, end: int, path: str, length_max: int) -> Iterator[bytes]:
    """The bytes between two places of an opened file. Raises FetchError."""
    try:
        while data := source.pread(offset, min(length_max, end - offset)):
            yield data
            offset += len(data)
    except OSError as error:
        raise FetchError("fetch_network", f"{path}: {error.strerror or error}") from error
