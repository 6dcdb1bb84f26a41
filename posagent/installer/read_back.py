"""Reads back what was written, from the medium: a part that was flushed while the next is written, at last the rest.

It is compared with the digest of what was written, or, where memory allows to keep that for so long, with itself, which
takes less CPU. Memory: a buffer for each thread; and KEPT_BYTES twice, of what is written and of what is read back.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from posagent.core.errors import SlotError
from posagent.core.ports import BlockDevice, Medium
from posagent.installer.ahead import Ahead, Items, by_turns
from posagent.installer.operations import Places, cut, gather
from posagent.installer.spare import Run

FLUSHED_BYTES = 8 << 20
"""Flushed, and then read back, at once."""
KEPT_BYTES = 4 << 20
"""The same where all of it is kept."""
PIECE_BYTES = 256 << 10
"""Read at once."""


class Written(NamedTuple):
    """What was written, with the digest of all of it if that is known."""

    runs: Sequence[Run]
    digest: bytes


class _Kept:
    """What was written together, to be compared with what is read back of it, part by part."""

    def __init__(self, made: Iterable[Written]) -> None:
        self._runs = deque(run for one in made for run in one.runs)
        self.places: Places = [(at, len(data)) for at, data in self._runs]

    def differs(self, there: bytearray, size: int) -> int | None:
        """Where in the slot, if the first `size` bytes of `there` are not the next of what was written."""
        begin = 0
        while begin < size:
            at, data = self._runs.popleft()
            fits = size - begin
            if len(data) > fits:
                data = memoryview(data)
                self._runs.appendleft((at + fits, data[fits:]))
                data = data[:fits]
            if not there.startswith(data, begin):  # views compare much slower
                return at
            begin += len(data)
        return None


class _Digested:
    """The same where only digests were kept; the places are packed, because there may be many."""

    def __init__(self, made: Iterable[Written]) -> None:
        self._left = [
            (array("Q", chain.from_iterable((at, len(data)) for at, data in one.runs)), one.digest or _digest(one.runs))
            for one in made
        ]
        self._found, self._size = hashlib.sha256(), 0

    @property
    def places(self) -> Places:
        return [place for where, _ in self._left for place in zip(where[::2], where[1::2], strict=True)]

    def differs(self, there: bytearray, size: int) -> int | None:
        """As above; known at the end of what has one digest."""
        with memoryview(there) as view:
            begin = 0
            while begin < size:
                where, digest = self._left[0]
                end = min(size, begin + sum(where[1::2]) - self._size)
                self._found.update(view[begin:end])
                self._size += end - begin
                begin = end
                if self._size == sum(where[1::2]):
                    if self._found.digest() != digest:
                        return where[0]
                    self._found, self._size = hashlib.sha256(), 0
                    del self._left[0]
        return None


class ReadBack:
    """Of what is written to `slot` by `device`, read by `spare`. `bytes_written` and `bytes_found` count; where nothing
    is to be read back (not `wanted`) the first is all that it does. To `keep` is to compare bytes, not digests."""

    def __init__(
        self, slot: str, device: BlockDevice, spare: Medium, ahead: Ahead, *, wanted: bool, keep: bool
    ) -> None:
        self._slot, self._device, self._spare, self._ahead = slot, device, spare, ahead
        self._wanted, self._keep = wanted, keep
        self._waiting: list[_Kept | _Digested] = []
        self._turns: list[Items[int]] = []
        self._waiting_bytes = 0
        self.bytes_written = self.bytes_found = 0

    def wrote(self, made: Sequence[Written], kept: int) -> None:
        """This was written together, and not flushed yet; `kept` bytes of memory hold it. Raises as `rest`, about what
        was written before."""
        size = sum(len(data) for one in made for _, data in one.runs)
        self.bytes_written += size
        if not size or not self._wanted:
            return
        self._waiting.append(_Kept(made) if self._keep else _Digested(made))
        self._waiting_bytes += kept if self._keep else size
        if self._waiting_bytes >= (KEPT_BYTES if self._keep else FLUSHED_BYTES):
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
        parts, self._waiting, self._waiting_bytes = self._waiting, [], 0
        self._turns = [
            self._ahead(self._compared(deque(parts[first::threads]), flush), lambda _: 0)  # it waits for nobody to hear
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

    def _compared(self, parts: deque[_Kept | _Digested], flush: bool) -> Items[int]:
        """Nothing, to begin with; then of each part how many bytes are as they should be."""
        yield 0
        if flush:
            self._device.flush()
            self._spare.drop_cache()
        there = bytearray(PIECE_BYTES)
        while parts:
            part, found = parts.popleft(), 0  # what was kept of it is let go
            for places, size in cut(part.places, PIECE_BYTES):
                with memoryview(there) as view:
                    gather(self._spare, places, view[:size])
                if (at := part.differs(there, size)) is not None:
                    raise SlotError("read_back_differs", f"slot {self._slot} at byte {at}", at=at)
                found += size
            yield found


def _digest(runs: Iterable[Run]) -> bytes:
    digest = hashlib.sha256()
    for _, data in runs:
        digest.update(data)
    return digest.digest()
