"""The shape of a payload file: a table of operations that make an image, then the data that they need.

    8 bytes  magic "POSPAY2\\n"
    4 bytes  length of the packed table, little-endian
    4 bytes  length of the table itself
    n bytes  the table, packed with raw LZMA2
    …        the operations' stored bytes, in the order of the operations, nothing between or after them

An operation fills some extents of the image, in blocks of 4 KiB: with zeros (`zero`), from extents of the source, that
is the image that runs now (`copy`), from stored bytes alone (`data`: a zstd frame; `dense`, see core.dense), or from
both (`patch`, see core.patch). Its digest is of the bytes it makes, in the order of its extents; that of its source is
of the source's bytes, likewise. The anchor of an operation with stored bytes begins the digest of its first block: by
it what the operation makes is found where it lies already, so that it need not be fetched. Together the operations fill
every block once. The table is made of columns, because those of one kind pack well together: numbers in LEB128,
digests as they are. Stored bytes may be encrypted, each operation's by themselves (core.seal).

The digest of everything before the data ("the header") stands in the signed manifest: from it each operation is
authentic by itself, so that writing can begin or go on anywhere, with whatever part of the file there is.
Never: unpacking data; that is the installer's. Rules: bounded before it is parsed.
"""

from __future__ import annotations

import hashlib
import lzma
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import islice
from typing import NamedTuple

from posagent.core.codec import ANSWER_BYTES, CODECS_MAX, LEVEL_MAX, VERSION_MAX, CodecKind, CodecSpec
from posagent.core.errors import BundleError
from posagent.core.extents import BLOCK_BYTES, Extent, Extents, blocks, size_of
from posagent.core.manifest import LENGTH_MAX, Manifest
from posagent.core.ports import ByteSource

MAGIC = b"POSPAY2\n"
PREFIX_BYTES = 16
OPERATION_BYTES_MAX = 4 << 20
"""What an operation makes, and what it reads of the source."""
OPERATIONS_MAX = 1 << 16
EXTENTS_MAX = 1 << 17
ANCHOR_BYTES = 8
STORED_BYTES_MAX = OPERATION_BYTES_MAX + (1 << 16)
"""Data that cannot be compressed grows a little."""
TABLE_BYTES_MAX = 16 << 20
HEADER_BYTES_MAX = 4 << 20
WINDOW_LOG_MAX = 20
"""zstd window of `data`: the installer refuses larger ones, the builder makes none."""
DIGEST_BYTES = 32
NUMBER_BYTES_MAX = 7
PACKING = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20, "lc": 0, "lp": 0, "pb": 0}]


class Kind(IntEnum):
    ZERO = 0
    COPY = 1
    DATA = 2
    PATCH = 3
    REPACK = 4
    DENSE = 5


STORED = (Kind.DATA, Kind.PATCH, Kind.REPACK, Kind.DENSE)
"""Operations that need bytes of the payload."""
PATCHED = (Kind.PATCH, Kind.REPACK)
"""Those that may read the source, too."""


class Operation(NamedTuple):
    """`sha256` is of what it makes (empty for zeros), `source_sha256` of what it reads of the source (empty where that
    is nothing); `length` bytes are stored at `offset` of the payload file."""

    kind: Kind
    target: Sequence[Extent]
    source: Sequence[Extent] = ()
    sha256: bytes = b""
    source_sha256: bytes = b""
    anchor: bytes = b""
    offset: int = 0
    length: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Sizes in bytes; `source_size` is 0 for a payload that needs no source, `length` is the header's own; `codecs` are
    what `repack` operations need."""

    image_size: int
    source_size: int
    operations: tuple[Operation, ...]
    length: int = 0
    codecs: tuple[CodecSpec, ...] = ()

    def size(self, operation: Operation) -> int:
        """Bytes that the operation makes."""
        return size_of(operation.target, self.image_size)


# writing


def encode_header(header: Header) -> bytes:
    """The payload's first bytes, up to the data; the operations' `offset` is left out, it follows from the order."""
    operations = header.operations
    numbers = [header.image_size, header.source_size, len(operations)]
    numbers += [one.kind for one in operations]
    codecs = header.codecs if any(one.kind is Kind.REPACK for one in operations) else ()
    if codecs:
        numbers += [len(codecs), *(value for one in codecs for value in (one.kind, one.level, one.version))]
    numbers += [one.length for one in operations if one.kind in STORED]
    numbers += _shares([one.target for one in operations])
    numbers += _gaps(extent for one in operations for extent in one.target)
    numbers += _gaps(extent for one in operations if one.kind is Kind.COPY for extent in one.source)
    patches = [one.source for one in operations if one.kind in PATCHED]
    numbers += _shares(patches)
    numbers += _gaps(extent for source in patches for extent in source)
    digests = [one.sha256 for one in operations if one.kind is not Kind.ZERO]
    digests += [one.source_sha256 for one in operations if one.kind in PATCHED]
    digests += [one.anchor for one in operations if one.kind in STORED]
    digests += [one.answer for one in codecs]
    table = b"".join(map(number, numbers)) + b"".join(digests)
    packed = lzma.compress(table, lzma.FORMAT_RAW, filters=PACKING)
    return MAGIC + len(packed).to_bytes(4, "little") + len(table).to_bytes(4, "little") + packed


def _shares(lists: Sequence[Sequence[Extent]]) -> list[int]:
    """How many extents each list has, and how many blocks each extent."""
    return [len(one) for one in lists] + [extent.length for one in lists for extent in one]


def _gaps(extents: Iterable[Extent]) -> list[int]:
    """How far each extent begins behind the end of the one before: even numbers forward, odd ones back."""
    gaps, end = [], 0
    for start, count in extents:
        gap = start - end
        gaps.append(gap * 2 if gap >= 0 else -gap * 2 - 1)
        end = start + count
    return gaps


def number(value: int) -> bytes:
    """LEB128."""
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    made.append(value)
    return bytes(made)


# reading


def header_length(prefix: bytes) -> int:
    """Bytes of the whole header, from the payload's first 16. Raises BundleError."""
    if len(prefix) < PREFIX_BYTES or not prefix.startswith(MAGIC):
        raise _unreadable("it does not begin like a payload")
    length = PREFIX_BYTES + int.from_bytes(prefix[8:12], "little")
    if length > HEADER_BYTES_MAX:
        raise BundleError("bundle_too_large", f"payload: a header of {length} bytes is more than {HEADER_BYTES_MAX}")
    return length


