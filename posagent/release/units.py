"""Two images of compressed pieces as two strings of what those hold, and how the one comes from the other.

The string of the new image is what its changed blocks hold, without the frames that the old image has as well; that of
the old image what its vanished blocks hold. The difference between them is made in windows, so that memory is bounded.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from statistics import median_low
from typing import NamedTuple

from posagent.core.extents import BLOCK_BYTES, Extent, spans
from posagent.release import delta
from posagent.release.delta import Step
from posagent.release.frames import Frame, Frames

RAW_BYTES_MAX = 64 << 10
NEW_WINDOW_BYTES, OLD_WINDOW_BYTES = 20 << 20, 32 << 20
"""Of one difference: bsdiff takes seventeen times the old one."""


class Unit(NamedTuple):
    """Bytes of an image from `at` on: a frame, or as they are; `old` is where they are in the old image, or -1. Those
    that are `stored` are in no string."""

    at: int
    size: int
    frame: Frame | None = None
    old: int = -1
    stored: bool = False

    @property
    def end(self) -> int:
        return self.at + self.size

    @property
    def plain(self) -> int:
        return self.size if self.frame is None else self.frame.plain

    def content(self, frames: Frames) -> bytes:
        return frames.image[self.at : self.end] if self.frame is None else frames.plain(self.frame)

    def cut(self, at: int) -> tuple[Unit, Unit]:
        """Those of its bytes before and after `at` of the image; of a frame the rest is only bytes."""
        rest = Unit(at, self.end - at, None, -1 if self.old < 0 else self.old + at - self.at, self.frame is not None)
        return (self if self.frame is not None else self._replace(size=at - self.at)), rest


def new_units(frames: Frames, changed: Iterable[Extent], moved: dict[bytes, int]) -> Iterator[Unit]:
    """Units that fill the changed extents; frames that their codec makes again are whole in them, or none."""
    for begin, length in spans(changed, len(frames.image)):
        at, end = begin, begin + length
        for frame in frames.within(begin, end):
            yield from _raw(at, frame.at)
            at, stop = max(at, frame.at), min(frame.end, end)
            if frame.after >= 0 and at == frame.at and stop == frame.end:
                yield Unit(at, frame.size, frame)
            elif frame.digest in moved:
                yield Unit(at, stop - at, None, moved[frame.digest] + at - frame.at)
            else:
                yield from _raw(at, stop)
            at = stop
        yield from _raw(at, end)


def old_units(frames: Frames, vanished: Iterable[Extent], taken: set[bytes]) -> Iterator[Unit]:
    """Units that fill the vanished extents, frames as a whole, without those that are `taken` as they are."""
    done = 0
    for begin, length in spans(vanished, len(frames.image)):
        at, end = max(done, begin), begin + length
        for frame in frames.within(at, end):
            yield from _raw(at, frame.at)
            at = max(at, frame.end)
            if frame.digest not in taken and frame.at >= done:
                yield Unit(frame.at, frame.size, frame)
        yield from _raw(at, end)
        done = max(at, end)


def _raw(at: int, end: int) -> Iterator[Unit]:
    while at < end:
        stop = min(end, (at // BLOCK_BYTES * BLOCK_BYTES) + RAW_BYTES_MAX)
        yield Unit(at, stop - at)
        at = stop


class Part(NamedTuple):
    """Of a difference: bytes of the old string from `at` on, `add` to be added to them, then `new` ones."""

    at: int
    add: bytes
    new: bytes


_Views = tuple[int, memoryview, memoryview]
"""A part, its bytes not copied yet."""


class Difference:
    """How the new string comes from the old one, taken from its beginning to its end. `pairs` are equal places of the
    images: what lies between them is compared first."""

    def __init__(
        self, new: tuple[Frames, Sequence[Unit]], old: tuple[Frames, Sequence[Unit]], pairs: Sequence[tuple[int, int]]
    ) -> None:
        self._new, self._old = _String(*new), _String(*old)
        self._pairs = sorted((self._new.place(one), self._old.place(other)) for one, other in pairs)
        self._parts = self._all()
        self._rest: _Views | None = None

    def unit(self, at: int) -> tuple[Unit, int]:
        """The unit of the old image at that byte of the old string, and where it begins there."""
        number = bisect_right(self._old.starts, at) - 1
        return self._old.units[number], self._old.starts[number]

    def take(self, count: int) -> list[Part]:
        """How the next `count` bytes come."""
        taken = []
        while count:
            at, add, new = self._rest or next(self._parts)
            first = min(len(add), count)
            second = min(len(new), count - first) if first == len(add) else 0
            taken.append(Part(at, bytes(add[:first]), bytes(new[:second])))
            done = first == len(add) and second == len(new)
            self._rest = None if done else (at + first, add[first:], new[second:])
            count -= first + second
        return taken

    def _all(self) -> Iterator[_Views]:
        first = 0
        while first < len(self._new.units):
            begin = self._new.starts[first]
            stop = bisect_right(self._new.starts, begin + NEW_WINDOW_BYTES, hi=len(self._new.units)) - 1
            stop = max(first + 1, stop) if begin + NEW_WINDOW_BYTES < self._new.starts[-1] else len(self._new.units)
            end = self._new.starts[stop]
            low, high = self._window(begin, end)
            steps, add, fresh = delta.difference(self._new.read(first, stop), self._old.read(low, high))
            yield from _parts(steps, add, fresh, self._old.starts[low])
            first = stop

    def _window(self, begin: int, end: int) -> tuple[int, int]:
        """The units of the old string that those bytes of the new one most probably come from."""
        whole = self._old.starts[-1]
        if whole <= OLD_WINDOW_BYTES:
            return 0, len(self._old.units)
        between = self._pairs[bisect_left(self._pairs, (begin, 0)) : bisect_left(self._pairs, (end, 0))]
        middle = (begin + end) // 2
        likely = middle + median_low(old - new for new, old in between) if between else 0
        likely = likely if between else middle * whole // self._new.starts[-1]
        low = min(max(0, likely - OLD_WINDOW_BYTES // 2), whole - OLD_WINDOW_BYTES)
        starts = self._old.starts
        return bisect_left(starts, low), bisect_right(starts, low + OLD_WINDOW_BYTES) - 1


class _String:
    """What units hold, one behind the other; `starts` has one more: the end."""

    def __init__(self, frames: Frames, units: Sequence[Unit]) -> None:
        self._frames, self.units = frames, units
        self.starts = list(accumulate((unit.plain for unit in units), initial=0))
        self._places = [unit.at for unit in units]

    def place(self, at: int) -> int:
        """The byte of the string that is at, or next behind, `at` of the image."""
        return self.starts[bisect_left(self._places, at)]

    def read(self, first: int, stop: int) -> bytes:
        return b"".join(unit.content(self._frames) for unit in self.units[first:stop])


def _parts(steps: Iterable[Step], add: bytes, fresh: bytes, start: int) -> Iterator[_Views]:
    adds, news, added, appended = memoryview(add), memoryview(fresh), 0, 0
    for step in steps:
        if step.add or step.new:
            yield start + step.at, adds[added : added + step.add], news[appended : appended + step.new]
            added, appended = added + step.add, appended + step.new
