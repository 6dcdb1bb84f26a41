"""Reads a bundle in place: a TUF repository in one plain tar file, metadata first, without unpacking anything; also one
of which only some pieces were fetched.

Rules: a walk of our own over 512-byte headers, because the full tar format (sparse files, links, extension headers)
is a large surface that a bundle does not need: only regular files with short names, at most 64, directly under
`metadata/` and `targets/`. Everything is checked against the size of the file before it is used. Nothing here is
authentic; installer.trust decides that. `tar cf x.bundle --format=ustar metadata/*.json targets/*` makes one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from posagent.core.errors import BundleError
from posagent.core.pieces import Piece, Pieces
from posagent.core.ports import ByteSource

BLOCK_BYTES = 512
MEMBERS_MAX = 64
METADATA_BYTES_MAX = 512 * 1024
RECORD_BYTES_MAX = 1 << 18
"""Of the fetcher's record beside a bundle."""
PADDING_BYTES_MAX = 1 << 20
"""Zeros after the end: tar fills its last record, by default 10 KiB."""

_NAME = re.compile(r"(metadata|targets)/([A-Za-z0-9][A-Za-z0-9._+-]{0,99})")
_REGULAR = (b"0", b"\0")


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a byte source that behaves like a whole one. Reading raises BundleError `spool_io`."""

    source: ByteSource
    start: int
    size: int

    def pread(self, offset: int, length: int) -> bytes:
        if offset < 0 or length < 0:
            raise ValueError("a window has no bytes before its start")
        try:
            return self.source.pread(self.start + offset, min(length, max(0, self.size - offset)))
        except OSError as error:
            raise BundleError("spool_io", f"reading the bundle: {error.strerror or error}") from None

    def missing(self, offset: int, length: int) -> int:
        """How many of these bytes were not fetched."""
        source = self.source
        return source.missing(self.start + offset, length) if isinstance(source, Spooled) else 0


class Missing(Exception):
    """These bytes of the bundle were not fetched."""

    def __init__(self, offset: int, length: int) -> None:
        super().__init__(f"{length} bytes from {offset} of the bundle are not there")
        self.offset, self.length = offset, length


class Spooled:
    """A bundle of which only some pieces lie in `file`. Reading others raises Missing."""

    def __init__(self, file: ByteSource, pieces: Pieces, size: int) -> None:
        self._file, self._pieces, self.size = file, pieces, size

    def pread(self, offset: int, length: int) -> bytes:
        length = min(length, max(0, self.size - offset))
        parts = []
        for there, at, count in self._pieces.find(offset, length):
            if not there:
                raise Missing(offset, length)
            parts.append(self._file.pread(at, count))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def missing(self, offset: int, length: int) -> int:
        return sum(count for there, _, count in self._pieces.find(offset, length) if not there)


class Bundle:
    """One opened bundle. Raises BundleError `bundle_unreadable`, `bundle_too_large`, `spool_io`.

    It is read in place and no further than asked for, so the file must stay open and need not be there to its end; its
    bytes may change under it, which only digests can tell. What it was `walked` is needed each time.
    """

    def __init__(self, source: ByteSource) -> None:
        self._source = Window(source, 0, source.size)
        self._members: dict[str, Window] = {}
        self.walked: list[Piece] = []
        self._at = 0
        self._ended = False

    def metadata(self, name: str) -> bytes | None:
        """The bytes of one metadata file such as `timestamp.json`, or None. Raises BundleError if it was cut."""
        while not self._ended and not self._past_metadata:
            self._step()
        window = self._members.get(f"metadata/{name}")
        if window is None:
            return None
        data = window.pread(0, window.size)
        if len(data) != window.size:
            raise _unreadable(f"metadata/{name} is cut short")
        return data

    def target(self, name: str) -> Window | None:
        """One file under `targets/`, or None."""
        while not self._ended and f"targets/{name}" not in self._members:
            self._step()
        return self._members.get(f"targets/{name}")

    @property
    def _past_metadata(self) -> bool:
        return bool(self._members) and next(reversed(self._members)).startswith("targets/")

    def _step(self) -> None:
        """Read one more header."""
        header = _block(self._source, self._at)
        if not any(header):
            _check_end(self._source, self._at)
            self._ended = True
            return
        name, size = _entry(header)
        _check_place(name, size, self._members)
        start = self._at + BLOCK_BYTES
        if start + size > self._source.size:
            raise _unreadable(f"{name} is cut short")
        self.walked.append((self._at, BLOCK_BYTES + (0 if name.startswith("targets/") else size)))
        self._members[name] = Window(self._source.source, start, size)
        self._at = start + -(-size // BLOCK_BYTES) * BLOCK_BYTES


def _block(source: ByteSource, offset: int) -> bytes:
    header = source.pread(offset, BLOCK_BYTES)
    if len(header) != BLOCK_BYTES:
        raise _unreadable("the end is missing")
    return header


def _entry(header: bytes) -> tuple[str, int]:
    """Name and size of the member that `header` begins."""
    total = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    if header[257:262] != b"ustar" or _octal(header[148:156]) != total:
        raise _unreadable("it is not a tar file")
    raw = header[:100].rstrip(b"\0")
    match = _NAME.fullmatch(raw.decode("ascii", "replace"))
    if match is None or any(header[345:500]):  # name prefix, or GNU's extra fields
        raise _unreadable(f"no place for a member named {raw!r}")
    if header[156:157] not in _REGULAR:
        raise _unreadable(f"{match[0]} is not a regular file")
    return match[0], _octal(header[124:136])


def _octal(text: bytes) -> int:
    digits = text.strip(b" \0")
    if not re.fullmatch(rb"[0-7]{1,12}", digits):
        raise _unreadable("a number in a tar header is not octal")
    return int(digits, 8)


def _check_place(name: str, size: int, members: dict[str, Window]) -> None:
    if name in members:
        raise _unreadable(f"{name} stands twice")
    if len(members) >= MEMBERS_MAX:
        raise BundleError("bundle_too_large", f"more than {MEMBERS_MAX} members")
    if name.startswith("metadata/"):
        if size > METADATA_BYTES_MAX:
            raise BundleError("bundle_too_large", f"{name}: {size} bytes are more than {METADATA_BYTES_MAX}")
        if any(other.startswith("targets/") for other in members):
            raise _unreadable(f"{name} comes after a target")


def _check_end(source: ByteSource, offset: int) -> None:
    """Two blocks of zeros end a tar file; only more zeros may follow."""
    rest = source.size - offset
    if rest < 2 * BLOCK_BYTES:
        raise _unreadable("the end is missing")
    if rest > PADDING_BYTES_MAX or any(source.pread(offset, rest)):
        raise _unreadable("something follows after its end")


def _unreadable(trouble: str) -> BundleError:
    return BundleError("bundle_unreadable", f"bundle: {trouble}")