def parse_header(data: bytes, payload_length: int) -> Header:
    """The header in `data`, which must be the whole header, for a payload file of `payload_length` bytes.

    Raises BundleError `bundle_unreadable` or `bundle_too_large`.
    """
    if header_length(data[:PREFIX_BYTES]) != len(data):
        raise _unreadable("the header is cut short")
    table = _Table(_unpacked(data[PREFIX_BYTES:], int.from_bytes(data[12:PREFIX_BYTES], "little")))
    image_size, source_size = table.number(1, LENGTH_MAX), table.number(0, LENGTH_MAX)
    count = table.number(1, OPERATIONS_MAX)
    kinds = [Kind(kind) for kind in table.numbers(count, 0, max(Kind))]
    codecs = range(table.number(1, CODECS_MAX) if Kind.REPACK in kinds else 0)
    named = [
        (CodecKind(table.number(0, max(CodecKind))), table.number(0, LEVEL_MAX), table.number(0, VERSION_MAX))
        for _ in codecs
    ]
    stored, patched = sum(kind in STORED for kind in kinds), sum(kind in PATCHED for kind in kinds)
    lengths = iter(table.numbers(stored, 1, STORED_BYTES_MAX))
    targets = table.placed(table.shares(count, 1), blocks(image_size))
    copied = [target for kind, target in zip(kinds, targets, strict=True) if kind is Kind.COPY]
    copies = iter(table.placed([[extent.length for extent in one] for one in copied], blocks(source_size)))
    patches = iter(table.placed(table.shares(patched, 0), blocks(source_size)))
    made = iter(table.digests(count - kinds.count(Kind.ZERO), DIGEST_BYTES))
    read = iter(table.digests(patched, DIGEST_BYTES))
    anchors = iter(table.digests(stored, ANCHOR_BYTES))
    specs = tuple(CodecSpec(*one, table.bytes(ANSWER_BYTES)) for one in named)
    operations, offset = [], len(data)
    for kind, target in zip(kinds, targets, strict=True):
        sha256 = next(made) if kind is not Kind.ZERO else b""
        one = Operation(
            kind=kind,
            target=target,
            source=next(copies) if kind is Kind.COPY else next(patches) if kind in PATCHED else (),
            sha256=sha256,
            source_sha256=sha256 if kind is Kind.COPY else next(read) if kind in PATCHED else b"",
            anchor=next(anchors) if kind in STORED else b"",
            offset=offset,
            length=next(lengths) if kind in STORED else 0,
        )
        _check(one, image_size, source_size)
        operations.append(one)
        offset += one.length
    table.end()
    if offset != payload_length:
        raise _unreadable(f"the data ends at byte {offset} of {payload_length}")
    _check_cover((extent for target in targets for extent in target), blocks(image_size))
    sizes = {"image_size": image_size, "source_size": source_size, "length": len(data)}
    return Header(**sizes, operations=tuple(operations), codecs=specs)


