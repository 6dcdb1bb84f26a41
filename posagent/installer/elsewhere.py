"""Finds what operations of a full payload make where it lies in the running slot, so that it need not be fetched: a
delta would say where; without one it is found by the digests of first blocks.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from functools import partial

from posagent.core.extents import BLOCK_BYTES, Extent, blocks
from posagent.core.payload import ANCHOR_BYTES, Header, Operation
from posagent.core.ports import Medium
from posagent.installer.ahead import once
from posagent.installer.operations import READ_BYTES, Bytes, is_made, read

PLACES_MAX = 8
"""How many places are tried for one operation."""


class Elsewhere:
    """In the slot that `running` reads, for the `operations` of one payload. It is read once, when the first is asked
    for; any thread may ask."""

    def __init__(self, running: Medium, operations: Iterable[Operation]) -> None:
        self._running = running
        self._places = once(partial(_places, running, operations))  # not of ourselves: it would keep the table alive

    def find(self, operation: Operation, header: Header) -> Bytes | None:
        """What the operation makes, or None. Raises OSError."""
        first = operation.target[0].start
        for place in self._places().get(operation.anchor, ()):
            moved = [Extent(start - first + place, count) for start, count in operation.target]
            if min(moved)[0] >= 0 and max(sum(one) for one in moved) <= blocks(self._running.size):
                found = read(self._running, moved, self._running.size)[: header.size(operation)]
                if is_made(operation, found):
                    return found
        return None


def _places(running: Medium, operations: Iterable[Operation]) -> dict[bytes, list[int]]:
    """Blocks of the running slot that may begin an operation, by its anchor."""
    wanted = {one.anchor for one in operations if one.anchor}
    places: dict[bytes, list[int]] = defaultdict(list)
    for at in range(0, running.size, READ_BYTES):
        data = memoryview(running.pread(at, min(READ_BYTES, running.size - at)))
        for start in range(0, len(data), BLOCK_BYTES):
            anchor = anchor_of(data[start : start + BLOCK_BYTES])
            if anchor in wanted and len(places[anchor]) < PLACES_MAX:
                places[anchor].append((at + start) // BLOCK_BYTES)
    return places


def anchor_of(block: bytes | memoryview) -> bytes:
    """By which an operation that begins with this block is found."""
    return hashlib.sha256(block).digest()[:ANCHOR_BYTES]
