"""Reads a bundle in place: a TUF repository in one plain tar file, metadata first, without unpacking anything.

Rules: a walk of our own over 512-byte headers, because the full tar format (sparse files, links, extension headers)
is a large surface that a bundle does not need: only regular files with short names, at most 64, directly under
`metadata/` and `targets/`. Everything is checked against the size of the file before it is used. Nothing here is
authentic; installer.trust decides that. `tar cf x.bundle --format=ustar metadata/*.json targets/*` makes one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from posagent.core.errors import BundleError
from posagent.core.ports import ByteSource

BLOCK_BYTES = 512
MEMBERS_MAX = 64
METADATA_BYTES_MAX = 512 * 1024
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


class Bundle:
    """One opened bundle. Raises BundleError `bundle_unreadable`, `bundle_too_large`, `spool_io` when opened.

    It is read in place, so the file must stay open; its bytes may change under it, which only digests can tell.
    """

    def __init__(self, source: ByteSource) -> None:
        self._members = _walk(Window(source, 0, source.size))

    def metadata(self, name: str) -> bytes | None:
        """The bytes of one metadata file such as `timestamp.json`, or None. Raises BundleError if it was cut."""
        window = self._members.get(f"metadata/{name}")
        if window is None:
            return None
        data = window.pread(0, window.size)
        if len(data) != window.size:
            raise _unreadable(f"metadata/{name} is cut short")
        return data

    def target(self, name: str) -> ByteSource | None:
        """One file under `targets/`, or None."""
        return self._members.get(f"targets/{name}")


def _walk(source: Window) -> dict[str, Window]:
    members: dict[str, Window] = {}
    offset = 0
    while any(header := _block(source, offset)):
        name, size = _entry(header)
        _check_place(name, size, members)
        start = offset + BLOCK_BYTES
        offset = start + -(-size // BLOCK_BYTES) * BLOCK_BYTES
        members[name] = Window(source.source, start, size)
    _check_end(source, offset)
    return members


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
