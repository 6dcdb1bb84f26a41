"""Copies a data directory, says with one digest what is in it, and makes a copy durable.

Rules: files and directories are copied with owners and modes, databases through the database's own copy, because their
file alone may be half of them; what belongs to a database (write-ahead log, journal) is part of it. A link is refused:
it may lead out of the data. Sockets and pipes are nothing to keep. One file, or a piece of a large one, between two
steps of a generator. The digest is of contents and names, so that it is the same for a copy.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterator

from posagent.core.durable import parent
from posagent.core.errors import PosagentError
from posagent.core.ports import Databases, Trees

PIECE_BYTES = 1 << 20
DEPTH_MAX = 32
ENTRIES_MAX = 100_000
COMPANIONS = ("-wal", "-shm", "-journal")
"""What SQLite puts beside a database, by the end of its name."""

Steps = Generator[str, None, str]
"""Yields the path that it is at, ends with a digest."""


def walk(trees: Trees, databases: Databases, top: str) -> Iterator[tuple[str, str]]:
    """Sorted (path inside `top`, "file" | "dir" | "database"), a directory before what is in it. Raises PosagentError
    `data_unreadable`, OSError."""
    count = 0
    waiting = [("", 0)]
    while waiting:
        here, depth = waiting.pop()
        if here:
            yield here, "dir"
        entries = [(f"{here}/{name}" if here else name, kind) for name, kind in trees.entries(_in(top, here))]
        count += len(entries)
        if depth > DEPTH_MAX or count > ENTRIES_MAX:
            raise PosagentError("data_unreadable", f"{here or top}: too many files, or too deep")
        for path, kind in entries:
            if kind == "link":
                raise PosagentError("data_unreadable", f"{path} is a link: data is files and directories")
        found = {path for path, kind in entries if kind == "file" and _is_database(databases, _in(top, path))}
        beside = {path + end for path in found for end in COMPANIONS}
        for path, kind in entries:
            if kind == "file" and path not in beside:
                yield path, "database" if path in found else "file"
        waiting += [(path, depth + 1) for path, kind in reversed(entries) if kind == "dir"]


def size_of(trees: Trees, databases: Databases, top: str) -> int:
    """Bytes in its files."""
    return sum(trees.size(_in(top, path)) or 0 for path, kind in walk(trees, databases, top) if kind != "dir")


def aside_of(trees: Trees, databases: Databases, top: str) -> int:
    """Bytes that reading takes besides: a database that is open, or was interrupted, is copied first."""
    paths = [_in(top, path) for path, kind in walk(trees, databases, top) if kind == "database"]
    beside = {path: sum(trees.size(path + end) or 0 for end in COMPANIONS) for path in paths}
    return max(((trees.size(path) or 0) + size for path, size in beside.items() if size), default=0)


def digest(trees: Trees, databases: Databases, top: str) -> Steps:
    """Of everything in the directory."""
    whole = hashlib.sha256()
    for path, kind in walk(trees, databases, top):
        what = ""
        if kind == "database":
            what = databases.canonical(_in(top, path))[1]
        elif kind == "file":
            one = hashlib.sha256()
            for piece in _pieces(trees, _in(top, path)):
                one.update(piece)
                yield path
            what = one.hexdigest()
        whole.update(_line(kind, path, what))
        yield path
    return whole.hexdigest()


def copy(trees: Trees, databases: Databases, source: str, target: str) -> Steps:
    """Everything in `source` into the new directory `target`; the digest is that of `source` as it was read. Nothing of
    it is durable before `settle`."""
    whole = hashlib.sha256()
    directories = [""]
    for path, kind in walk(trees, databases, source):
        old, new = _in(source, path), _in(target, path)
        what = ""
        if kind == "dir":
            trees.make_dir(new)
            directories.append(path)
        elif kind == "database":
            databases.copy(old, new)
            what = databases.canonical(new)[1]
        else:
            what = yield from _copy_file(trees, path, old, new)
        if kind != "dir":
            trees.like(old, new)
        whole.update(_line(kind, path, what))
        yield path
    for path in reversed(directories):  # a directory's mode may forbid to make anything in it
        trees.like(_in(source, path), _in(target, path))
    return whole.hexdigest()


def settle(trees: Trees, top: str) -> Iterator[str]:
    """Make everything in the directory durable, whoever wrote it, its name included."""
    directories = [top]
    for here in directories:
        for name, kind in trees.entries(here):
            path = f"{here}/{name}"
            if kind == "dir":
                directories.append(path)
            elif kind == "file":
                trees.sync(path)
                yield path
    for here in reversed(directories):
        trees.sync_dir(here)
        yield here
    trees.sync_dir(parent(top))


def _is_database(databases: Databases, path: str) -> bool:
    """A journal may have gone since the directory was looked at."""
    try:
        return databases.is_database(path)
    except FileNotFoundError:
        return False


def _copy_file(trees: Trees, path: str, old: str, new: str) -> Steps:
    one, at = hashlib.sha256(), 0
    trees.write(new, 0, b"")
    for piece in _pieces(trees, old):
        trees.write(new, at, piece)
        one.update(piece)
        at += len(piece)
        yield path
    return one.hexdigest()


def _pieces(trees: Trees, path: str) -> Iterator[bytes]:
    at = 0
    while piece := trees.read(path, at, PIECE_BYTES):
        yield piece
        at += len(piece)


def _line(kind: str, path: str, what: str) -> bytes:
    return f"{json.dumps([kind, path, what])}\n".encode()


def _in(top: str, path: str) -> str:
    return f"{top}/{path}" if path else top
