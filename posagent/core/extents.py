"""Runs of blocks of an image, in which operations of a payload count.

Rules: what is read of a table is kept packed, because as objects it would take fifteen times the memory.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import starmap
from typing import NamedTuple, overload

BLOCK_BYTES = 4096


class Extent(NamedTuple):
    """`length` blocks from block number `start`."""

    start: int
    length: int


class Extents(Sequence[Extent]):
    """Extents, kept as the start and length of each in an array of 32-bit numbers."""

    __slots__ = ("_numbers",)

    def __init__(self, numbers: array[int]) -> None:
        self._numbers = numbers

    @property
    def blocks(self) -> int:
        """In all of them."""
        return sum(self._numbers[1::2])

    def __len__(self) -> int:
        return len(self._numbers) // 2

    def __iter__(self) -> Iterator[Extent]:
        return starmap(Extent, zip(self._numbers[::2], self._numbers[1::2], strict=True))

    @overload
    def __getitem__(self, index: int) -> Extent: ...
    @overload
    def __getitem__(self, index: slice) -> list[Extent]: ...
    def __getitem__(self, index: int | slice) -> Extent | list[Extent]:
        if isinstance(index, slice):
            return list(self)[index]
        number = range(len(self))[index]
        return Extent(self._numbers[2 * number], self._numbers[2 * number + 1])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(Extent.__eq__, self, other))

    def __hash__(self) -> int:
        return hash(tuple(self))


def blocks(size: int) -> int:
    """Blocks that `size` bytes take; the last may be cut short."""
    return -(-size // BLOCK_BYTES)


def spans(extents: Iterable[Extent], size: int) -> Iterator[tuple[int, int]]:
    """Offset and length in bytes of each extent of an image of `size` bytes."""
    for start, count in extents:
        at = start * BLOCK_BYTES
        yield at, min(count * BLOCK_BYTES, size - at)


def size_of(extents: Sequence[Extent], size: int) -> int:
    """Bytes in those extents of an image of `size` bytes."""
    if size % BLOCK_BYTES == 0:  # no block is cut short
        return BLOCK_BYTES * (extents.blocks if isinstance(extents, Extents) else sum(count for _, count in extents))
    return sum(length for _, length in spans(extents, size))
