"""The audit log on the data partition: one file of records, appended and flushed one by one.

Owns: `audit.log`. New records begin a block of 4 KiB each, filled up with blanks: a power cut while a block is written
may cost all of that block on some media, and no durable record shares one with the record that is being written
(docs/adr/0005). At PACK_BYTES the file is replaced by one that is packed, without the oldest records where they are
more than KEPT_BYTES; the chain goes on, and a record `rotated` says which is the first that is kept.
Rules: it never raises and never stands in anybody's way. What cannot be written is counted, and the next record says
how many were lost. Records are paced, those of strangers on the line apart from all others, so that nobody can write
the flash full or push out what is there; the next record says how many were skipped. A torn record after a power cut is
cut off, and a record says so; more than that is set aside (`.damaged`) as evidence. Only the end is looked at here:
whether the log is whole, `posagent audit verify` tells.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from posagent.core import audit, durable
from posagent.core.ports import Clock, Files

BLOCK_BYTES = 4096
KEPT_BYTES = 256 * 1024
PACK_BYTES = 512 * 1024
PACK_BLOCKS = 16
"""After a failure to pack, the next try comes after so many records."""
BYTES_MAX = 1 << 20
"""Of the file, where it cannot be packed."""
LOOK_BYTES = 64 * 1024
COUNT_MAX = 200
SHOWN_BYTES_MAX = 128 * 1024


@dataclass(slots=True)
class Pace:
    """At most `burst` at once and one in `every_s` after that."""

    burst: int
    every_s: float
    spent_to: float = 0.0

    def take(self, now: float) -> bool:
        spent_to = max(self.spent_to, now)
        if spent_to - now > (self.burst - 1) * self.every_s:
            return False
        self.spent_to = spent_to + self.every_s
        return True


class AuditLog:
    """The open log. `note` appends; `size` is the number of records that were ever written."""

    def __init__(self, files: Files, path: str, clock: Clock) -> None:
        self._files = files
        self._path = path
        self._clock = clock
        self._strangers, self._others = Pace(20, 30.0), Pace(200, 5.0)
        self._skipped = self._lost = 0
        self._end = 0
        self.size, self._head = 0, audit.GENESIS
        try:
            files.make_dir(durable.parent(path))
            torn = self._open()
        except OSError:
            self._lost += 1
        else:
            if torn:
                self.note("repaired", bytes=torn)

    def note(self, event: str, *, stranger: bool = False, **fields: Any) -> None:
        """Append what happened; a `stranger` is somebody on the line who has proved nothing."""
        now = self._clock.monotonic()
        if not (self._strangers if stranger else self._others).take(now):
            self._skipped += 1
            return
        told = {name: audit.plain(value) for name, value in fields.items() if value not in ("", None)}
        self._write(event, told)

    def checkpoint(self, note: str, signer: str) -> None:
        """Append what the installer has sealed, and its public key."""
        self._write("checkpoint", {"note": note, "signer": signer})

    def last(self, count: int) -> list[dict[str, Any]]:
        """The newest records, oldest first; fewer where they are long. Raises OSError."""
        size = self._files.size(self._path) or 0
        shown: list[dict[str, Any]] = []
        room, looked_at = SHOWN_BYTES_MAX, min(size, max(LOOK_BYTES, count * BLOCK_BYTES))
        for _, line in reversed(audit.lines_in(self._files.read(self._path, size - looked_at, looked_at))):
            record = audit.record_of(line)
            room -= len(line)
            if record is None or room < 0 or len(shown) == min(count, COUNT_MAX):
                break
            shown.append({name: value for name, value in record.items() if name not in ("prev", "note", "signer")})
        return shown[::-1]

    # inside

    def _open(self) -> int:
        """Find the end; returns the bytes of a torn record that were cut off."""
        size = self._files.size(self._path)
        if size is None:
            self._files.write(self._path, 0, b"")
            self._files.sync(self._path)
            self._files.sync_dir(durable.parent(self._path))
            return 0
        begin = max(0, size - LOOK_BYTES)
        found = self._last_record(begin, size) or (self._last_record(max(0, size - BYTES_MAX), size) if begin else None)
        end = 0
        if found is not None:
            end, record, line = found
            self.size, self._head = record["seq"] + 1, audit.head_of(line)
        self._end = -(-end // BLOCK_BYTES) * BLOCK_BYTES
        torn = len(self._files.read(self._path, end, min(size - end, BYTES_MAX)).strip(b" \0\r\n"))
        if size - end > BLOCK_BYTES and torn:
            durable.replace(self._files, self._path + ".damaged", self._files.read(self._path, 0, BYTES_MAX))
        if size > end:
            self._files.truncate(self._path, end)
            self._files.sync(self._path)
        return torn

    def _last_record(self, begin: int, size: int) -> tuple[int, dict[str, Any], bytes] | None:
        """The last record behind `begin`: where its line ends, itself, and its line."""
        data = self._files.read(self._path, begin, size - begin)
        at = len(data)
        while at > 0:
            start = data.rfind(b"\n", 0, at - 1) + 1
            line = data[start:at].strip(b" \0\r\n")
            record = audit.record_of(line)
            if record is not None and data[at - 1 : at] == b"\n" and (start or not begin):
                return begin + at, record, line
            at = start
        return None

    def _write(self, event: str, told: dict[str, Any]) -> None:
        fields = {"at": round(self._clock.wall(), 3), "event": event, **told}
        fields |= {name: count for name, count in (("skipped", self._skipped), ("lost", self._lost)) if count}
        try:
            if self._end >= PACK_BYTES and self._end // BLOCK_BYTES % PACK_BLOCKS == 0:
                self._pack()
            self._append(audit.line_of(self.size, self._head, fields))
        except OSError:
            self._lost += 1
        else:
            self._skipped = self._lost = 0

    def _append(self, line: bytes) -> None:
        if self._end + BLOCK_BYTES > BYTES_MAX:
            raise OSError("the log is full and cannot be packed")
        self._files.write(self._path, self._end, line.ljust(BLOCK_BYTES - 1) + b"\n")
        self._files.sync(self._path)
        self._end += BLOCK_BYTES
        self.size, self._head = self.size + 1, audit.head_of(line)

    def _pack(self) -> None:
        """Where that fails, the file as it is does as well for some time."""
        try:
            data = self._files.read(self._path, 0, BYTES_MAX)
            lines = [line for _, line in audit.lines_in(data)]
            kept = audit.newest(lines, KEPT_BYTES)
            size, head = self.size, self._head
            first = audit.record_of(kept[0]) if len(kept) < len(lines) else None
            if first is not None:
                told = {"at": round(self._clock.wall(), 3), "event": "rotated", "first": first["seq"]}
                kept.append(audit.line_of(size, head, told))
                size, head = size + 1, audit.head_of(kept[-1])
            packed = b"\n".join(kept)
            packed = packed.ljust(-(-(len(packed) + 1) // BLOCK_BYTES) * BLOCK_BYTES - 1) + b"\n"
            durable.replace(self._files, self._path, packed)
        except OSError:
            with suppress(OSError):
                self._files.unlink(self._path + ".new")
        else:
            self.size, self._head, self._end = size, head, len(packed)
