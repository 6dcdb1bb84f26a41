"""Makes one `repack` operation, as core.repack reads it, or a `patch` where nothing has to be unpacked.

Each is made once here, as terminals do it. Frames that would come out otherwise are stored.
"""

from __future__ import annotations

import hashlib
import lzma
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from posagent.core.codec import CodecKind
from posagent.core.errors import BundleError
from posagent.core.extents import BLOCK_BYTES, Extent
from posagent.core.payload import Kind, Operation, number
from posagent.core.repack import AHEAD_BYTES, HEAD_BYTES, PACKING, Layout, MadeRun, SourceRun, repacked
from posagent.release import delta, patch
from posagent.release.delta import Step
from posagent.release.frames import Frame, Frames
from posagent.release.units import Difference, Part, Unit

SOURCE_PLAIN_BYTES = 1280 << 10
"""Of what is read of the old image, unpacked."""
USE_BYTES_MIN = 48
"""A unit of the old image that gives less is not read."""
Packed = tuple[Operation, bytes]


@dataclass(slots=True)
class Building:
    """One operation while it is made of its units, and of how what they hold comes."""

    new: Frames
    old: Frames
    difference: Difference
    units: list[Unit]
    parts: list[list[Part]]
    end: int
    used: dict[int, Unit] = field(default_factory=dict)
    """Units of the old image that are read, by where they begin in its string."""
    kept: set[int] = field(default_factory=set)
    """Numbers of the units whose frames are made again."""

    def packed(self) -> Packed:
        target = tuple(_extents((unit.at, min(unit.end, self.end)) for unit in self.units))
        wanted = delta.read(self.new.image, target)
        self.kept = {place for place, unit in enumerate(self.units) if unit.frame is not None}
        if self.new.spec.kind is CodecKind.LZ4:
            self._drop_others()
        self._choose()
        source, stored = self._stored()
        there = delta.read(self.old.image, source)
        kind = Kind.REPACK if self.kept or any(unit.frame is not None for unit in self.used.values()) else Kind.PATCH
        if kind is Kind.REPACK and not self._is_made(stored, there, wanted):
            stored = b""
        if not stored or len(stored) > len(wanted) // 4:
            alone = patch.packed([Step(0, 0, len(wanted))], b"", wanted)
            if not stored or len(alone) < len(stored):
                kind, source, there, stored = Kind.PATCH, (), b"", alone
        if kind is Kind.PATCH and source:
            stored = stored[HEAD_BYTES + int.from_bytes(stored[:HEAD_BYTES], "little") :]
        operation = Operation(
            kind=kind,
            target=target,
            source=source,
            sha256=hashlib.sha256(wanted).digest(),
            source_sha256=hashlib.sha256(there).digest(),
            anchor=delta.anchor(wanted),
        )
        return operation, stored

    def _is_made(self, stored: bytes, there: bytes, wanted: bytes) -> bool:
        try:
            return repacked(stored, there, len(wanted), [self.new.codec]) == wanted
        except BundleError:
            return False

    # which frames are made again

    def _drop_others(self) -> None:
        """Of packers that look ahead, what they see in this operation is other than in the file."""
        while True:
            held = bytearray(b"".join(unit.content(self.new) for unit in self.units)) + bytes(AHEAD_BYTES)
            lost, at = set(), 0
            for run, first in self._made_runs():
                at += run.before
                stop = at + run.plain
                for place in range(first, first + run.frames):
                    unit = self.units[place]
                    length = min(stop - at + run.after, AHEAD_BYTES, len(held) - at)
                    made = self.new.codec.pack(held, at, length)
                    if made != (self.new.image[unit.at : unit.end], unit.plain):
                        lost.add(place)
                    at += unit.plain
            if not lost:
                return
            self.kept -= lost
            for place in lost:
                self._store(place)

    def _store(self, place: int) -> None:
        unit = self.units[place]
        self.units[place], self.parts[place] = Unit(unit.at, unit.size, stored=True), []

    # which units of the old image are read

    def _choose(self) -> None:
        use: Counter[int] = Counter()
        for parts in self.parts:
            for at, add, _ in self._split(parts):
                if add:
                    use[self.difference.unit(at)[1]] += len(add)
        room = SOURCE_PLAIN_BYTES - sum(unit.size for unit in self.units if unit.old >= 0)
        for start, count in use.most_common():
            unit = self.difference.unit(start)[0]
            if count < min(USE_BYTES_MIN, unit.plain) or unit.plain + BLOCK_BYTES > room:
                continue
            room -= unit.plain + (BLOCK_BYTES if unit.size % BLOCK_BYTES else 0)
            self.used[start] = unit

    def _split(self, parts: Iterable[Part]) -> Iterator[Part]:
        """The same, each reading one unit only."""
        for at, add, new in parts:
            while add:
                unit, start = self.difference.unit(at)
                count = min(len(add), start + unit.plain - at)
                yield Part(at, add[:count], new if count == len(add) else b"")
                at, add = at + count, add[count:]
                if not add:
                    new = b""
            if new:
                yield Part(0, b"", new)

    # what is stored

    def _stored(self) -> tuple[tuple[Extent, ...], bytes]:
        """The extents of the old image that are read, and the operation's stored bytes."""
        read = [(unit.at, unit.end) for unit in self.used.values()]
        read += [(unit.old, unit.old + unit.size) for unit in self.units if unit.old >= 0]
        source = _Source(
            tuple(_extents(sorted(read))), [one.frame for one in self.used.values() if one.frame is not None]
        )
        steps: list[Step] = []
        add, fresh = bytearray(), bytearray()
        for unit, parts in zip(self.units, self.parts, strict=True):
            held = unit.content(self.new)
            if unit.old >= 0:
                _append(steps, Step(source.place(unit.old), unit.size, 0))
                add += bytes(unit.size)
            elif unit.stored:
                _append(steps, Step(0, 0, unit.size))
                fresh += held
            at = 0
            for part in self._split(parts):
                one, start = self.difference.unit(part.at) if part.add else (None, -1)
                if one is not None and start in self.used:
                    place = source.place(one.at) + part.at - start
                    _append(steps, Step(place, len(part.add), len(part.new)))
                    add += part.add
                    fresh += part.new
                else:
                    count = len(part.add) + len(part.new)
                    _append(steps, Step(0, 0, count))
                    fresh += held[at : at + count]
                at += len(part.add) + len(part.new)
        plain = sum(unit.plain for unit in self.units)
        layout = Layout(0, plain, source.runs, [run for run, _ in self._made_runs()])
        return source.extents, encoded(layout) + patch.packed(steps, bytes(add), bytes(fresh))

    def _made_runs(self) -> Iterator[tuple[MadeRun, int]]:
        """The runs of frames that are made again, with the number of the first one's unit."""
        before, first, run = 0, 0, MadeRun(0, 0, 0, 0, 0)
        zstd = self.new.spec.kind is CodecKind.ZSTD
        for place, unit in enumerate(self.units):
            frame = unit.frame
            if frame is None:
                before += unit.size
                continue
            if run.frames and not before and _goes_on(run, frame, zstd):
                run = run._replace(frames=run.frames + 1, plain=run.plain + frame.plain, after=frame.after)
                continue
            if run.frames:
                yield run, first
            run, first = MadeRun(before, 1, frame.plain, frame.plain if zstd else 0, frame.after), place
            before = 0
        if run.frames:
            yield run, first


