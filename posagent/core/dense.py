"""Makes the bytes of a `dense` operation: of the fewest stored bytes that little memory allows to unpack.

    1 byte   which branch filter, its place in FILTERS
    …        raw LZMA2

A branch filter makes calls of one function from different places look alike.
Rules: no more is made than was asked for. The digest of what is made is the caller's.
"""

from __future__ import annotations

import lzma
from typing import Any

from posagent.core.errors import BundleError

DICTIONARY_BYTES = 3 << 20
FILTERS: tuple[list[dict[str, Any]], ...] = (
    [],
    [{"id": lzma.FILTER_X86}],
    [{"id": lzma.FILTER_ARM}],
    [{"id": lzma.FILTER_ARMTHUMB}],
)
PACKING = {"id": lzma.FILTER_LZMA2, "dict_size": DICTIONARY_BYTES}
"""All that the unpacker must know; the rest stands in the stream."""
PIECE_BYTES = 1 << 16


def unpacked(stored: bytes, size: int) -> bytearray:
    """The `size` bytes that `stored` makes. Raises BundleError `payload_corrupt`."""
    try:
        unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[*FILTERS[stored[0]], PACKING])
        made, done, at = bytearray(size), 0, 1
        while not unpacker.eof:
            packed = b""
            if unpacker.needs_input:
                packed, at = stored[at : at + PIECE_BYTES], at + PIECE_BYTES
                if not packed:
                    raise _corrupt("ends early")
            piece = unpacker.decompress(packed, PIECE_BYTES)
            if done + len(piece) > size:
                raise _corrupt("makes more than it must")
            made[done : done + len(piece)] = piece
            done += len(piece)
    except (lzma.LZMAError, IndexError):
        raise _corrupt("cannot be unpacked") from None
    if done != size or unpacker.unused_data or at < len(stored):
        raise _corrupt("makes another number of bytes than it must")
    return made


def _corrupt(trouble: str) -> BundleError:
    return BundleError("payload_corrupt", f"dense: it {trouble}")
