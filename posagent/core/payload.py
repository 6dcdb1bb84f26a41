"""The shape of a payload file: a small header, then the image's frames back to back, each with its own digest.

    8 bytes  magic "POSPAY1\\n"
    4 bytes  length of the JSON text, little-endian
    n bytes  {"format":1,"block":4096,"image_size":N,"frames":[{"at","size","len","kind","sha256"}, …]}
    …        the frames' stored bytes, in order, nothing between or after them

`at` and `size` place the frame in the image, `len` is its stored length, `sha256` is of the frame's raw bytes whatever
its kind. The digest of everything before the frames ("the header") stands in the signed manifest: from it each frame
is authentic by itself, so that writing can start or resume anywhere without hashing the whole file again.
Never: decompression; that is the writer's. Rules: bounded before it is parsed; frames cover the image exactly.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from posagent.core.errors import BundleError
from posagent.core.manifest import LENGTH_MAX, Manifest
from posagent.core.ports import ByteSource

MAGIC = b"POSPAY1\n"
PREFIX_BYTES = 12
FORMAT = 1
BLOCK_BYTES = 4096
FRAME_BYTES = 1 << 20
FRAME_BYTES_MAX = 4 << 20
FRAMES_MAX = 16384
HEADER_BYTES_MAX = 4 << 20
STORED_BYTES_MAX = FRAME_BYTES_MAX + (1 << 16)
"""Incompressible data grows a little when stored as zstd."""
WINDOW_LOG_MAX = 20
"""zstd window of a frame: the writer refuses larger ones, the builder makes none."""

ZSTD = "zstd"
ZERO = "zero"
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One piece of the image, in bytes: `size` raw bytes from `at` of the image are stored in `length` bytes from
    `offset` of the payload file."""

    at: int
    size: int
    offset: int
    length: int
    kind: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    image_size: int
    frames: tuple[Frame, ...]


def encode_header(image_size: int, frames: Sequence[Frame]) -> bytes:
    """The payload's first bytes, up to the first frame; the frames' `offset` is left out, it follows from the order."""
    rows = [{"at": f.at, "size": f.size, "len": f.length, "kind": f.kind, "sha256": f.sha256} for f in frames]
    value = {"format": FORMAT, "block": BLOCK_BYTES, "image_size": image_size, "frames": rows}
    text = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    return MAGIC + len(text).to_bytes(4, "little") + text


def header_length(prefix: bytes) -> int:
    """Bytes of the whole header, from the payload's first 12. Raises BundleError."""
    if len(prefix) < PREFIX_BYTES or not prefix.startswith(MAGIC):
        raise _unreadable("it does not begin like a payload")
    length = PREFIX_BYTES + int.from_bytes(prefix[8:PREFIX_BYTES], "little")
    if length > HEADER_BYTES_MAX:
        raise BundleError("bundle_too_large", f"payload: a header of {length} bytes is more than {HEADER_BYTES_MAX}")
    return length


def parse_header(data: bytes, payload_length: int) -> Header:
    """The header in `data`, which must be the whole header, for a payload file of `payload_length` bytes.

    Raises BundleError `bundle_unreadable` or `bundle_too_large`.
    """
    if header_length(data[:PREFIX_BYTES]) != len(data):
        raise _unreadable("the header is cut short")
    try:
        value = json.loads(data[PREFIX_BYTES:])
    except (ValueError, RecursionError):
        raise _unreadable("the header is not JSON") from None
    if not isinstance(value, dict) or value.get("format") != FORMAT or value.get("block") != BLOCK_BYTES:
        raise _unreadable("the header is not of format 1 with blocks of 4096 bytes")
    image_size = _whole(value, "image_size", 1, LENGTH_MAX)
    rows = value.get("frames")
    if not isinstance(rows, list):
        raise _unreadable("frames must be a list")
    if len(rows) > FRAMES_MAX:
        raise BundleError("bundle_too_large", f"payload: {len(rows)} frames are more than {FRAMES_MAX}")
    return Header(image_size=image_size, frames=_frames(rows, image_size, len(data), payload_length))


def read_header(source: ByteSource, manifest: Manifest) -> Header:
    """The authentic header of the payload in `source`. Reads only the header.

    Raises BundleError: `bundle_unreadable` for another length or shape than signed, `payload_corrupt` for other bytes.
    """
    if source.size != manifest.length:
        raise _unreadable(f"it has {source.size} bytes, not {manifest.length}")
    data = source.pread(0, header_length(source.pread(0, PREFIX_BYTES)))
    if hashlib.sha256(data).hexdigest() != manifest.header_sha256:
        raise BundleError("payload_corrupt", "payload: the header does not match its signed digest")
    header = parse_header(data, manifest.length)
    if header.image_size != manifest.image_size:
        raise _unreadable(f"an image of {header.image_size} bytes, signed were {manifest.image_size}")
    return header


def _frames(rows: Sequence[Any], image_size: int, offset: int, payload_length: int) -> tuple[Frame, ...]:
    at = 0
    frames = []
    for row in rows:
        frame = _frame(row, at, offset)
        at, offset = at + frame.size, offset + frame.length
        if frame.size % BLOCK_BYTES and at != image_size:
            raise _unreadable(f"the frame at {frame.at} does not end on a block")
        frames.append(frame)
    if at != image_size:
        raise _unreadable(f"the frames cover {at} bytes of an image of {image_size}")
    if offset != payload_length:
        raise _unreadable(f"the frames end at byte {offset} of {payload_length}")
    return tuple(frames)


def _frame(row: Any, at: int, offset: int) -> Frame:
    if not isinstance(row, dict):
        raise _unreadable("a frame must be a table")
    _whole(row, "at", at, at)
    kind, digest = row.get("kind"), row.get("sha256")
    if kind not in (ZSTD, ZERO):
        raise _unreadable(f"the frame at {at} is of an unknown kind")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise _unreadable(f"the frame at {at} has no digest")
    size = _whole(row, "size", 1, FRAME_BYTES_MAX)
    length = _whole(row, "len", 1, STORED_BYTES_MAX) if kind == ZSTD else _whole(row, "len", 0, 0)
    return Frame(at=at, size=size, offset=offset, length=length, kind=kind, sha256=digest)


def _whole(row: dict[str, Any], name: str, low: int, high: int) -> int:
    value = row.get(name)
    if type(value) is not int or not low <= value <= high:
        raise _unreadable(f"{name} must be a whole number from {low} to {high}")
    return value


def _unreadable(trouble: str) -> BundleError:
    return BundleError("bundle_unreadable", f"payload: {trouble}")
