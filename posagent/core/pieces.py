"""Which parts of a file lie in a spool file, and where: they stand there in the order in which they were fetched.

The fetcher writes the list beside the spool file, the installer reads by it. A piece is `[offset, length]` in bytes of
the whole file; pieces do not overlap. The last one may be there in part only: `stored` bytes are there in all.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Any

PIECES_MAX = 4096
Piece = tuple[int, int]


class Pieces:
    """The pieces that are there."""

    def __init__(self, pieces: Iterable[Piece], stored: int) -> None:
        self._places: list[tuple[int, int, int]] = []
        at = 0
        for offset, length in pieces:
            length = min(length, stored - at)
            if length > 0:
                self._places.append((offset, length, at))
                at += length
        self._places.sort()

    def find(self, offset: int, length: int) -> Iterator[tuple[bool, int, int]]:
        """The `length` bytes from `offset` on, part by part: whether it is there, where in the spool file (else where
        in the whole file), and how long it is."""
        number = max(0, bisect_right(self._places, (offset, 1 << 62, 0)) - 1)
        while length > 0:
            begin, size, at = self._places[number] if number < len(self._places) else (offset + length, 0, 0)
            if begin + size <= offset and number < len(self._places):
                number += 1
                continue
            there = begin <= offset
            part = min(length, (begin + size if there else begin) - offset)
            yield there, at + offset - begin if there else offset, part
            offset, length = offset + part, length - part

    def missing(self, wanted: Iterable[Piece]) -> list[Piece]:
        """The parts of `wanted` that are not there."""
        parts = (part for offset, length in wanted for part in self.find(offset, length))
        return [(at, length) for there, at, length in parts if not there]


def joined(wanted: Iterable[Piece], gap: int, most: int = PIECES_MAX) -> list[Piece]:
    """The same bytes in order, neighbours joined where at most `gap` bytes lie between, or more, to have no more than
    `most` pieces."""
    found: list[Piece] = []
    for offset, length in sorted(wanted):
        end = found[-1][0] + found[-1][1] if found else -1
        if found and offset <= end + gap:
            found[-1] = (found[-1][0], max(end, offset + length) - found[-1][0])
        else:
            found.append((offset, length))
    return found if len(found) <= most else joined(found, max(4096, 2 * gap), most)


def of(value: Any) -> list[Piece] | None:
    """The pieces in a JSON value, or None where it is no such list."""
    if not isinstance(value, list) or len(value) > PIECES_MAX:
        return None
    sound = all(
        isinstance(one, list | tuple) and len(one) == 2 and all(type(number) is int and number >= 0 for number in one)
        for one in value
    )
    return [(offset, length) for offset, length in value] if sound else None
