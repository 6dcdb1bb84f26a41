"""Makes the bytes of a `patch` operation from its stored data and from what it reads of the source.

    4 × 4 bytes  little-endian: number of steps, and packed lengths of the three streams that follow
    …        control, differences, new bytes

A step takes some bytes of the source, adds one of the differences to each (modulo 256), and appends some new bytes.
Control is three columns of LEB128: of each step how many bytes of the source, how many new ones, and where it reads the
source, counted from where the step before ended: even numbers forward, odd ones back.
Rules: the size of everything is known before it is unpacked; no step reads beside the source. Streams are unpacked in
pieces, so that memory holds the source, what is made, and little more. The digest of what is made is the caller's.
"""

from __future__ import annotations

import lzma
import struct
from collections.abc import Iterator
from typing import Protocol

from posagent.core.errors import BundleError
from posagent.core.payload import NUMBER_BYTES_MAX

HEAD = struct.Struct("<IIII")
PIECE_BYTES = 1 << 16
SUM_BYTES = 1 << 12
STEPS_MAX = 1 << 17
DICTIONARY_BYTES = 1 << 20
PACKING = [{"id": lzma.FILTER_LZMA2, "dict_size": DICTIONARY_BYTES}]
"""All that the unpacker must know; the rest stands in the streams."""
_LOW, _HIGH = (int.from_bytes(bytes([byte]) * SUM_BYTES, "little") for byte in (0x7F, 0x80))
_ZEROS = bytes(PIECE_BYTES)


class Source(Protocol):
    """Bytes, in slices."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: slice, /) -> bytes | bytearray: ...


def patched(stored: bytes, source: Source, size: int) -> bytearray:
    """The `size` bytes that `stored` makes of `source`. Raises BundleError `payload_corrupt`."""
    try:
        return _Patch(stored, source, size).make()
    except (lzma.LZMAError, struct.error, IndexError):
        raise _corrupt("cannot be unpacked") from None


class _Patch:
    def __init__(self, stored: bytes, source: Source, size: int) -> None:
        self._count, *lengths = HEAD.unpack_from(stored)
        if self._count > STEPS_MAX or HEAD.size + sum(lengths) != len(stored):
            raise _corrupt("has not the length it claims")
        self._source, self._size = source, size
        at, streams = HEAD.size, []
        for length in lengths:
            streams.append(_Stream(stored[at : at + length]))
            at += length
        control, self._differences, self._fresh = streams
        self._numbers = numbers(control.rest(3 * self._count * NUMBER_BYTES_MAX))
        if len(self._numbers) != 3 * self._count:
            raise _corrupt("has not the numbers of its steps")

    def make(self) -> bytearray:
        made, done = bytearray(self._size), 0
        batch: list[tuple[int, bytes | bytearray]] = []
        """Where pieces of the source go, and the pieces: differences are added to many at once."""
        waiting = 0
        for at, add, new in self._steps():
            if at < 0 or at + add > len(self._source) or done + add + new > self._size:
                raise _corrupt("leads beside the source or the target")
            while add:
                length = min(add, PIECE_BYTES - waiting)
                batch.append((done, self._source[at : at + length]))
                at, add, done, waiting = at + length, add - length, done + length, waiting + length
                if waiting == PIECE_BYTES:
                    self._add(batch, made)
                    batch, waiting = [], 0
            while new:
                length = min(new, PIECE_BYTES)
                made[done : done + length] = self._fresh.take(length)
                new, done = new - length, done + length
        self._add(batch, made)
        if done != self._size or not self._differences.is_empty() or not self._fresh.is_empty():
            raise _corrupt("makes another number of bytes than it must")
        return made

    def _add(self, batch: list[tuple[int, bytes | bytearray]], made: bytearray) -> None:
        """Put the pieces with their differences in their places."""
        pieces = b"".join(piece for _, piece in batch)
        sums, at = memoryview(summed(pieces, self._differences.take(len(pieces)))), 0
        for place, piece in batch:
            made[place : place + len(piece)] = sums[at : at + len(piece)]
            at += len(piece)

    def _steps(self) -> Iterator[tuple[int, int, int]]:
        """Of each step: where it reads the source, how many bytes, and how many new ones."""
        count, numbers, at = self._count, self._numbers, 0
        for add, new, gap in zip(numbers[:count], numbers[count : 2 * count], numbers[2 * count :], strict=True):
            at += -(gap + 1) // 2 if gap & 1 else gap // 2
            yield at, add, new
            at += add


class _Stream:
    """A packed stream, taken piece by piece."""

    def __init__(self, packed: bytes) -> None:
        self._packed = packed
        self._unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=PACKING)
        self._piece, self._at = b"", 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        while len(self._piece) < self._at + count:
            more = self._more()
            if not more:
                raise _corrupt("ends early")
            self._piece, self._at = self._piece[self._at :] + more, 0
        self._at += count
        return self._piece[self._at - count : self._at]

    def rest(self, most: int) -> bytes:
        """All of it, if it is no more than that."""
        rest = self._unpacker.decompress(self._packed, most + 1)
        if len(rest) > most:
            raise _corrupt("is longer than it may be")
        return rest

    def is_empty(self) -> bool:
        nothing = self._at == len(self._piece) and not self._more()
        return nothing and self._unpacker.eof and not self._unpacker.unused_data

    def _more(self) -> bytes:
        if self._unpacker.eof:
            return b""
        packed, self._packed = self._packed, b""
        return self._unpacker.decompress(packed, PIECE_BYTES)


def summed(source: bytes | bytearray, differences: bytes) -> bytes | bytearray:
    """The sums of the bytes at equal places, modulo 256; equally many, at most PIECE_BYTES. Most differences are 0."""
    if differences == _ZEROS[: len(differences)]:
        return source
    places = [slice(at, at + SUM_BYTES) for at in range(0, len(source), SUM_BYTES)]
    return b"".join(_added(source[place], differences[place]) for place in places)


def _added(one: bytes | bytearray, other: bytes) -> bytes | bytearray:
    """All sums at once, as one large number: without their highest bits none reaches into the next byte."""
    if other == _ZEROS[: len(other)]:
        return one
    a, b = int.from_bytes(one, "little"), int.from_bytes(other, "little")
    return (((a & _LOW) + (b & _LOW)) ^ ((a ^ b) & _HIGH)).to_bytes(len(one), "little")


def numbers(data: bytes) -> list[int]:
    """The numbers of LEB128 in `data`. Raises IndexError where the last ends early, BundleError for one without end."""
    found, value, shift = [], 0, 0
    for byte in data:
        if byte < 128:
            found.append(value | byte << shift)
            value = shift = 0
        else:
            value |= (byte & 127) << shift
            shift += 7
            if shift >= 7 * NUMBER_BYTES_MAX:
                raise _corrupt("has a number that does not end")
    if shift:
        raise IndexError
    return found


def _corrupt(trouble: str) -> BundleError:
    return BundleError("payload_corrupt", f"patch: it {trouble}")