def read_header(source: ByteSource, manifest: Manifest) -> Header:
    """The authentic header of the payload in `source`. Reads only the header.

    Raises BundleError: `bundle_unreadable` for another length or shape than signed, `payload_corrupt` for other bytes.
    """
    if source.size != manifest.length:
        raise _unreadable(f"it has {source.size} bytes, not {manifest.length}")
    data = source.pread(0, header_length(source.pread(0, PREFIX_BYTES)))
    if hashlib.sha256(data).hexdigest() != manifest.header_sha256:
        raise BundleError("payload_corrupt", "payload: the header does not match its signed digest")
    header = parse_header(data, manifest.length)
    if (header.image_size, header.source_size) != (manifest.image_size, manifest.source_size):
        made = f"{header.image_size} bytes of {header.source_size}"
        raise _unreadable(f"it makes {made}, signed were {manifest.image_size} of {manifest.source_size}")
    return header


def _unpacked(packed: bytes, size: int) -> bytes:
    if size > TABLE_BYTES_MAX:
        raise BundleError("bundle_too_large", f"payload: a table of {size} bytes is more than {TABLE_BYTES_MAX}")
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=PACKING)
    try:
        table = unpacker.decompress(packed, size + 1)
    except lzma.LZMAError:
        raise _unreadable("the table cannot be unpacked") from None
    if len(table) != size:
        raise _unreadable(f"the table has not the {size} bytes it claims")
    return table


class _Table:
    """The table while it is read."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def number(self, low: int, high: int) -> int:
        return self.numbers(1, low, high)[0]

    def numbers(self, count: int, low: int, high: int) -> array[int]:
        """The next so many, each from `low` to `high`."""
        data, at, found = self._data, self._at, array("Q")
        try:
            for _ in range(count):
                value = shift = 0
                while (byte := data[at]) > 127 and shift < 7 * NUMBER_BYTES_MAX:
                    value |= (byte & 127) << shift
                    at, shift = at + 1, shift + 7
                value |= byte << shift
                at += 1
                if not low <= value <= high:
                    raise _unreadable(f"{value} is not from {low} to {high}")
                found.append(value)
        except IndexError:
            raise _unreadable("the table ends early") from None
        self._at = at
        return found

    def shares(self, lists: int, least: int) -> list[array[int]]:
        """The counts of blocks in each of so many lists of extents, at least so many extents each."""
        lengths = self.numbers(lists, least, EXTENTS_MAX)
        if sum(lengths) > EXTENTS_MAX:
            raise BundleError("bundle_too_large", f"payload: {sum(lengths)} extents are more than {EXTENTS_MAX}")
        counts = iter(self.numbers(sum(lengths), 1, OPERATION_BYTES_MAX // BLOCK_BYTES))
        return [array("I", islice(counts, length)) for length in lengths]

    def placed(self, shares: Sequence[Sequence[int]], blocks_in_all: int) -> list[Extents]:
        """Extents of those counts at their places in an image of so many blocks."""
        gaps = iter(self.numbers(sum(map(len, shares)), 0, 2 * LENGTH_MAX // BLOCK_BYTES))
        end, made = 0, []
        for counts in shares:
            numbers = array("I")
            for count, gap in zip(counts, gaps, strict=False):  # in this order: no gap is taken in vain
                start = end + (-(gap + 1) // 2 if gap & 1 else gap // 2)
                end = start + count
                if start < 0 or end > blocks_in_all:
                    raise _unreadable(f"blocks {start} to {end} of {blocks_in_all}")
                numbers.append(start)
                numbers.append(count)
            made.append(Extents(numbers))
        return made

    def digests(self, count: int, size: int) -> list[bytes]:
        whole = self.bytes(count * size)
        return [whole[at : at + size] for at in range(0, len(whole), size)]

    def bytes(self, count: int) -> bytes:
        found = self._data[self._at : self._at + count]
        if len(found) < count:
            raise _unreadable("a digest is missing")
        self._at += count
        return found

    def end(self) -> None:
        if self._at != len(self._data):
            raise _unreadable("the table does not end where it should")


def _check(one: Operation, image_size: int, source_size: int) -> None:
    made, read = size_of(one.target, image_size), size_of(one.source, source_size) if one.source else 0
    if not 0 < made <= OPERATION_BYTES_MAX or read > OPERATION_BYTES_MAX:
        raise _unreadable(f"an operation makes {made} bytes of {read}")
    if one.kind is Kind.COPY and made != read:
        raise _unreadable(f"a copy of {read} bytes makes {made}")


def _check_cover(extents: Iterable[Extent], count: int) -> None:
    """Every block is made once."""
    end = 0
    for both in sorted(start << 32 | length for start, length in extents):  # plain numbers take a third of the memory
        start, length = both >> 32, both & 0xFFFFFFFF
        if start != end:
            raise _unreadable(f"block {min(end, start)} is made twice or never")
        end += length
    if end != count:
        raise _unreadable(f"the operations make {end} of {count} blocks")


def _unreadable(trouble: str) -> BundleError:
    return BundleError("bundle_unreadable", f"payload: {trouble}")
