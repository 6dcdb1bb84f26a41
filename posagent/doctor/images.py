"""What lies in a slot, told by the beginning of it: a file system and its size, nothing, or something unknown.

Sources: Linux Documentation/filesystems/ext4/super.rst, squashfs and erofs on-disk formats.
"""

from __future__ import annotations

from dataclasses import dataclass

HEAD_BYTES = 4096
EMPTY = "empty"
_EXT_64BIT = 0x80


@dataclass(frozen=True, slots=True)
class Image:
    """`size` in bytes."""

    kind: str
    size: int = 0


def recognize(head: bytes) -> Image | None:
    """The image that begins so; None where it is unknown."""
    if head in (b"\0" * len(head), b"\xff" * len(head)):
        return Image(EMPTY)
    if head[:4] == b"hsqs":
        return Image("squashfs", _number(head, 40, 8))
    block = head[1024:2048]
    if block[56:58] == b"\x53\xef":
        high = _number(block, 0x150, 4) if _number(block, 96, 4) & _EXT_64BIT else 0
        return Image("ext", ((high << 32) + _number(block, 4, 4)) << (10 + min(_number(block, 24, 4), 6)))
    if block[:4] == b"\xe2\xe1\xf5\xe0":
        return Image("erofs", _number(block, 36, 4) << min(block[12], 16))
    return None


def _number(data: bytes, at: int, length: int) -> int:
    return int.from_bytes(data[at : at + length], "little")
