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
from posagent.core.payload import WINDOW_LOG_MAX, Extent, Header, Kind, Operation, spans
from posagent.core.ports import ByteSource

if TYPE_CHECKING:
    from posagent.core.seal import Seal

Bytes = bytes | bytearray
_BOUNDS: dict[int, int] = {zstd.DecompressionParameter.window_log_max: WINDOW_LOG_MAX}


READ_BYTES = 512 << 10
"""At once."""
NEAR_BYTES = 16 << 10
"""So much between two places is read along: asking once more takes longer."""


def read(image: ByteSource, extents: Sequence[Extent], size: int) -> Bytes:
    """The extents' bytes of an image of `size` bytes. Raises OSError."""
    return gathered(image, list(spans(extents, size)))


def gathered(image: ByteSource, places: Sequence[tuple[int, int]]) -> Bytes:
    """The bytes at those places (offset and length), in their order; read in the order of the image. Raises OSError."""
    if len(places) == 1 and places[0][1] <= READ_BYTES:
        return image.pread(*places[0])
    whole = bytearray(sum(length for _, length in places))  # joining parts would take twice the memory
    for start, stop, parts in _joined(places):
        data = image.pread(start, stop - start)
        for at, length, begin in parts:
            whole[begin : begin + length] = data[at - start : at - start + length]
    return whole


def _joined(places: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, list[tuple[int, int, int]]]]:
    """Begin and end of each read, and the parts that it has: where they are, how long, and where they go."""
    cut, begin = [], 0
    for at, length in places:
        for offset in range(0, length, READ_BYTES):
            cut.append((at + offset, min(READ_BYTES, length - offset), begin + offset))
        begin += length
    cut.sort()
    start, stop, parts = 0, 0, list[tuple[int, int, int]]()
    for part in cut:
        at, end = part[0], part[0] + part[1]
        if parts and (at > stop + NEAR_BYTES or end > start + READ_BYTES):
            yield start, stop, parts
            parts = []
        if not parts:
            start, stop = at, end
        parts.append(part)
        stop = max(stop, end)
    if parts:
        yield start, stop, parts


def source_of(operation: Operation, header: Header, running: ByteSource) -> Bytes:
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
    running: ByteSource,
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
    source = [source_of(operation, header, running)]
    if operation.kind is Kind.COPY:
        return source.pop()
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
