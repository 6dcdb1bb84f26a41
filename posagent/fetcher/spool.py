"""The spool: half-finished and finished downloads on the data partition, resumable after a power cut.

Owns: `ID.part` with its record `ID.json`, and `ID.bundle` once complete.
Rules: only bytes that were synced before the record was written count as there; the rest may be garbage after a power
cut and is fetched again. Bytes fetched twice are counted. The record stays beside the finished file: it says what the
file was when it was fetched, so that it can be compared with what is at the source later.
"""

from __future__ import annotations

import dataclasses
import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from posagent.core import durable
from posagent.core.errors import FetchError
from posagent.core.ports import Files

_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_SUFFIXES = (".part", ".json", ".json.new", ".bundle")
_OURS = re.compile(rf"({_ID.pattern})({'|'.join(map(re.escape, _SUFFIXES))})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known of a download. `restarts` counts how often it began again from nothing; `mtime_ns` is when a local
    file was last changed."""

    source: str
    etag: str = ""
    last_modified: str = ""
    length: int | None = None
    durable_bytes: int = 0
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
        numbers = (record.durable_bytes, record.bytes_refetched, record.restarts)
        sound = all(type(number) is int and number >= 0 for number in numbers)
        texts = all(isinstance(text, str) for text in (record.source, record.etag, record.last_modified))
        length = all(number is None or type(number) is int for number in (record.length, record.mtime_ns))
        # one that cannot be sent to the server would fail every attempt
        texts = texts and all(text.isascii() and text.isprintable() for text in (record.etag, record.last_modified))
        return record if sound and texts and length and record.source == source else Record(source=source)


class Spool:
    """A directory of downloads. Raises FetchError `spool_full` or `spool_io`, `bad_request` for a strange id."""

    def __init__(self, files: Files, directory: str, *, keep_free_bytes: int) -> None:
        self._files = files
        self._directory = directory
        self._keep_free_bytes = keep_free_bytes

    def entry(self, name: str, source: str) -> Entry:
        """The download of that id, with whatever is there already."""
        _check_id(name)
        try:
            self._files.make_dir(self._directory)
            return Entry(self._files, f"{self._directory}/{name}", source, self._keep_free_bytes)
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
    """One download. `done` counts the bytes that are there, whether synced or not."""

    def __init__(self, files: Files, path: str, source: str, keep_free_bytes: int) -> None:
        self._files = files
        self._part = path + ".part"
        self._record_path = path + ".json"
        self._keep_free_bytes = keep_free_bytes
        self.bundle = path + ".bundle"
        self.complete = files.size(self.bundle) is not None
        self.record = Record.of(durable.read_json(files, self._record_path), source)
        if self.complete:
            self.done = files.size(self.bundle) or 0
        else:
            self._settle()

    def _settle(self) -> None:
        """Forget bytes beyond the last sync, and write down first that they are fetched twice."""
        size = self._files.size(self._part) or 0
        kept = min(size, self.record.durable_bytes)
        lost = size - kept
        self.record = dataclasses.replace(
            self.record, durable_bytes=kept, bytes_refetched=self.record.bytes_refetched + lost
        )
        if lost:
            self._keep_record()
            self._files.truncate(self._part, kept)
        self.done = kept

    def whole(self, announced: int | None) -> bool:
        """Whether all bytes are there already, as after a power cut just before the last step."""
        if self.complete:
            return True
        length = self.record.length if announced is None else announced
        return length is not None and self.done == length and self.record.length in (None, length)

    def expect(
        self, *, length: int | None, etag: str = "", last_modified: str = "", mtime_ns: int | None = None
    ) -> None:
        """The source told what it sends. Raises FetchError `spool_full` when that does not fit."""
        self.record = dataclasses.replace(
            self.record, length=length, etag=etag, last_modified=last_modified, mtime_ns=mtime_ns
        )
        if length is not None and length > self.done:
            self.check_space(length - self.done)

    def restart(self) -> None:
        """Begin again from nothing, because what is there belongs to another file."""
        record = self.record
        refetched, restarts = record.bytes_refetched + self.done, record.restarts + 1
        if self.complete:
            refetched, restarts = 0, 0  # the file of an earlier request: nothing of this one was fetched yet
        self.record = Record(source=record.source, bytes_refetched=refetched, restarts=restarts)
        self.done = 0
        try:
            self._files.unlink(self.bundle)
            self.complete = False
            self._keep_record()
            if self._files.size(self._part) is not None:
                self._files.truncate(self._part, 0)
        except OSError as error:
            raise trouble(error) from error

    def append(self, data: bytes) -> None:
        try:
            self._files.write(self._part, self.done, data)
        except OSError as error:
            raise trouble(error) from error
        self.done += len(data)

    def checkpoint(self) -> None:
        """What is there will be there after a power cut."""
        if self.complete or self.done == self.record.durable_bytes:
            return
        try:
            self._sync()
            self.record = dataclasses.replace(self.record, durable_bytes=self.done)
            self._keep_record()
        except OSError as error:
            raise trouble(error) from error

    def _sync(self) -> None:
        try:
            self._files.sync(self._part)
        except OSError:
            # a later sync would report success for bytes the medium never took: they must come again
            self.done = self.record.durable_bytes
            raise

    def pieces(self, length: int) -> Iterator[bytes]:
        """What is there, piece by piece."""
        for offset in range(0, self.done, length):
            try:
                yield self._files.read(self._part, offset, min(length, self.done - offset))
            except OSError as error:
                raise trouble(error) from error

    def finish(self) -> None:
        """The download is whole: give it its final name."""
        if self.complete:
            return
        self.checkpoint()
        try:
            self._files.rename(self._part, self.bundle)
            self._files.sync_dir(durable.parent(self.bundle))
        except OSError as error:
            raise trouble(error) from error
        self.complete = True

    def _keep_record(self) -> None:
        durable.replace_json(self._files, self._record_path, dataclasses.asdict(self.record))

    def check_space(self, needed: int = 0) -> None:
        """Raises FetchError `spool_full` when `needed` more bytes would leave too little free."""
        try:
            free = self._files.free_bytes(durable.parent(self._part))
        except OSError as error:
            raise trouble(error) from error
        if free < needed + self._keep_free_bytes:
            raise FetchError(
                "spool_full",
                f"{free} bytes are free; {needed} more are needed and {self._keep_free_bytes} must stay free",
            )


def _check_id(name: str) -> None:
    if not _ID.fullmatch(name):
        raise FetchError("bad_request", f"not an id of a download: {name[:80]!r}")


def trouble(error: OSError) -> FetchError:
    """An error of the data partition as one of ours."""
    code = "spool_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "spool_io"
    return FetchError(code, f"{error.filename or 'spool'}: {error.strerror or error}")
