"""The journal: the agent's notebook and the only commit point of an update.

Owns: one append-only file of lines `CRC32 JSON`, each JSON with a sequence number and the hash of the line before.
Rules: a record is durable (fdatasync) before anything is done about it. The first bad record ends the file: a torn
tail is cut off; if good records follow the damage, the whole file is kept beside it (`.damaged`) as evidence and the
journal goes on from what could be read. Compaction replaces the file atomically by one snapshot record.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from posagent.core import durable, model
from posagent.core.errors import JournalError
from posagent.core.model import Situation
from posagent.core.ports import Files

FORMAT = 1
BYTES_MAX = 256 * 1024
READ_BYTES_MAX = 4 * BYTES_MAX
RECORD_BYTES_MAX = 256 * 1024
"""Larger than any snapshot: model.fold keeps the evidence of the last outcome only."""
GENESIS = "0" * 16


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()[:16]


def encode(sequence: int, previous: str, record: Mapping[str, Any]) -> bytes:
    """One line of the journal, with its line end."""
    body = json.dumps({"seq": sequence, "prev": previous, "v": FORMAT, **record}, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def decode(line: bytes) -> dict[str, Any] | None:
    """The record in a line without its line end; None where it is damaged."""
    if len(line) < 10 or len(line) > RECORD_BYTES_MAX or line[8:9] != b" ":
        return None
    try:
        checksum, record = int(line[:8], 16), json.loads(line[9:])
    except (ValueError, RecursionError):
        return None
    return record if checksum == zlib.crc32(line[9:]) and isinstance(record, dict) else None


@dataclass(slots=True)
class _Tail:
    """Where the next record goes."""

    size: int = 0
    sequence: int = 0
    previous: str = GENESIS


class Journal:
    """The open journal. `situation` is the fold of all records; `damage` says what was wrong at opening, if anything.

    Raises JournalError `journal_io` when the file cannot be read or written.
    """

    def __init__(self, files: Files, path: str) -> None:
        self._files = files
        self._path = path
        self._tail = _Tail()
        self.situation = Situation()
        self.damage: str | None = None
        try:
            files.make_dir(durable.parent(path))
            self._open()
        except OSError as error:
            raise JournalError("journal_io", f"{path}: {error.strerror or error}") from error

    def _open(self) -> None:
        size = self._files.size(self._path)
        if size is None:
            self._files.write(self._path, 0, b"")
            self._files.sync(self._path)
            self._files.sync_dir(durable.parent(self._path))
            return
        data = self._files.read(self._path, 0, min(size, READ_BYTES_MAX))
        self._replay(data)
        if self._tail.size < size:
            self._cut(data[self._tail.size :], size)

    def _replay(self, data: bytes) -> None:
        """Fold records up to the first that is damaged, out of sequence or not understood."""
        while (end := data.find(b"\n", self._tail.size)) >= 0:
            line = data[self._tail.size : end]
            record = decode(line)
            if record is None or not self._follows(record):
                return
            try:
                self.situation = model.fold(self.situation, record)
            except (KeyError, ValueError, TypeError, AttributeError):
                return
            self._tail = _Tail(end + 1, record["seq"] + 1, _hash(line))

    def _follows(self, record: Mapping[str, Any]) -> bool:
        if "snapshot" in record and self._tail.size == 0:
            return isinstance(record.get("seq"), int)
        return record.get("seq") == self._tail.sequence and record.get("prev") == self._tail.previous

    def _cut(self, rest: bytes, size: int) -> None:
        """Drop what cannot be read. A torn tail is normal after a power cut; damage before good records is not."""
        torn_tail = size <= READ_BYTES_MAX and not any(decode(line) for line in rest.split(b"\n")[1:])
        if not torn_tail:
            self.damage = f"record {self._tail.sequence} is damaged; {len(rest)} bytes after it were set aside"
            durable.replace(self._files, self._path + ".damaged", self._files.read(self._path, 0, READ_BYTES_MAX))
        self._files.truncate(self._path, self._tail.size)
        self._files.sync(self._path)

    def append(self, record: Mapping[str, Any]) -> None:
        """Make the record durable and fold it in."""
        line = self._line(record)
        try:
            self._files.write(self._path, self._tail.size, line)
            self._files.sync(self._path)
        except OSError as error:
            raise JournalError("journal_io", f"{self._path}: {error.strerror or error}") from error
        self._tail = _Tail(self._tail.size + len(line), self._tail.sequence + 1, _hash(line[:-1]))
        self.situation = model.fold(self.situation, record)
        if self._tail.size > BYTES_MAX:
            self.compact()

    def _line(self, record: Mapping[str, Any]) -> bytes:
        """A line that can be read again; never one that would end the journal at the next start."""
        line = encode(self._tail.sequence, self._tail.previous, record)
        if len(line) > RECORD_BYTES_MAX:
            raise JournalError("journal_io", f"a record of {len(line)} bytes is larger than {RECORD_BYTES_MAX}")
        return line

    def compact(self) -> None:
        """Replace all records by one that stands for the situation; outcomes and measurements stay."""
        line = self._line(model.snapshot(self.situation))
        try:
            durable.replace(self._files, self._path, line)
        except OSError as error:
            raise JournalError("journal_io", f"{self._path}: {error.strerror or error}") from error
        self._tail = _Tail(len(line), self._tail.sequence + 1, _hash(line[:-1]))
