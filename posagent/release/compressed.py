"""Plans a delta between images of compressed pieces (release.frames).

Frames that are in the old image, at whatever byte, are copied as they are. All others are unpacked: those of the new
image that their codec makes again bit for bit, and those of the old image that are no more. Between what they hold is
one difference (release.units), cut into operations (release.repack).
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from posagent.core.codec import CodecKind, CodecSpec
from posagent.core.extents import BLOCK_BYTES
from posagent.core.payload import OPERATION_BYTES_MAX
from posagent.core.repack import FRAMES_MAX
from posagent.release import delta, frames
from posagent.release.delta import Image, Match
from posagent.release.frames import Frames
from posagent.release.repack import Building, Packed
from posagent.release.units import Difference, Unit, new_units, old_units

PLAIN_BYTES = 640 << 10
"""Of what an operation packs: it is in the terminal's memory, beside what it is made of."""
CUT_SHARE = 0.75
"""An operation of at least so much of its most is cut where that costs least."""
RATIO_MAX = 60
"""Frames that hold more than so many times their size stay packed: a block would hold too much."""


@dataclass(frozen=True, slots=True)
class Compressed:
    """The part of a delta that the blocks that were found nowhere take."""

    new: Frames
    old: Frames
    found: Match
    moved: dict[bytes, int]

    @property
    def codecs(self) -> tuple[CodecSpec, ...]:
        return (self.new.spec,)

    def operations(self) -> Iterator[Callable[[], Packed]]:
        """One call an operation; they may be done at once."""
        units = list(new_units(self.new, delta.runs(self.found.changed), self.moved))
        reach = delta.with_neighbours(self.found.vanished, len(self.old.image) // BLOCK_BYTES)
        gone = list(old_units(self.old, delta.runs(reach), self._taken))
        pairs = [(unit.at, unit.old) for unit in units if unit.old >= 0]
        pairs += [(one * BLOCK_BYTES, other * BLOCK_BYTES) for one, other in self.found.copies]
        fresh = [unit for unit in units if unit.old < 0]
        difference = Difference((self.new, fresh), (self.old, gone), pairs)
        for some, end in _cut(units):
            parts = [[] if unit.old >= 0 or unit.stored else difference.take(unit.plain) for unit in some]
            yield Building(self.new, self.old, difference, some, parts, end).packed

    @property
    def _taken(self) -> set[bytes]:
        """Frames that are copied as they are; of LZ4 those are blocks, and copied as such."""
        return set(self.moved) if self.new.spec.kind is CodecKind.ZSTD else set()


def prepared(new: Image, old: Image, found: Match) -> Compressed | None:
    """How the changed blocks of `new` come from `old` by their frames; None where both are not packed alike, or this
    machine lacks the library. Blocks that changed frames touch become changed, too."""
    kind = frames.kind_of(new)
    if kind is None or kind is not frames.kind_of(old):
        return None
    found_new, there = (frames.find(image, kind, frames.LEVELS[kind][0]) for image in (new, old))
    if found_new is None or there is None:
        return None
    here = found_new
    where = {frame.digest: frame.at for frame in there.all}
    moved = {frame.digest: where[frame.digest] for frame in here.all if frame.digest in where}
    fresh = [frame for frame in here.all if frame.digest not in moved and frame.plain <= RATIO_MAX * frame.size]
    here = frames.with_level(here, fresh)
    with ThreadPoolExecutor() as pool:
        known = {frame.at: frame for frame in pool.map(lambda frame: frames.tried(here, frame), fresh)}
    here = dataclasses.replace(here, all=[known.get(frame.at, frame) for frame in here.all])
    if all(frame.after < 0 for frame in here.all):  # packed bytes are compared with packed ones
        there = dataclasses.replace(there, all=[frame for frame in there.all if frame.digest in moved])
    there = dataclasses.replace(there, codec=here.codec, spec=here.spec)
    touched = {
        block
        for frame in here.all
        if frame.after >= 0
        for block in range(frame.at // BLOCK_BYTES, -(-frame.end // BLOCK_BYTES))
    }
    changed = Match(
        zeros=[block for block in found.zeros if block not in touched],
        copies=[pair for pair in found.copies if pair[0] not in touched],
        changed=sorted(touched.union(found.changed)),
        vanished=found.vanished,
    )
    return Compressed(here, there, changed, moved)


def _cut(units: Iterable[Unit]) -> Iterator[tuple[list[Unit], int]]:
    """The units in lists for one operation each, with the byte of the image where that ends: a frame may go on after
    it, and the rest of its bytes begins the next list."""
    queue = deque(units)
    while queue:
        some: list[Unit] = []
        plain = size = 0
        best, least = 0, BLOCK_BYTES
        while queue and (not best or plain + queue[0].plain <= PLAIN_BYTES):
            if size + queue[0].size > OPERATION_BYTES_MAX or len(some) == FRAMES_MAX:
                break
            unit = queue.popleft()
            some.append(unit)
            plain, size = plain + unit.plain, size + unit.size
            cost = _cost(some, queue[0] if queue else None)
            if cost is not None and (cost <= least or plain < CUT_SHARE * PLAIN_BYTES):
                best, least = len(some), cost
        assert best, "units that fill no block"
        queue.extendleft(reversed(some[best:]))
        chosen = some[:best]
        end = chosen[-1].end
        if queue and queue[0].at == end and end % BLOCK_BYTES:
            end -= end % BLOCK_BYTES
            while chosen[-1].at >= end:
                queue.appendleft(chosen.pop())
            if chosen[-1].end > end:
                last, rest = chosen.pop().cut(end)
                chosen.append(last)
                queue.appendleft(rest)
        yield chosen, end


def _cost(some: Sequence[Unit], following: Unit | None) -> int | None:
    """Bytes that must be stored if an operation ends with these units; None where it cannot."""
    last = some[-1]
    tail = last.end % BLOCK_BYTES
    if following is None or following.at != last.end or not tail:
        return 0
    end = last.end - tail
    for unit in reversed(some):
        if unit.at < end:
            return unit.end - end if unit.frame is not None and unit.end > end else 0
    return None
