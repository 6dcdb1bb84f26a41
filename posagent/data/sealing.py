"""What is in a backup: the merchant's files and databases as frames, and frames as files and databases again.

    E {"path", "kind"}                       a directory, a file or a database begins
    D bytes                                  of it, in pieces
    T {"bytes", "sha256", "rows"}            it ends; the digest of a database is of what is in it, not of its pages
    Z {"files", "rows", "cards", "digest"}   all of them; the digest is over their E and T

Rules: everything that goes in passes the scanner, a database twice: its rows, which have names, and its pages, which
may still have what was deleted. What comes out is looked at on the medium, not on its way there. Restored files belong
to the owner of the data.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

from posagent.core.durable import parent
from posagent.core.errors import PosagentError
from posagent.core.ports import Databases, Message, Trees
from posagent.data.container import FRAME_BYTES_MAX, Writer, corrupt
from posagent.data.scanner import OVERLAP, Scanner

PIECE_BYTES = FRAME_BYTES_MAX
PIECES_A_STEP = 4
ROWS_A_STEP, CELL_BYTES_A_STEP = 500, 1 << 20
WRITTEN = ("-wal", "-journal")
"""What of a database is in none of its pages yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What is in a backup: the same for what was sealed and for what came out of it."""

    files: int
    rows: int
    cards: int
    digest: str


class _Tally:
    """Contents, while they are read or written."""

    def __init__(self) -> None:
        self.files, self.rows, self._digest = 0, 0, hashlib.sha256()

    def add(self, *texts: bytes, rows: int) -> None:
        self.files, self.rows = self.files + 1, self.rows + rows
        for text in texts:
            self._digest.update(text + b"\n")

    def contents(self, cards: int) -> Contents:
        return Contents(files=self.files, rows=self.rows, cards=cards, digest=self._digest.hexdigest())


class Sealing:
    """One attempt. Raises PosagentError `data_unreadable`, `data_secret_found`; OSError where it cannot write."""

    def __init__(self, trees: Trees, databases: Databases, data_dir: str, scratch: str, total: int) -> None:
        self._trees, self._databases, self._dir, self._total = trees, databases, data_dir, total
        self._copy = f"{scratch}/copy"
        self._done = 0
        self._scanner = Scanner()
        self._prints: dict[str, str] = {}
        """Of each path, what its bytes were when it was read."""

    def run(self, items: list[tuple[str, str]], writer: Writer) -> Generator[Message, None, Contents]:
        tally = _Tally()
        for path, kind in items:
            begin = _json({"path": path, "kind": kind})
            writer.frame(b"E", begin)
            with reading(path, self._dir, self._copy):
                size, digest, rows = yield from self._item(path, kind, writer)
            end = _json({"bytes": size, "sha256": digest, "rows": rows})
            writer.frame(b"T", end)
            tally.add(begin, end, rows=rows)
        contents = tally.contents(self._scanner.cards)
        writer.frame(b"Z", _json(dataclasses.asdict(contents)))
        writer.end()
        return contents

    def changed(self, items: list[tuple[str, str]]) -> Generator[Message, None, str]:
        """The first path that is not what it was when it was read, or nothing."""
        names = {path for path, _ in items} ^ self._prints.keys()
        if names:
            return min(names)
        for path, kind in items:
            with reading(path, self._dir):
                now = yield from self._print(path, kind)
            if now != self._prints[path]:
                return path
        return ""

    def _item(self, path: str, kind: str, writer: Writer) -> Generator[Message, None, tuple[int, str, int]]:
        """Bytes, digest and rows."""
        if kind == "dir":
            self._prints[path] = ""
            return 0, "", 0
        if kind == "file":
            size, digest = yield from self._pour(path, f"{self._dir}/{path}", writer)
            self._prints[path] = digest
            return size, digest, 0
        self._prints[path] = yield from self._print(path, kind)
        self._databases.copy(f"{self._dir}/{path}", self._copy)
        yield from self._scan_rows(path)
        size, _ = yield from self._pour(path, self._copy, writer)
        rows, digest = self._databases.canonical(self._copy)
        self._trees.unlink(self._copy)
        return size, digest, rows

    def _print(self, path: str, kind: str) -> Generator[Message, None, str]:
        if kind == "dir":
            return ""
        digest = hashlib.sha256()
        for end in ("", *WRITTEN) if kind == "database" else ("",):
            if self._trees.size(f"{self._dir}/{path}{end}") is not None:
                for number, piece in enumerate(_pieces(self._trees, f"{self._dir}/{path}{end}")):
                    digest.update(piece)
                    if number % (4 * PIECES_A_STEP) == 0:
                        yield self._progress()
        return digest.hexdigest()

    def _pour(self, path: str, source: str, writer: Writer) -> Generator[Message, None, tuple[int, str]]:
        """Bytes of the file into the backup, past the scanner: how many, and their digest."""
        digest, size, line, before = hashlib.sha256(), 0, 1, b""
        for number, piece in enumerate(_pieces(self._trees, source)):
            self._scanner.text(path, before, piece, size, line, pages=source == self._copy)
            writer.frame(b"D", piece)
            digest.update(piece)
            size, line, before = size + len(piece), line + piece.count(b"\n"), (before + piece)[-OVERLAP:]
            self._done += len(piece)
            if number % PIECES_A_STEP == 0:
                yield self._progress()
        return size, digest.hexdigest()

    def _scan_rows(self, path: str) -> Iterator[Message]:
        for (table, columns), found in groupby(self._databases.contents(self._copy), key=lambda one: one[:2]):
            first = 1
            while some := list(_some(row for _, _, row in found)):
                self._scanner.rows(path, table, first, columns, some)
                first += len(some)
                yield self._progress()

    def _progress(self) -> Message:
        return progress("seal", self._done, self._total)


class Opening:
    """Frames into a directory. Raises PosagentError `data_backup_corrupt`; OSError."""

    def __init__(self, trees: Trees, databases: Databases, target_dir: str) -> None:
        self._trees, self._databases, self._dir = trees, databases, target_dir
        self._tally = _Tally()
        self._begun: bytes | None = None
        self._path, self._kind, self._size = "", "", 0
        self._ended: Contents | None = None
        trees.make_dir(target_dir)

    def take(self, letter: bytes, data: bytes) -> None:
        if self._ended is not None:
            raise corrupt("it goes on behind its end")
        if letter == b"E" and self._begun is None:
            self._begin(data)
        elif letter == b"D" and self._begun is not None and self._kind != "dir":
            self._trees.write(self._path, self._size, data)
            self._size += len(data)
        elif letter == b"T" and self._begun is not None:
            self._end(self._begun, data)
        elif letter == b"Z" and self._begun is None:
            said = _object(data)
            cards = said.get("cards")
            self._ended = self._tally.contents(cards if isinstance(cards, int) else 0)
            if said != dataclasses.asdict(self._ended):
                raise corrupt("it has not what it says at its end")
        else:
            raise corrupt("its frames are in no order")

    def contents(self) -> Contents:
        if self._ended is None:
            raise corrupt("it has no end")
        return self._ended

    def _begin(self, data: bytes) -> None:
        said = _object(data)
        path, self._kind = said.get("path"), str(said.get("kind"))
        if not isinstance(path, str) or {"", ".", ".."} & set(path.split("/")) or "\0" in path:
            raise corrupt("a path leads out of it")
        self._begun, self._path, self._size = data, f"{self._dir}/{path}", 0
        if self._kind == "dir":
            self._trees.make_dir(self._path)
        elif self._kind in ("file", "database"):
            self._trees.make_dir(parent(self._path))
            self._trees.write(self._path, 0, b"")
        else:
            raise corrupt(f"something of the kind {self._kind[:16]!r}")
        self._trees.adopt(self._path)

    def _end(self, begun: bytes, data: bytes) -> None:
        """What stands on the medium now is what was said."""
        said, rows, digest = _object(data), 0, ""
        if self._kind == "database":
            rows, digest = self._databases.canonical(self._path)
        elif self._kind == "file":
            whole = hashlib.sha256()
            for piece in _pieces(self._trees, self._path):
                whole.update(piece)
            digest = whole.hexdigest()
        found = {"bytes": self._size, "sha256": digest, "rows": rows}
        if said != found:
            raise corrupt(f"{self._path.removeprefix(self._dir + '/')} did not come back the same")
        self._tally.add(begun, data, rows=rows)
        self._begun = None


@contextmanager
def reading(what: str, *places: str) -> Iterator[None]:
    """Trouble in these places is told as that of `what`. Raises PosagentError `data_unreadable`."""
    try:
        yield
    except OSError as error:
        path = str(error.filename)
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or not path.startswith(places):
            raise
        raise PosagentError("data_unreadable", f"{what or path}: {error.strerror or error}") from error


def _some(rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """As many as are in memory together."""
    size = 0
    for row in islice(rows, ROWS_A_STEP):
        yield row
        size += sum(len(cell) for cell in row if isinstance(cell, str | bytes))
        if size >= CELL_BYTES_A_STEP:
            return


def _pieces(trees: Trees, path: str) -> Iterator[bytes]:
    at = 0
    while piece := trees.read(path, at, PIECE_BYTES):
        yield piece
        at += len(piece)


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise corrupt("a frame is no JSON object")
    return found


def progress(phase: str, done: int, total: int) -> Message:
    return {"progress": {"phase": phase, "done": min(done, total), "total": total}}
