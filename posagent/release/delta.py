"""What of a new image can be taken from an old one: which blocks are there already, and how the others differ.

Knows nothing of file systems: blocks of NEW that are anywhere in OLD are copied. All others, one behind the other, are
one string; the blocks of OLD that are no more, each with its neighbours, are another; one suffix-sorted difference
between the two (bsdiff) finds what moved within and across files. It is cut into pieces of bounded size.
"""

from __future__ import annotations

import dataclasses
import hashlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from posagent.core.extents import BLOCK_BYTES, Extent, spans
from posagent.core.payload import ANCHOR_BYTES

BORDER = 1
"""Neighbours on each side of a vanished block: what a changed block was made of often reaches into them."""
WINDOW_BYTES = 48 << 20
"""Of the old image's vanished blocks, compared at once: bsdiff takes seventeen times as much memory."""
SOURCE_BYTES_MAX = 3 << 20
"""What a patch reads of the source is in a terminal's memory as long as it is made; more is allowed."""
ZEROS = bytes(BLOCK_BYTES)


class Image(Protocol):
    """Bytes of an image, in slices."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: slice, /) -> bytes: ...


class Step(NamedTuple):
    """Of a difference: `add` bytes of OLD from `at` on, changed by as many, then `new` bytes."""

    at: int
    add: int
    new: int


@dataclass(frozen=True, slots=True)
class Match:
    """Blocks of NEW by where they come from. `copies` are pairs of block numbers (new, old)."""

    zeros: list[int]
    copies: list[tuple[int, int]]
    changed: list[int]
    vanished: list[int]


def match(new: Image, old: Image) -> Match:
    """Find every block of `new` in `old`; of equal ones the one that makes the longest run, else the one in place."""
    digests = [_digest(old, number) for number in range(len(old) // BLOCK_BYTES)]
    where: dict[bytes, int] = {}
    for number, digest in enumerate(digests):
        where.setdefault(digest, number)
    nothing = hashlib.blake2b(ZEROS, digest_size=16).digest()
    found = Match([], [], [], [])
    taken: set[bytes] = {nothing}
    follows = -1
    for number in range(-(-len(new) // BLOCK_BYTES)):
        digest = _digest(new, number)
        first = where.get(digest)
        if digest == nothing:
            found.zeros.append(number)
        elif first is None:
            found.changed.append(number)
        else:
            likely = [one for one in (follows, number) if 0 <= one < len(digests) and digests[one] == digest]
            source = likely[0] if likely else first
            found.copies.append((number, source))
            taken.add(digest)
            follows = source + 1
    found.vanished.extend(number for number, digest in enumerate(digests) if digest not in taken)
    return found


def _digest(image: Image, number: int) -> bytes:
    """A last block that is cut short never equals a whole one."""
    at = number * BLOCK_BYTES
    return hashlib.blake2b(image[at : at + BLOCK_BYTES], digest_size=16).digest()


def read(image: Image, extents: Iterable[Extent]) -> bytes:
    return b"".join(image[at : at + length] for at, length in spans(extents, len(image)))


def anchor(made: bytes) -> bytes:
    """Of an operation that makes these bytes."""
    return hashlib.sha256(made[:BLOCK_BYTES]).digest()[:ANCHOR_BYTES]


def with_neighbours(numbers: Sequence[int], count: int) -> list[int]:
    """Those blocks and BORDER on each side, of an image of `count` whole blocks."""
    wide = {one + by for one in numbers for by in range(-BORDER, BORDER + 1)}
    return sorted(one for one in wide if 0 <= one < count)


def runs(numbers: Sequence[int]) -> Iterator[Extent]:
    """Consecutive numbers as extents."""
    start = 0
    for at in range(1, len(numbers) + 1):
        if at == len(numbers) or numbers[at] != numbers[at - 1] + 1:
            yield Extent(numbers[start], at - start)
            start = at


def copied(copies: Sequence[tuple[int, int]], blocks_max: int) -> Iterator[list[tuple[Extent, Extent]]]:
    """So many of the blocks at a time, as pairs of extents (new, old) that are consecutive in both images."""
    for first in range(0, len(copies), blocks_max):
        some, pairs, start = copies[first : first + blocks_max], [], 0
        for at in range(1, len(some) + 1):
            if at == len(some) or some[at] != (some[at - 1][0] + 1, some[at - 1][1] + 1):
                (new, old), count = some[start], at - start
                pairs.append((Extent(new, count), Extent(old, count)))
                start = at
        yield pairs


def difference(new: bytes, old: bytes, window_bytes: int = WINDOW_BYTES) -> tuple[list[Step], bytes, bytes]:
    """How `new` comes from `old`: steps, the bytes to add, the new bytes, both in the order of the steps.

    Where `old` is larger than a window, both are cut into as many parts, each compared with its like alone: what moved
    farther is not found.
    """
    steps: list[Step] = []
    added, fresh = bytearray(), bytearray()
    count = max(1, -(-len(old) // window_bytes))
    places = [
        tuple(slice(len(data) * part // count, len(data) * (part + 1) // count) for data in (new, old))
        for part in range(count)
    ]
    for wanted, source in places:
        found, add, rest = _difference(new[wanted], old[source])
        steps += [step._replace(at=step.at + source.start) for step in found]
        added += add
        fresh += rest
    return steps, bytes(added), bytes(fresh)


def _difference(new: bytes, old: bytes) -> tuple[list[Step], bytes, bytes]:
    import bsdiff4.core as bsdiff  # only where a delta is built

    control, add, fresh = bsdiff.diff(old, new)
    numbers = [-(one & ~(1 << 63)) if one >> 63 else one for (one,) in struct.iter_unpack("<Q", control)]
    steps, at = [], 0
    for length, count, seek in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True):
        steps.append(Step(at, length, count))
        at += length + seek
    return steps, add, fresh


@dataclass(frozen=True, slots=True)
class Piece:
    """The part of a difference that makes `size` bytes of NEW from byte `start` on."""

    start: int
    size: int
    steps: list[Step]
    add: bytes
    new: bytes


def pieces(steps: Sequence[Step], add: bytes, new: bytes, size: int) -> Iterator[Piece]:
    """The difference cut into pieces that make `size` bytes, whole blocks; smaller ones where too much is read."""
    start = added = appended = 0
    for piece in _cut(steps, size):
        made = sum(step.add + step.new for step in piece)
        yield from _bounded(
            Piece(
                start,
                made,
                piece,
                add[added : (added := added + sum(step.add for step in piece))],
                new[appended : (appended := appended + sum(step.new for step in piece))],
            )
        )
        start += made


def _bounded(piece: Piece) -> Iterator[Piece]:
    if piece.size <= BLOCK_BYTES or len(blocks_read(piece.steps)) * BLOCK_BYTES <= SOURCE_BYTES_MAX:
        yield piece  # no piece is smaller than a block
        return
    half = -(-piece.size // 2 // BLOCK_BYTES) * BLOCK_BYTES
    for part in pieces(piece.steps, piece.add, piece.new, half):
        yield dataclasses.replace(part, start=piece.start + part.start)


def blocks_read(steps: Sequence[Step]) -> list[int]:
    """Numbers of the blocks of OLD that the steps read."""
    reads = (range(at // BLOCK_BYTES, -(-(at + add) // BLOCK_BYTES)) for at, add, _ in steps if add)
    return sorted({number for read in reads for number in read})


def _cut(steps: Sequence[Step], size: int) -> Iterator[list[Step]]:
    """The same steps in lists that each make `size` bytes; the last one makes what is left."""
    piece: list[Step] = []
    room = size
    for at, add, new in steps:
        while add or new:
            take = min(add, room)
            fresh = min(new, room - take) if take == add else 0
            piece.append(Step(at, take, fresh))
            at, add, new, room = at + take, add - take, new - fresh, room - take - fresh
            if not room:
                yield piece
                piece, room = [], size
    if piece:
        yield piece
