"""Writes the data of a `patch` operation, as core.patch reads it, packed as small as a few ways allow."""

from __future__ import annotations

import lzma
from collections.abc import Iterable, Sequence

from posagent.core.patch import HEAD, PACKING
from posagent.core.payload import number
from posagent.release.delta import Step

WAYS = ({"lc": 3, "lp": 0, "pb": 0}, {"lc": 0, "lp": 0, "pb": 0}, {"lc": 3, "lp": 0, "pb": 2})
"""Which bits tell most of the next byte: that differs from stream to stream. The unpacker need not know."""


def packed(steps: Sequence[Step], differences: bytes, fresh: bytes) -> bytes:
    """The stored bytes; each step reads the source at its `at`."""
    gaps, end = [], 0
    for at, add, _ in steps:
        at = at if add else end  # where nothing is read does not matter
        gap = at - end
        gaps.append(gap * 2 if gap >= 0 else -gap * 2 - 1)
        end = at + add
    columns: Iterable[int] = [*(step.add for step in steps), *(step.new for step in steps), *gaps]
    packed = [_packed(stream) for stream in (b"".join(map(number, columns)), differences, fresh)]
    return HEAD.pack(len(steps), *map(len, packed)) + b"".join(packed)


def _packed(stream: bytes) -> bytes:
    search = {"mode": lzma.MODE_NORMAL, "mf": lzma.MF_BT4, "nice_len": 273, "depth": 512}
    ways = ([{**PACKING[0], **way, **search}] for way in WAYS)
    return min((lzma.compress(stream, lzma.FORMAT_RAW, filters=filters) for filters in ways), key=len)
