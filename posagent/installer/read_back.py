"""Reads back what was written, from the medium: a part that was flushed while the next is written, at last the rest.

Owns: what was written where, as digests. Memory: a buffer for each thread.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence

from posagent.core.errors import SlotError
from posagent.core.ports import BlockDevice, Medium
from posagent.installer.ahead import Ahead, Items, by_turns
from posagent.installer.operations import cut, gather

FLUSHED_BYTES = 8 << 20
"""Flushed, and then read back, at once."""
PIECE_BYTES = 256 << 10
"""Read at once."""
TOLD_BYTES = 512 << 10
"""What is found is told so many bytes together."""
Written = tuple["array[int]", bytes]
"""Where something was written (offset and length of each run, packed: there may be many), and its digest."""


class ReadBack:
    """Of what is written to `slot` by `device`, read by `spare`. `bytes_written` and `bytes_found` count; where nothing
    is to be read back the first is all that it does."""

    def __init__(self, slot: str, device: BlockDevice, spare: Medium, ahead: Ahead, *, wanted: bool) -> None:
        self._slot, self._device, self._spare, self._ahead, self._wanted = slot, device, spare, ahead, wanted
        self._waiting: list[Written] = []
        self._turns: list[Items[int]] = []
        self._waiting_bytes = 0
        self.bytes_written = self.bytes_found = 0

    def wrote(self, places: Sequence[tuple[int, int]], digest: bytes) -> None:
        """This was written, and not flushed yet. Raises as `rest`, about what was written before."""
        where = array("Q", [number for place in places for number in place])
        self.bytes_written += _length(where)
        if not self._wanted:
            return
        self._waiting.append((where, digest))
        self._waiting_bytes += _length(where)
        if self._waiting_bytes >= FLUSHED_BYTES:
            for _ in self._ended():
                pass
            self._begin(threads=1, flush=True)  # others are at work

    def rest(self) -> Iterator[int]:
        """Flush, and read back all that was not yet; yields `bytes_found` as it grows. Raises SlotError
        `read_back_differs`, OSError."""
        yield from self._ended()
        self._device.drop_cache()
        self._spare.drop_cache()
        self._begin(threads=2)
        yield from self._ended()

    def close(self) -> None:
        """No thread runs afterwards."""
        for turn in self._turns:
            turn.close()

    def _begin(self, threads: int, flush: bool = False) -> None:
        parts = list(_together(self._waiting))
        self._waiting, self._waiting_bytes = [], 0
        self._turns = [
            self._ahead(self._compared(parts[first::threads], flush), lambda _: 0)  # it does not wait to be heard
            for first in range(threads)
        ]
        for turn in self._turns:
            next(turn)

    def _ended(self) -> Iterator[int]:
        """What is read back already or just now."""
        for size in by_turns(self._turns):
            self.bytes_found += size
            yield self.bytes_found
        self._turns = []

    def _compared(self, parts: Iterable[list[Written]], flush: bool) -> Items[int]:
        """Nothing, to begin with; then of each part how many bytes are as they should be."""
        yield 0
        if flush:
            self._device.flush()
            self._spare.drop_cache()
        there = memoryview(bytearray(PIECE_BYTES))
        for part in parts:
            digests = [hashlib.sha256() for _ in part]
            left = [_length(where) for where, _ in part]
            number = 0
            places = [place for where, _ in part for place in zip(where[::2], where[1::2], strict=True)]
            for some, size in cut(places, PIECE_BYTES):
                gather(self._spare, some, there[:size])
                begin = 0
                while begin < size:
                    if not left[number]:
                        number += 1
                    end = min(size, begin + left[number])
                    digests[number].update(there[begin:end])
                    left[number] -= end - begin
                    begin = end
            for (where, digest), found in zip(part, digests, strict=True):
                if found.digest() != digest:
                    raise SlotError("read_back_differs", f"slot {self._slot} at byte {where[0]}", at=where[0])
            yield sum(_length(where) for where, _ in part)


def _together(written: Iterable[Written]) -> Iterator[list[Written]]:
    """The same, so many at a time that they have TOLD_BYTES or little more."""
    part, size = list[Written](), 0
    for one in written:
        part.append(one)
        size += _length(one[0])
        if size >= TOLD_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _length(where: array[int]) -> int:
    return sum(where[1::2])