def _goes_on(run: MadeRun, frame: Frame, zstd: bool) -> bool:
    """Whether the frame behind the run can be one of it."""
    if zstd:
        return run.plain == run.frames * run.each and frame.plain <= run.each
    return run.after == frame.after == AHEAD_BYTES or run.after == frame.plain + frame.after


class _Source:
    """What an operation reads of the old image, and where that is when frames are unpacked."""

    def __init__(self, extents: tuple[Extent, ...], unpacked: Iterable[Frame]) -> None:
        self.extents = extents
        self._blocks, at = {}, 0
        for start, count in extents:
            for block in range(start, start + count):
                self._blocks[block] = at
                at += BLOCK_BYTES
        self.runs: list[SourceRun] = []
        self._begins, self._grown = [-1], [0]
        end = 0
        for frame in sorted(unpacked):
            begin = self._packed_place(frame.at)
            if self.runs and begin == end:
                self.runs[-1] = self.runs[-1]._replace(frames=self.runs[-1].frames + 1)
            else:
                self.runs.append(SourceRun(begin - end, 1))
            end = begin + frame.size
            self._begins.append(begin)
            self._grown.append(self._grown[-1] + frame.plain - frame.size)

    def place(self, at: int) -> int:
        """Where what begins at `at` of the old image is."""
        packed = self._packed_place(at)
        return packed + self._grown[bisect_right(self._begins, packed - 1) - 1]

    def _packed_place(self, at: int) -> int:
        return self._blocks[at // BLOCK_BYTES] + at % BLOCK_BYTES


def _extents(ranges: Iterable[tuple[int, int]]) -> Iterator[Extent]:
    """The blocks that those ranges of bytes touch."""
    blocks = {block for begin, end in ranges for block in range(begin // BLOCK_BYTES, -(-end // BLOCK_BYTES))}
    return delta.runs(sorted(blocks))


def _append(steps: list[Step], step: Step) -> None:
    """Behind the others; one with the last one where that does the same."""
    if steps and not step.add:
        steps[-1] = steps[-1]._replace(new=steps[-1].new + step.new)
    elif steps and not steps[-1].new and steps[-1].add and steps[-1].at + steps[-1].add == step.at:
        steps[-1] = Step(steps[-1].at, steps[-1].add + step.add, step.new)
    else:
        steps.append(step)


def encoded(layout: Layout) -> bytes:
    """The layout, as core.repack reads it, with its length."""
    values = [layout.codec, len(layout.source), len(layout.made), layout.plain]
    for rows in (layout.source, layout.made):
        values += [value for column in zip(*rows, strict=True) for value in column]
    packed = lzma.compress(b"".join(map(number, values)), lzma.FORMAT_RAW, filters=PACKING)
    return len(packed).to_bytes(HEAD_BYTES, "little") + packed
