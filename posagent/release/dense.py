"""Writes the data of a `dense` operation, as core.dense reads it, and knows whose machine code an image has."""

from __future__ import annotations

import lzma
from collections import Counter
from typing import Any

from posagent.core.dense import FILTERS, PACKING
from posagent.core.extents import BLOCK_BYTES
from posagent.release.delta import Image

LEVEL_BEST = 19
ELF, MACHINE = b"\x7fELF", slice(18, 20)
"""What an ELF file begins with, and where it says for which machine it is."""
MACHINES = {3: 1, 62: 1, 40: 3}
"""The filters for x86, x86-64, and ARM (nearly all of it Thumb): other machines have none in Python's liblzma."""


def filter_for(image: Image) -> int:
    """The filter for most of the programs in the image: they begin at the beginning of a block."""
    found: Counter[int] = Counter()
    for at in range(0, len(image), BLOCK_BYTES):
        head = image[at : at + MACHINE.stop]
        if head.startswith(ELF):
            found[int.from_bytes(head[MACHINE], "little")] += 1
    return max(((count, MACHINES.get(machine, 0)) for machine, count in found.items()), default=(0, 0))[1]


def packed(raw: bytes, number: int, level: int) -> bytes:
    """The stored bytes, with the filter of that number; levels are those of zstd."""
    search: dict[str, Any] = {"preset": level // 2}
    if level >= LEVEL_BEST:
        search = {"mode": lzma.MODE_NORMAL, "mf": lzma.MF_BT4, "nice_len": 273, "depth": 256}
    return bytes([number]) + lzma.compress(raw, lzma.FORMAT_RAW, filters=[*FILTERS[number], {**PACKING, **search}])
