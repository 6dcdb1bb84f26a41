"""Makes the bytes of a `repack` operation: frames of the source are unpacked, patched, and packed again.

    4 bytes  little-endian: length of the packed layout
    n bytes  the layout: numbers in LEB128, packed with raw LZMA2
    …        a patch (core.patch)

The layout begins with the codec's place in the header, how many runs of frames the source has and how many the result,
and how many bytes the patch makes. Then columns: of each run of the source how many bytes lie before it and how many
frames it has; of each run of the result how many bytes before it are as they are, how many frames it has, of how many
bytes together, how many of them each frame gets (0: as many as it holds), and how many bytes come after them in the
file. What comes after matters, because packers look ahead: they are those that the patch makes, then zeros.
The last frame may end behind the operation's last block; it is cut there.
Rules: the size of everything is known before it is made. What is made is checked by the caller against its digest.
"""

from __future__ import annotations

import lzma
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from posagent.core.codec import FRAME_BYTES_MAX, Codec
from posagent.core.errors import BundleError
from posagent.core.patch import numbers, patched
from posagent.core.payload import NUMBER_BYTES_MAX, OPERATION_BYTES_MAX

PLAIN_BYTES_MAX = OPERATION_BYTES_MAX
"""What is unpacked, and what the patch makes."""
RUNS_MAX = 1 << 12
FRAMES_MAX = 1 << 12
KEPT_BYTES = 256 << 10
"""Of unpacked frames, in memory."""
AHEAD_BYTES = 128 << 10
"""A packer that takes what fits is shown no more. LZ4 has another way for less than 64 KiB."""
HEAD_BYTES = 4
HEADER_NUMBERS = 4
PACKING = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 16, "lc": 0, "lp": 0, "pb": 0}]


class SourceRun(NamedTuple):
    """`before` bytes as they are, then `frames`, one behind the other."""

    before: int
    frames: int


class MadeRun(NamedTuple):
    """`before` bytes as they are, then `frames` of together `plain` bytes, `each` of so many or (0) as many as fit,
    with `after` bytes after them."""

    before: int
    frames: int
    plain: int
    each: int
    after: int


class Layout(NamedTuple):
    codec: int
    plain: int
    source: Sequence[SourceRun]
    made: Sequence[MadeRun]


def repacked(stored: bytes, source: bytes | bytearray, size: int, codecs: Sequence[Codec]) -> bytearray:
    """The `size` bytes that `stored` makes of `source`. Raises BundleError `payload_corrupt`."""
    try:
        begin = HEAD_BYTES + int.from_bytes(stored[:HEAD_BYTES], "little")
        layout = parse_layout(stored[HEAD_BYTES:begin])
        codec = codecs[layout.codec]
        unpacked = Unpacked(source, layout.source, codec)
        plain = patched(stored[begin:], unpacked, layout.plain)
        del source, unpacked  # or they would be there while it is packed
        return packed(plain, layout.made, size, codec)
    except (lzma.LZMAError, IndexError, ValueError) as error:
        raise _corrupt(f"cannot be unpacked: {error}") from None


def parse_layout(data: bytes) -> Layout:
    """Raises BundleError, LZMAError, IndexError."""
    most = NUMBER_BYTES_MAX * (HEADER_NUMBERS + 7 * RUNS_MAX)
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=PACKING)
    table = unpacker.decompress(data, most + 1)
    if len(table) > most or not unpacker.eof or unpacker.unused_data:
        raise _corrupt("has a layout that does not end")
    found = numbers(table)
    codec, sources, results, plain, *rest = [*found, *[0] * (HEADER_NUMBERS - len(found))]
    if max(sources, results) > RUNS_MAX or plain > PLAIN_BYTES_MAX or len(rest) != 2 * sources + 5 * results:
        raise _corrupt("has no layout")
    columns, rest = _columns(rest[: 2 * sources], 2), rest[2 * sources :]
    layout = Layout(codec, plain, [SourceRun(*one) for one in columns], [MadeRun(*one) for one in _columns(rest, 5)])
    if max(sum(run.frames for run in layout.source), sum(run.frames for run in layout.made)) > FRAMES_MAX:
        raise _corrupt("has too many frames")
    return layout


def _columns(values: Sequence[int], count: int) -> Iterator[tuple[int, ...]]:
    rows = len(values) // count
    return zip(*(values[at * rows : (at + 1) * rows] for at in range(count)), strict=True)


class Unpacked:
    """What the patch reads: the source with the frames of the `runs` unpacked, each when it is read, and the last ones
    kept. Raises BundleError, ValueError."""

    def __init__(self, source: bytes | bytearray, runs: Sequence[SourceRun], codec: Codec) -> None:
        self._source, self._codec = source, codec
        self._starts, self._places = [0], [0]
        """Where what is there begins, here and in the source: in turn bytes as they are and a frame."""
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        made = at = 0
        for before, frames in runs:
            made, at = made + before, at + before
            for _ in range(frames):
                if made > PLAIN_BYTES_MAX:
                    raise _corrupt("unpacks too much")
                plain, length = codec.unpack(source, at)
                self._starts += [made, made + len(plain)]
                self._places += [at, at + length]
                made, at = made + len(plain), at + length
        self._length = made + len(source) - at
        if at > len(source) or self._length > PLAIN_BYTES_MAX + FRAME_BYTES_MAX:
            raise _corrupt("unpacks too much, or beside the source")

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, place: slice) -> bytes:
        at, stop, _ = place.indices(self._length)
        taken = []
        while at < stop:
            number = bisect_right(self._starts, at) - 1
            end = self._starts[number + 1] if number + 1 < len(self._starts) else self._length
            begin, some = self._starts[number], min(stop, end)
            if number % 2:
                taken.append(self._frame(number)[at - begin : some - begin])
            else:
                first = self._places[number] + at - begin
                taken.append(bytes(self._source[first : first + some - at]))
            at = some
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def _frame(self, number: int) -> bytes:
        found = self._kept.pop(number, None)
        if found is None:
            found = self._codec.unpack(self._source, self._places[number])[0]
        self._kept[number] = found
        while len(self._kept) > 1 and sum(map(len, self._kept.values())) > KEPT_BYTES:
            self._kept.popitem(last=False)
        return found


def packed(plain: bytearray, runs: Sequence[MadeRun], size: int, codec: Codec) -> bytearray:
    """The operation's `size` bytes, of what the patch made. Raises BundleError, ValueError."""
    made, at, end = bytearray(), 0, len(plain)
    if any(not run.each for run in runs):
        plain += bytes(AHEAD_BYTES)
    for run in runs:
        made += plain[at : at + run.before]
        at += run.before
        stop = at + run.plain
        if stop > end:
            raise _corrupt("packs more than there is")
        for _ in range(run.frames):
            if len(made) >= size:
                raise _corrupt("makes more than it must")
            length = min(run.each, stop - at) if run.each else min(stop - at + run.after, AHEAD_BYTES, len(plain) - at)
            frame, taken = codec.pack(plain, at, length)
            made += frame
            at += taken
        if at != stop:
            raise _corrupt("packs other bytes than it must")
    made += plain[at:end]
    if not size <= len(made) < size + 2 * FRAME_BYTES_MAX:
        raise _corrupt("makes another number of bytes than it must")
    del made[size:]
    return made


def _corrupt(trouble: str) -> BundleError:
    return BundleError("payload_corrupt", f"repack: it {trouble}")
