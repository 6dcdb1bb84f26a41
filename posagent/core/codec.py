"""What packs and unpacks the compressed pieces of an image, and how it is told that it does so bit for bit.

A file system like squashfs or erofs is made of frames, each packed by itself. A delta that takes them apart needs the
very library that the image was packed with, because another release packs the same data into other bytes. So a payload
names codec, level and release, and the beginning of a digest of what they make of a sample: the known answer. Another
machine of the same release may pack otherwise (LZ4 does where words have 32 bits), another release may do so for a few
frames only, which no sample would show.
Never: the libraries; those are the platform's. Rules: a frame has a most, packed or not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Protocol

FRAME_BYTES_MAX = 256 << 10
"""What a frame holds; larger ones would need more memory to pack than terminals have to spare."""
LEVEL_MAX = 22
VERSION_MAX = 1 << 24
CODECS_MAX = 4
ANSWER_BYTES = 16
SAMPLE_BYTES = 192 << 10
SAMPLES = ((0, 8 << 10), (777, 30_001), (5_000, 100_000), (40_000, 128 << 10), (0, SAMPLE_BYTES))
"""Begin and length: libraries choose their ways by the length."""


class CodecKind(IntEnum):
    ZSTD = 0
    """A zstd frame of any length, packed in one go; level as libzstd counts."""
    LZ4 = 1
    """4 KiB with an LZ4 block at their end, zeros before it, of as many bytes as fit; level 0 is LZ4's fast way, others
    are those of LZ4 HC."""


class Codec(Protocol):
    """One library at one level. What it gets may be of any bytes. May be used by several threads."""

    @property
    def version(self) -> int:
        """Of the library: 10504 is 1.5.4."""

    def unpack(self, packed: bytes | bytearray, at: int) -> tuple[bytes, int]:
        """What the frame at `at` holds, at most FRAME_BYTES_MAX, and the frame's length. Raises ValueError."""

    def pack(self, plain: bytes | bytearray, at: int, length: int) -> tuple[bytes, int]:
        """A frame of as many of the `length` bytes from `at` on as it holds, and how many. Raises ValueError."""


Codecs = Callable[[CodecKind, int], Codec | None]
"""The codec of that kind and level, or None where this machine has none."""


def no_codecs(kind: CodecKind, level: int) -> Codec | None:
    """A machine without any."""
    return None


@dataclass(frozen=True, slots=True)
class CodecSpec:
    """What a payload says of a codec: `answer` is what `known_answer` must be."""

    kind: CodecKind
    level: int
    version: int
    answer: bytes

    def __str__(self) -> str:
        return f"{self.kind.name.lower()} {dotted(self.version)}, level {self.level}"


def dotted(version: int) -> str:
    return f"{version // 10_000}.{version // 100 % 100}.{version % 100}"


def spec_of(kind: CodecKind, level: int, codec: Codec) -> CodecSpec:
    """Of a codec that is here."""
    return CodecSpec(kind, level, codec.version, known_answer(codec))


def known_answer(codec: Codec) -> bytes:
    """Tells codecs that make the same bytes from others."""
    sample, digest = _sample(), hashlib.sha256()
    for at, length in SAMPLES:
        packed, taken = codec.pack(sample, at, length)
        digest.update(b"%d %d " % (len(packed), taken) + packed)
    return digest.digest()[:ANSWER_BYTES]


@lru_cache(maxsize=1)
def _sample() -> bytes:
    """Words in disorder, as compressible as programs are, with something of zeros and noise."""
    words = [hashlib.sha256(b"%d" % number).digest()[: 2 + number % 11] for number in range(500)]
    words += [bytes(length) for length in (7, 90)] + [hashlib.sha256(b"noise").digest() * 2]
    made, state = bytearray(), 1
    while len(made) < SAMPLE_BYTES:
        state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        made += words[(state >> 33) % len(words) * ((state >> 20) % 256) // 256]
    return bytes(made[:SAMPLE_BYTES])
