"""The journal: the agent's notebook and the only commit point of an update.

Owns: one append-only file of lines `CRC32 JSON`, each JSON with a sequence number and the hash of the line before.
Each record begins a block of 4 KiB of its own, the rest of which stays empty: a power cut while a block is written may
cost all of that block on some media, and no durable record shares one with the record that is being written.
Rules: a record is durable (fdatasync) before anything is done about it. The first bad record ends the file: a torn
tail is cut off; if good records follow the damage, the whole file is kept beside it (`.damaged`) as evidence and the
journal goes on from what could be read. Compaction replaces the file atomically by one snapshot record; where that
fails, the records are still there and do as well. Somebody else may fill the partition in the middle of a critical
section: `.reserve` beside the journal is space that is given up then, and taken again when there is some.
"""

from __future__ import annotations

import errno
import hashlib
import json
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from posagent.core import durable, model
from posagent.core.errors import JournalError
from posagent.core.model import Situation
from posagent.core.ports import Files

FORMAT = 1
BLOCK_BYTES = 4096
BYTES_MAX = 512 * 1024
READ_BYTES_MAX = 4 * BYTES_MAX
RECORD_BYTES_MAX = 256 * 1024
"""Larger than any snapshot: model.fold keeps the evidence of the last outcome only."""
RESERVE_BYTES = 16 * BLOCK_BYTES
"""Room for the snapshot of a compaction, which frees more than it takes, or else for some records."""
GENESIS = "0" * 16
_FULL = (errno.ENOSPC, errno.EDQUOT)


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()[:16]


def encode(sequence: int, previous: str, record: Mapping[str, Any]) -> bytes:
    """One line of the journal, with its line end."""
    body = json.dumps({"seq": sequence, "prev": previous, "v": FORMAT, **record}, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _blocks(size: int) -> int:
    """`size` bytes rounded up to whole blocks."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


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
    """Where the last record ends, and what the next one has to say of it."""

    size: int = 0
    sequence: int = 0
    previous: str = GENESIS


class Journal:
    """The open journal. `situation` is the fold of all records; `damage` says what was wrong at opening, if anything.

    Raises JournalError `journal_io` when the file cannot be read or written.
    """

    def __init__(self, files: Files, path: str, bytes_max: int = BYTES_MAX) -> None:
        self._files = files
        self._bytes_max = bytes_max
        self._path = path
        self._tail = _Tail()
        self.situation = Situation()
        self.damage: str | None = None
        try:
            files.make_dir(durable.parent(path))
            self._open()
        except OSError as error:
            raise self._trouble(error) from error
        self._keep_reserve()

    def _open(self) -> None:
        size = self._files.size(self._path)
        if size is None:
            self._files.write(self._path, 0, b"")
            self._files.sync(self._path)
            self._files.sync_dir(durable.parent(self._path))
            return
        data = self._files.read(self._path, 0, min(size, READ_BYTES_MAX))
        self._replay(data)
        if _blocks(self._tail.size) < size:
            self._cut(data[_blocks(self._tail.size) :], size)

    def _replay(self, data: bytes) -> None:
        """Fold records up to the first that is damaged, out of sequence or not understood."""
        while (end := data.find(b"\n", at := _blocks(self._tail.size))) >= 0:
            line = data[at:end]
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
        """Drop what cannot be read. A torn tail is normal after a power cut; damage before good records is not.

        The cut is at the end of a block: within one, the last good record would be written again.
        """
        lines = (line.lstrip(b"\0") for line in rest.lstrip(b"\0").split(b"\n")[1:])
        torn_tail = size <= READ_BYTES_MAX and not any(map(decode, lines))
        if not torn_tail:
            whole = self._files.read(self._path, 0, READ_BYTES_MAX)
            error = self._replace(self._path + ".damaged", whole)
            fate = "set aside" if error is None else f"lost: {error.strerror or error}"
            self.damage = f"record {self._tail.sequence} is damaged; {len(rest)} bytes after it were {fate}"
        self._files.truncate(self._path, _blocks(self._tail.size))
        self._files.sync(self._path)

    def append(self, record: Mapping[str, Any]) -> None:
        """Make the record durable and fold it in."""
        try:
            try:
                self._write(record)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                self._write_on_reserve(record)
        except OSError as error:
            raise self._trouble(error) from error
        self.situation = model.fold(self.situation, record)
        if self._tail.size > self._bytes_max:
            self.compact()

    def _write(self, record: Mapping[str, Any]) -> None:
        line, at = self._line(record), _blocks(self._tail.size)
        if at + len(line) > READ_BYTES_MAX:
            raise JournalError("journal_io", f"{self._path}: no more than {READ_BYTES_MAX} bytes could be read again")
        self._files.write(self._path, at, line)
        self._files.sync(self._path)
        self._tail = _Tail(at + len(line), self._tail.sequence + 1, _hash(line[:-1]))

    def _write_on_reserve(self, record: Mapping[str, Any]) -> None:
        """Once more on a full partition. The reserve comes back last, out of what the compaction has freed."""
        self._files.unlink(self._reserve)
        self._files.sync_dir(durable.parent(self._path))  # only then is its space free
        self._compact()
        self._write(record)
        self._keep_reserve()

    def _keep_reserve(self) -> None:
        """Takes what there is room for; a later compaction or start takes the rest."""
        with suppress(OSError):
            size = self._files.size(self._reserve) or 0
            if size < RESERVE_BYTES:
                self._files.write(self._reserve, size, bytes(RESERVE_BYTES - size))
                self._files.sync(self._reserve)
                self._files.sync_dir(durable.parent(self._path))

    @property
    def _reserve(self) -> str:
        return self._path + ".reserve"

    def _trouble(self, error: OSError) -> JournalError:
        return JournalError("journal_io", f"{self._path}: {error.strerror or error}")

    def _line(self, record: Mapping[str, Any]) -> bytes:
        """A line that can be read again; never one that would end the journal at the next start."""
        line = encode(self._tail.sequence, self._tail.previous, record)
        if len(line) > RECORD_BYTES_MAX:
            raise JournalError("journal_io", f"a record of {len(line)} bytes is larger than {RECORD_BYTES_MAX}")
        return line

    def compact(self) -> None:
        """Replace all records by one that stands for the situation; outcomes and measurements stay."""
        try:
            self._compact()
        except OSError as error:
            raise self._trouble(error) from error
        self._keep_reserve()

    def _compact(self) -> None:
        """Raises OSError only where the new file is in place but may not stay: who starts again sees which it is."""
        line = self._line(model.snapshot(self.situation))
        error = self._replace(self._path, line)
        if error is not None:
            if self._files.read(self._path, 0, len(line)) == line:
                raise error
            return
        self._tail = _Tail(len(line), self._tail.sequence + 1, _hash(line[:-1]))

    def _replace(self, path: str, data: bytes) -> OSError | None:
        """Why a file could not be replaced; nothing is left of the attempt then."""
        try:
            durable.replace(self._files, path, data)
        except OSError as error:
            with suppress(OSError):
                self._files.unlink(path + ".new")
            return error
        return None
