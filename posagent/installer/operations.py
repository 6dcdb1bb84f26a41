"""How one operation of a payload becomes bytes of the image: made within bounds and checked against its digest.

Rules: nothing leaves here unchecked. The window of a zstd frame is bounded, so that memory is; so is its output, so
that few bytes cannot become many.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from backports import zstd

from posagent.core.codec import Codec
from posagent.core.errors import BundleError
from posagent.core.extents import Extent, spans
from posagent.core.payload import WINDOW_LOG_MAX, Header, Kind, Operation
from posagent.core.ports import ByteSource, Medium

if TYPE_CHECKING:
    from posagent.core.seal import Seal

Bytes = bytes | bytearray
_BOUNDS: dict[int, int] = {zstd.DecompressionParameter.window_log_max: WINDOW_LOG_MAX}


READ_BYTES = 512 << 10
"""At once."""
NEAR_BYTES = 16 << 10
"""So much between two places is read along: asking once more takes longer."""


Places = Sequence[tuple[int, int]]
"""Offset and length of each, in bytes."""


def read(image: Medium, extents: Sequence[Extent], size: int) -> Bytes:
    """The extents' bytes of an image of `size` bytes. Raises OSError."""
    places = list(spans(extents, size))
    if len(places) == 1 and places[0][1] <= READ_BYTES:
        return image.pread(*places[0])
    whole = bytearray(sum(length for _, length in places))  # joining parts would take twice the memory
    gather(image, places, memoryview(whole))
    return whole


def gather(image: Medium, places: Places, into: memoryview) -> None:
    """Fill the view with the bytes at those places, in their order; read in the order of the image. Raises OSError."""
    for start, stop, parts in _joined(places):
        if len(parts) == 1:
            at, length, begin = parts[0]
            image.pread_into(at, into[begin : begin + length])
            continue
        data = memoryview(image.pread(start, stop - start))
        for at, length, begin in parts:
            into[begin : begin + length] = data[at - start : at - start + length]


def cut(places: Places, size: int) -> Iterator[tuple[Places, int]]:
    """The same in lists of up to `size` bytes each, with how many they have."""
    some, filled = list[tuple[int, int]](), 0
    for at, length in places:
        while length:
            taken = min(length, size - filled)
            some.append((at, taken))
            at, length, filled = at + taken, length - taken, filled + taken
            if filled == size:
                yield some, filled
                some, filled = [], 0
    if some:
        yield some, filled


def _joined(places: Places) -> Iterator[tuple[int, int, list[tuple[int, int, int]]]]:
    """Begin and end of each read, and the parts that it has: where they are, how long, and where they go."""
    pieces, begin = [], 0
    for at, length in places:
        for offset in range(0, length, READ_BYTES):
            pieces.append((at + offset, min(READ_BYTES, length - offset), begin + offset))
        begin += length
    pieces.sort()
    start, stop, parts = 0, 0, list[tuple[int, int, int]]()
    for at, length, begin in pieces:
        if parts and (at > stop + NEAR_BYTES or at + length > start + READ_BYTES):
            yield start, stop, parts
            parts = []
        if not parts:
            start, stop = at, at
        if parts and at == stop and begin == parts[-1][2] + parts[-1][1]:
            parts[-1] = (parts[-1][0], parts[-1][1] + length, parts[-1][2])
        else:
            parts.append((at, length, begin))
        stop = max(stop, at + length)
    if parts:
        yield start, stop, parts


def source_of(operation: Operation, header: Header, running: Medium) -> Bytes:
    """What the operation reads of the running image. Raises BundleError `source_differs`, OSError."""
    source = read(running, operation.source, header.source_size)
    if operation.source and hashlib.sha256(source).digest() != operation.source_sha256:
        start = operation.source[0].start
        raise BundleError("source_differs", f"the running slot is not what the delta was made from, block {start}")
    return source


def made(
    operation: Operation,
    header: Header,
    payload: ByteSource,
    running: Medium,
    seal: Seal | None = None,
    codecs: Sequence[Codec] = (),
) -> Bytes:
    """The bytes that the operation makes, in the order of its extents; `seal` opens what is stored, `codecs` are those
    that the header names.

    Raises BundleError `payload_corrupt`, `source_differs`, or `spool_io` where the payload cannot be read; OSError
    where the running image cannot.
    """
    size = header.size(operation)
    if operation.kind is Kind.ZERO:
        return _zeros(size)
    if operation.kind is Kind.COPY:
        return source_of(operation, header, running)
    source: list[Bytes] = [source_of(operation, header, running) if operation.source else b""]
    stored = payload.pread(operation.offset, operation.length)
    if len(stored) != operation.length:
        raise _corrupt(operation, "is cut short")
    if seal is not None:
        stored = seal.open(operation.offset - header.length, stored)
    if operation.kind is Kind.DENSE:
        from posagent.core import dense  # only the whole payload needs it

        result: Bytes = dense.unpacked(stored, size)
    elif operation.kind is Kind.DATA:
        result = _unpacked(stored, size, operation)
    else:
        result = _patched(operation.kind, stored, source, size, codecs)
    if hashlib.sha256(result).digest() != operation.sha256:
        raise _corrupt(operation, "does not match its digest")
    return result


def is_made(operation: Operation, there: Bytes) -> bool:
    """Whether these are the bytes that the operation makes, which are not zeros."""
    return hashlib.sha256(there).digest() == operation.sha256


def _patched(kind: Kind, stored: bytes, source: list[Bytes], size: int, codecs: Sequence[Codec]) -> Bytes:
    """`source` is taken out of its list: nobody else may hold it when its memory is needed."""
    from posagent.core import patch, repack  # a full payload needs none

    if kind is Kind.REPACK:
        return repack.repacked(stored, source.pop(), size, codecs)
    return patch.patched(stored, source.pop(), size)


def _unpacked(stored: bytes, size: int, operation: Operation) -> bytes:
    unpacker = zstd.ZstdDecompressor(options=_BOUNDS)
    try:
        raw = unpacker.decompress(stored, size + 1)
    except zstd.ZstdError as error:
        raise _corrupt(operation, f"cannot be unpacked: {error}") from None
    if len(raw) != size or not unpacker.eof or unpacker.unused_data:
        raise _corrupt(operation, "is not of its signed size")
    return raw


def _corrupt(operation: Operation, trouble: str) -> BundleError:
    at = operation.offset
    return BundleError("payload_corrupt", f"the operation stored at byte {at} {trouble}", at=at)


@lru_cache(maxsize=2)
def _zeros(size: int) -> bytes:
    return bytes(size)
