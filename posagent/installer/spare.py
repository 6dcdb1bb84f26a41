"""What of a step the spare slot lacks: as little as possible is written, and little is read to know it.

Of most operations a few blocks are looked at first: where none of these, and none of the last ones before them, was
there, nothing else is read, and all is written.
"""

from __future__ import annotations

from collections.abc import Iterator

from posagent.core.extents import BLOCK_BYTES
from posagent.core.ports import Medium
from posagent.installer.operations import Bytes, cut, gather
from posagent.installer.work import Step

PIECE_BYTES = 256 << 10
"""Compared at once."""
SAMPLE_BYTES = 16 * BLOCK_BYTES
"""Of so many bytes one block tells whether it is worth to look at the others: reading is not free."""
SAMPLES_MIN = 8
"""Fewer in a row tell nothing."""
SAMPLED_SHARE_MAX = 4
"""Where extents are so small that one block in so many would be looked at, all are read."""
Run = tuple[int, memoryview | bytes]
"""Bytes to be written at an offset of the slot."""


class Spare:
    """The spare slot, compared with one step after the other."""

    def __init__(self, slot: Medium) -> None:
        self._slot = slot
        self._there = memoryview(bytearray(PIECE_BYTES))
        self._unlike = {"zeros": 0, "others": 0}
        """Blocks in a row that were looked at and not there; free space is one thing, files are another."""

    def lacks(self, step: Step) -> Iterator[Run]:
        """What is to be written."""
        wanted, begin = memoryview(step.wanted), 0
        if not self._sampled(step, "others" if step.sha256 else "zeros"):
            for at, length in step.places:
                yield at, wanted[begin : begin + length]
                begin += length
            return
        for places, size in cut(step.places, PIECE_BYTES):
            gather(self._slot, places, self._there[:size])
            if not step.wanted.startswith(self._there[:size], begin):
                offset = 0
                for at, length in places:
                    for start, end in _differing(self._there[offset : offset + length], step.wanted, begin + offset):
                        yield at + start, wanted[begin + offset + start : begin + offset + end]
                    offset += length
            begin += size

    def _sampled(self, step: Step, kind: str) -> bool:
        """Whether any of some blocks, at least one of each extent, is there already; or may be."""
        samples, begin = [], 0
        for at, length in step.places:
            for offset in range(0, length, SAMPLE_BYTES):
                samples.append((at + offset, begin + offset, min(BLOCK_BYTES, length - offset)))
            begin += length
        if step.begins_unlike:
            self._unlike[kind] += 1
            del samples[0]
        if len(samples) * BLOCK_BYTES * SAMPLED_SHARE_MAX > begin:
            return True
        half = len(samples) // 2  # the ends and the middle first: mostly they tell
        for at, place, size in dict.fromkeys(samples[:1] + samples[-1:] + samples[half : half + 1] + samples):
            if self._slot.pread(at, size) == step.wanted[place : place + size]:
                self._unlike[kind] = 0
                return True
            self._unlike[kind] += 1
        return self._unlike[kind] < SAMPLES_MIN


def _differing(there: memoryview, wanted: Bytes, begin: int) -> Iterator[tuple[int, int]]:
    """Begin and end in `there` of the runs of blocks that are not those at `begin` of `wanted`."""
    start: int | None = None
    for place in range(0, len(there), BLOCK_BYTES):
        same = wanted.startswith(there[place : place + BLOCK_BYTES], begin + place)  # views compare much slower
        if same and start is not None:
            yield start, place
            start = None
        elif not same and start is None:
            start = place
    if start is not None:
        yield start, len(there)
