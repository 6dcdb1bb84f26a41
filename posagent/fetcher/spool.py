"""The spool: half-finished and finished downloads on the data partition, resumable after a power cut.

Owns: `ID.bundle`, the pieces of a file that were fetched, one behind the other, and `ID.json`, the record that says
which they are (core.pieces).
Rules: only bytes that were synced before the record was written count as there; the rest may be garbage after a power
cut and is fetched again. Bytes fetched twice are counted.
"""

from __future__ import annotations

import dataclasses
import errno
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from posagent.core import durable, pieces
from posagent.core.errors import FetchError
from posagent.core.pieces import Piece, Pieces
from posagent.core.ports import Files

_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
BLOCK_BYTES = 4096
"""What a medium may lose at once of a file that is appended to."""
_SUFFIXES = (".bundle", ".json", ".json.new")
_OURS = re.compile(rf"({_ID.pattern})({'|'.join(map(re.escape, _SUFFIXES))})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known of a download. `length` is of the whole file, `pieces` are there durably, `bytes_given_up` were,
    are not needed any more, and made room for others; `restarts` counts how often it began again from nothing;
    `mtime_ns` is when a local file was last changed."""

    source: str
    etag: str = ""
    last_modified: str = ""
    length: int | None = None
    pieces: tuple[Piece, ...] = ()
    bytes_given_up: int = 0
    bytes_refetched: int = 0
    restarts: int = 0
    mtime_ns: int | None = None

    @staticmethod
    def of(value: Any, source: str) -> Record:
        """The record in a JSON value; a fresh one where it is damaged or of another source."""
        try:
            record = Record(**value)
        except TypeError:
            return Record(source=source)
        parts = pieces.of(record.pieces)
        numbers = (record.bytes_given_up, record.bytes_refetched, record.restarts)
        sound = all(type(number) is int and number >= 0 for number in numbers)
        texts = all(isinstance(text, str) for text in (record.source, record.etag, record.last_modified))
        length = all(number is None or type(number) is int for number in (record.length, record.mtime_ns))
        # one that cannot be sent to the server would fail every attempt
        texts = texts and all(text.isascii() and text.isprintable() for text in (record.etag, record.last_modified))
        if parts is None or not (sound and texts and length and record.source == source):
            return Record(source=source)
        return dataclasses.replace(record, pieces=tuple(parts))

    @property
    def stored(self) -> int:
        """Bytes that are there durably."""
        return sum(length for _, length in self.pieces)


class Spool:
    """A directory of downloads. Raises FetchError `spool_full` or `spool_io`, `bad_request` for a strange id."""

    def __init__(self, files: Files, directory: str, *, keep_free_bytes: int) -> None:
        self._files = files
        self._directory = directory
        self._keep_free_bytes = keep_free_bytes

    def room(self) -> int:
        """Bytes that may still be stored."""
        try:
            self._files.make_dir(self._directory)
            return self._files.free_bytes(self._directory) - self._keep_free_bytes
        except OSError as error:
            raise trouble(error) from error

    def entry(self, name: str, source: str) -> Entry:
        """The download of that id, with whatever is there already."""
        _check_id(name)
        try:
            self._files.make_dir(self._directory)
            return Entry(self._files, f"{self._directory}/{name}", source, self.room)
        except OSError as error:
            raise trouble(error) from error

    def discard(self, name: str) -> None:
        """Remove all files of that id."""
        _check_id(name)
        self._remove([name + suffix for suffix in _SUFFIXES])

    def keep_only(self, name: str | None) -> None:
        """Remove all downloads but that one: leftovers of earlier updates. Other people's files are left alone."""
        if name is not None:
            _check_id(name)
        found = (_OURS.fullmatch(file) for file in self._names())
        self._remove([ours[0] for ours in found if ours is not None and ours[1] != name])

    def _names(self) -> list[str]:
        try:
            return self._files.names(self._directory)
        except OSError as error:
            raise trouble(error) from error

    def _remove(self, names: list[str]) -> None:
        present = set(self._names()) & set(names)
        try:
            for name in sorted(present):
                self._files.unlink(f"{self._directory}/{name}")
            if present:
                self._files.sync_dir(self._directory)
        except OSError as error:
            raise trouble(error) from error


class Entry:
    """One download. `pieces` are there, whether synced or not; `done` is how many bytes that makes; `room` says how
    many may still be stored."""

    def __init__(self, files: Files, path: str, source: str, room: Callable[[], int]) -> None:
        self._files = files
        self._record_path = path + ".json"
        self.room = room
        self.bundle = path + ".bundle"
        self.record = Record.of(durable.read_json(files, self._record_path), source)
        self._settle()

    def _settle(self) -> None:
        """Forget bytes beyond the last sync, and write down first that they are fetched twice."""
        size = self._files.size(self.bundle) or 0
        if size < self.record.stored:  # somebody shortened the file
            self.record = dataclasses.replace(self.record, pieces=())
        self._reset()
        if size > self.done:
            kept = self.done // BLOCK_BYTES * BLOCK_BYTES
            self.record = dataclasses.replace(self.record, bytes_refetched=self.record.bytes_refetched + size - kept)
            self._touch(self.done)
            self._files.truncate(self.bundle, kept)
            self._reset()

    def _reset(self) -> None:
        self.pieces = list(self.record.pieces)
        self.done = self.record.stored

    @property
    def whole(self) -> bool:
        """Whether the whole file is there."""
        return self.record.length is not None and self.done == self.record.length

    def missing(self, wanted: Sequence[Piece]) -> list[Piece]:
        """What of the `wanted` pieces is not there."""
        length = self.record.length
        if length is not None:
            wanted = [(at, min(count, length - at)) for at, count in wanted if at < length]
        return Pieces(self.pieces, self.done).missing(pieces.joined(wanted, 0))

    def expect(
        self, needed: int, *, length: int | None, etag: str = "", last_modified: str = "", mtime_ns: int | None = None
    ) -> None:
        """The source told what the file is; `needed` bytes follow. Raises FetchError `spool_full` when they do not
        fit."""
        self.record = dataclasses.replace(
            self.record, length=length, etag=etag, last_modified=last_modified, mtime_ns=mtime_ns
        )
        self.check_space(needed)

    def restart(self, *, earlier: bool = False) -> None:
        """Begin again from nothing, because what is there belongs to another file: perhaps to one that an `earlier`
        request has fetched."""
        record = self.record
        refetched, restarts = record.bytes_refetched + self.done, record.restarts + 1
        if earlier:
            refetched, restarts = 0, 0  # nothing of this one was fetched yet
        self.record = Record(source=record.source, bytes_refetched=refetched, restarts=restarts)
        try:
            self._keep_record()
            if self._files.size(self.bundle) is not None:
                self._files.truncate(self.bundle, 0)
        except OSError as error:
            raise trouble(error) from error
        self._reset()

    def take(self, path: str, *, length: int) -> bool:
        """Make the whole file at `path` this download by moving it; False where that cannot be done. It was opened as a
        regular file, and what it has become since, nobody believes.

        What the spool had of an earlier one goes first, and the record says all is there before it is: a power cut
        between finds either nothing here and the file where it was, or the file here."""
        try:
            self._move(path, length)
        except OSError:
            if self._files.size(self.bundle) != length:
                self.record = Record(source=self.record.source)
        try:
            self._settle()
        except OSError as error:
            raise trouble(error) from error
        return self.whole

    def _move(self, path: str, length: int) -> None:
        durable.remove(self._files, self.bundle)
        self.record = Record(source=self.record.source, length=length, pieces=((0, length),))
        self._keep_record()
        self._files.rename(path, self.bundle)
        self._files.sync_dir(durable.parent(self.bundle))
        self._files.sync_dir(durable.parent(path))

    def end_of(self, kept: Sequence[Piece]) -> int:
        """Bytes of the spool file up to the last that is there of the `kept` pieces."""
        return max((at + size for at, size in self._places(kept)), default=0)

    def behind(self, end: int, wanted: Sequence[Piece]) -> int:
        """Bytes of the `wanted` pieces that are there behind the first `end` bytes of the spool file."""
        return sum(max(0, min(size, at + size - end)) for at, size in self._places(wanted))

    def _places(self, wanted: Sequence[Piece]) -> Iterator[Piece]:
        """Where in the spool file lies what is there of them."""
        place = Pieces(self.pieces, self.done)
        for begin, length in pieces.joined(wanted, 0):
            yield from ((at, size) for there, at, size in place.find(begin, length) if there)

    def shorten(self, end: int, wanted: Sequence[Piece]) -> None:
        """Give up all but the first `end` bytes of the spool file, to make room; what was `wanted` of it will be
        fetched again."""
        if end == self.done:
            return
        lost = self.behind(end, wanted)
        given_up = self.record.bytes_given_up + self.done - end - lost
        refetched = self.record.bytes_refetched + lost
        self.record = dataclasses.replace(self.record, bytes_given_up=given_up, bytes_refetched=refetched)
        try:
            self._touch(end)
            self._files.truncate(self.bundle, end)
        except OSError as error:
            raise trouble(error) from error
        self.pieces, self.done = list(_first(self.pieces, end)), end

    def _touch(self, end: int) -> None:
        """The spool file is going to be changed from there on: a power cut meanwhile may take what is before it in the
        same block, although that was synced."""
        self.record = dataclasses.replace(self.record, pieces=_first(self.pieces, end - end % BLOCK_BYTES))
        self._keep_record()

    def append(self, at: int, data: bytes) -> None:
        """Bytes of the file from `at` on."""
        try:
            if self.done == self.record.stored and self.done % BLOCK_BYTES:
                self._touch(self.done)
            self._files.write(self.bundle, self.done, data)
        except OSError as error:
            raise trouble(error) from error
        begin, length = self.pieces[-1] if self.pieces else (0, 0)
        if self.pieces and begin + length == at:
            self.pieces[-1] = (begin, length + len(data))
        else:
            self.pieces.append((at, len(data)))
        self.done += len(data)

    def count_twice(self, at: int, length: int) -> None:
        """Bytes of the file that arrive; those that are there already have come twice."""
        there = sum(size for there, _, size in Pieces(self.pieces, self.done).find(at, length) if there)
        if there:
            self.record = dataclasses.replace(self.record, bytes_refetched=self.record.bytes_refetched + there)

    @property
    def carried(self) -> int:
        """Bytes that have come for this download, whether they are still there or not."""
        return self.done + self.record.bytes_given_up + self.record.bytes_refetched

    def checkpoint(self, *, last: bool = False) -> None:
        """What is there will be there after a power cut: unless it is the `last`, only whole blocks."""
        end = self.done if last else self.done - self.done % BLOCK_BYTES
        if end <= self.record.stored:
            return
        try:
            self._sync()
            self.record = dataclasses.replace(self.record, pieces=_first(self.pieces, end))
            self._keep_record()
        except OSError as error:
            raise trouble(error) from error

    def _sync(self) -> None:
        try:
            self._files.sync(self.bundle)
        except OSError:
            # a later sync would report success for bytes the medium never took: they must come again
            self._reset()
            raise

    def all_of_it(self, length: int) -> Iterator[bytes]:
        """The whole file, in its order, up to `length` bytes at a time."""
        for _, begin, size in Pieces(self.pieces, self.done).find(0, self.done):
            for offset in range(begin, begin + size, length):
                try:
                    yield self._files.read(self.bundle, offset, min(length, begin + size - offset))
                except OSError as error:
                    raise trouble(error) from error

    def told(self) -> None:
        """Keep what the source told, so that it is known when it was all there already."""
        try:
            self._keep_record()
        except OSError as error:
            raise trouble(error) from error

    def _keep_record(self) -> None:
        durable.replace_json(self._files, self._record_path, dataclasses.asdict(self.record))

    def check_space(self, needed: int = 0) -> None:
        """Raises FetchError `spool_full` when `needed` more bytes would leave too little free."""
        if (room := self.room()) < needed:
            raise FetchError(
                "spool_full", f"{needed} more bytes are needed, {room} may be used; the rest must stay free"
            )


def _first(parts: Sequence[Piece], count: int) -> tuple[Piece, ...]:
    """The pieces that make the first `count` bytes of the spool file."""
    kept = []
    for begin, length in parts:
        if count > 0:
            kept.append((begin, min(length, count)))
        count -= length
    return tuple(kept)


def _check_id(name: str) -> None:
    if not _ID.fullmatch(name):
        raise FetchError("bad_request", f"not an id of a download: {name[:80]!r}")


def trouble(error: OSError) -> FetchError:
    """An error of the data partition as one of ours."""
    code = "spool_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "spool_io"
    return FetchError(code, f"{error.filename or 'spool'}: {error.strerror or error}")
