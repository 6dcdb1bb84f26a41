"""The codecs that images were packed with: the terminal's own libzstd and liblz4.

Owns: the calls into them. The libraries of the distribution, because mksquashfs and mkfs.erofs packed with these; the
one that Python brings along is of another release and makes other bytes. Rules: what they get is bounded, and they get
no pointer beside it.
"""

from __future__ import annotations

import ctypes
import threading
from functools import lru_cache

from posagent.core.codec import FRAME_BYTES_MAX, LEVEL_MAX, Codec, CodecKind

BLOCK_BYTES = 4096
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
Bytes = bytes | bytearray
_size = ctypes.c_size_t


@lru_cache(maxsize=8)
def find(kind: CodecKind, level: int) -> Codec | None:
    """The codec of that kind and level, or None where the library is missing or has no such level."""
    try:
        if not 0 <= level <= LEVEL_MAX:
            return None
        return _Zstd(level) if kind is CodecKind.ZSTD else _Lz4(level)
    except (OSError, AttributeError):
        return None


class _Zstd:
    def __init__(self, level: int) -> None:
        library = ctypes.CDLL("libzstd.so.1")
        self._level = level
        self._length, self._content = library.ZSTD_findFrameCompressedSize, library.ZSTD_getFrameContentSize
        self._unpack, self._pack, self._bound = (
            library.ZSTD_decompress,
            library.ZSTD_compress,
            library.ZSTD_compressBound,
        )
        for call in (self._length, self._unpack, self._pack, self._bound):
            call.restype = _size
        self._content.restype = ctypes.c_ulonglong
        self.version = int(library.ZSTD_versionNumber())

    def unpack(self, packed: Bytes, at: int) -> tuple[bytes, int]:
        if packed[at : at + len(ZSTD_MAGIC)] != ZSTD_MAGIC:
            raise ValueError("no zstd frame")
        rest = bytes(packed[at : at + self._bound(_size(FRAME_BYTES_MAX))])
        length = self._length(rest, _size(len(rest)))
        content = self._content(rest, _size(len(rest)))
        if length > len(rest) or not 0 < content <= FRAME_BYTES_MAX:  # errors are large numbers
            raise ValueError("no zstd frame of known size")
        plain = ctypes.create_string_buffer(content)
        if self._unpack(plain, _size(content), rest, _size(length)) != content:
            raise ValueError("a zstd frame that cannot be unpacked")
        return plain.raw, length

    def pack(self, plain: Bytes, at: int, length: int) -> tuple[bytes, int]:
        source = _cut(plain, at, length)
        room = self._bound(_size(length))
        packed = ctypes.create_string_buffer(room)
        made = self._pack(packed, _size(room), source, _size(length), self._level)
        if made > room:
            raise ValueError("libzstd could not pack")
        return packed.raw[:made], length


class _Lz4:
    def __init__(self, level: int) -> None:
        library = ctypes.CDLL("liblz4.so.1")
        self._level = level
        self._unpack = library.LZ4_decompress_safe
        self._pack = library.LZ4_compress_HC_destSize if level else library.LZ4_compress_destSize
        self._state_bytes = library.LZ4_sizeofStateHC() if level else 0
        self.version = int(library.LZ4_versionNumber())
        self._own = threading.local()
        """Of each thread: memory that need not be cleared each time."""

    def unpack(self, packed: Bytes, at: int) -> tuple[bytes, int]:
        block = bytes(packed[at : at + BLOCK_BYTES])
        data = block.lstrip(b"\0")  # an LZ4 block never begins with one
        room = self._room(FRAME_BYTES_MAX)
        made = self._unpack(data, room, len(data), FRAME_BYTES_MAX) if data and len(block) == BLOCK_BYTES else 0
        if made <= 0:
            raise ValueError("no LZ4 block")
        return ctypes.string_at(room, made), BLOCK_BYTES

    def pack(self, plain: Bytes, at: int, length: int) -> tuple[bytes, int]:
        source, taken = _cut(plain, at, length), ctypes.c_int(length)
        packed = ctypes.create_string_buffer(BLOCK_BYTES)
        if self._level:
            made = self._pack(
                self._room(self._state_bytes), source, packed, ctypes.byref(taken), BLOCK_BYTES, self._level
            )
        else:
            made = self._pack(source, packed, ctypes.byref(taken), BLOCK_BYTES)
        if not 0 < made <= BLOCK_BYTES or not 0 < taken.value <= length:
            raise ValueError("liblz4 could not pack")
        return packed.raw[:made].rjust(BLOCK_BYTES, b"\0"), taken.value

    def _room(self, size: int) -> ctypes.Array[ctypes.c_char]:
        room: ctypes.Array[ctypes.c_char] | None = getattr(self._own, f"room_{size}", None)
        if room is None:
            room = ctypes.create_string_buffer(size)
            setattr(self._own, f"room_{size}", room)
        return room


def _cut(plain: Bytes, at: int, length: int) -> bytes:
    if not 0 < length <= FRAME_BYTES_MAX or at < 0 or at + length > len(plain):
        raise ValueError("nothing that could be packed")
    return bytes(plain[at : at + length])
