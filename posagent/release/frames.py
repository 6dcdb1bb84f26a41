"""Finds the compressed pieces (frames, core.codec) of an image: those of squashfs (zstd) and erofs (LZ4).

Knows of a file system only by which codec it is packed; frames are found by unpacking them, so that no layout has to be
understood. Whether a codec makes a frame again bit for bit is tried, for each frame. Other images have none.
"""

from __future__ import annotations

import dataclasses
import hashlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from posagent.core.codec import FRAME_BYTES_MAX, LEVEL_MAX, Codec, CodecKind, CodecSpec, spec_of
from posagent.core.extents import BLOCK_BYTES
from posagent.core.repack import AHEAD_BYTES
from posagent.platform import codecs
from posagent.release.delta import Image

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
SQUASHFS_MAGIC, SQUASHFS_ZSTD = b"hsqs", (6).to_bytes(2, "little")
EROFS_AT, EROFS_MAGIC = 1024, (0xE0F5E1E2).to_bytes(4, "little")
LEVELS: dict[CodecKind, tuple[int, ...]] = {
    CodecKind.ZSTD: (15, *(level for level in range(1, LEVEL_MAX + 1) if level != 15)),
    CodecKind.LZ4: (0, 9, 12, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11),
}
"""Usual ones first."""
TRIALS = 12
"""So many frames tell the level."""
FILE_END_BYTES = 66 << 10
"""So near to the end of a file LZ4 has another way."""
SCAN_BYTES = 1 << 20
PACKED_MAX = FRAME_BYTES_MAX + FRAME_BYTES_MAX // 128


class Frame(NamedTuple):
    """`size` packed bytes at `at` that hold `plain`; `after` is what the packer must be told to make it again
    (core.repack.MadeRun), or -1 where it cannot be."""

    at: int
    size: int
    plain: int
    digest: bytes
    after: int = -1

    @property
    def end(self) -> int:
        return self.at + self.size


@dataclass(frozen=True, slots=True)
class Frames:
    """The frames of an image, in order."""

    image: Image
    codec: Codec
    spec: CodecSpec
    all: Sequence[Frame]

    def plain(self, frame: Frame) -> bytes:
        return self.codec.unpack(*_near(self.image, frame.at))[0]

    def within(self, begin: int, end: int) -> Sequence[Frame]:
        """Those that touch these bytes."""
        first = bisect_left(self.all, begin + 1, key=lambda frame: frame.end)
        return self.all[first : bisect_left(self.all, end, key=lambda frame: frame.at)]


def kind_of(image: Image) -> CodecKind | None:
    """By which codec the image is packed, as far as that is known here."""
    if image[:4] == SQUASHFS_MAGIC and image[20:22] == SQUASHFS_ZSTD:
        return CodecKind.ZSTD
    if image[EROFS_AT : EROFS_AT + 4] == EROFS_MAGIC:
        return CodecKind.LZ4
    return None


def find(image: Image, kind: CodecKind, level: int) -> Frames | None:
    """The frames of the image, none of them tried; None where this machine has no such codec."""
    codec = codecs.find(kind, level)
    if codec is None:
        return None
    found = _zstd(image, codec) if kind is CodecKind.ZSTD else _lz4(image, codec)
    return Frames(image, codec, spec_of(kind, level, codec), list(found))


def _zstd(image: Image, codec: Codec) -> Iterator[Frame]:
    end = 0
    for at in _places(image, ZSTD_MAGIC):
        if at >= end:
            try:
                plain, size = codec.unpack(*_near(image, at))
            except ValueError:
                continue
            end = at + size
            yield Frame(at, size, len(plain), _digest(image[at:end]))


def _places(image: Image, word: bytes) -> Iterator[int]:
    """Wherever the word is."""
    for start in range(0, len(image), SCAN_BYTES):
        piece = image[start : start + SCAN_BYTES + len(word) - 1]
        at = piece.find(word)
        while at >= 0:
            yield start + at
            at = piece.find(word, at + 1)


def _lz4(image: Image, codec: Codec) -> Iterator[Frame]:
    for at in range(0, len(image) - BLOCK_BYTES + 1, BLOCK_BYTES):
        try:
            plain, size = codec.unpack(*_near(image, at, BLOCK_BYTES))
        except ValueError:
            continue
        yield Frame(at, size, len(plain), _digest(image[at : at + size]))


def _near(image: Image, at: int, most: int = PACKED_MAX) -> tuple[bytes, int]:
    return image[at : at + most], 0


def _digest(packed: bytes) -> bytes:
    return hashlib.blake2b(packed, digest_size=16).digest()


# making them again


def with_level(frames: Frames, some: Sequence[Frame]) -> Frames:
    """The frames with the codec of the level that makes most of `some` again."""
    few = some[:: max(1, len(some) // TRIALS)]
    best, most = frames, 0
    for level in LEVELS[frames.spec.kind]:
        codec = codecs.find(frames.spec.kind, level)
        if codec is None or most * 2 > len(few):
            break
        one = dataclasses.replace(frames, codec=codec, spec=CodecSpec(frames.spec.kind, level, 0, b""))
        made = sum(tried(one, frame).after >= 0 for frame in few)
        if made > most:
            best, most = one, made
    return dataclasses.replace(best, spec=spec_of(best.spec.kind, best.spec.level, best.codec))


def tried(frames: Frames, frame: Frame) -> Frame:
    """The frame with what the packer must be told, tried out."""
    packed = frames.image[frame.at : frame.end]
    plain = bytearray(frames.plain(frame))
    if frames.spec.kind is CodecKind.ZSTD:
        return frame._replace(after=0 if _makes(frames.codec, plain, frame, packed) else -1)
    following = _following(frames, frame)
    plain += next(following, b"")
    if _makes(frames.codec, plain[:AHEAD_BYTES].ljust(AHEAD_BYTES, b"\0"), frame, packed):
        return frame._replace(after=AHEAD_BYTES)
    end = frame.plain
    while len(plain) <= AHEAD_BYTES and len(plain) - frame.plain < FILE_END_BYTES:
        if _makes(frames.codec, plain[:end], frame, packed):
            return frame._replace(after=end - frame.plain)
        if end == len(plain):
            plain += next(following, b"")
            if end == len(plain):
                break
        end = len(plain)
    return frame


def _following(frames: Frames, frame: Frame) -> Iterator[bytes]:
    """What the frames right behind it hold: the same file, perhaps."""
    number, end = bisect_left(frames.all, frame.at, key=lambda one: one.at) + 1, frame.end
    while number < len(frames.all) and frames.all[number].at == end:
        yield frames.plain(frames.all[number])
        number, end = number + 1, frames.all[number].end


def _makes(codec: Codec, plain: bytes | bytearray, frame: Frame, packed: bytes) -> bool:
    try:
        return codec.pack(plain, 0, len(plain)) == (packed, frame.plain)
    except ValueError:
        return False
