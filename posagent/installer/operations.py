"""How one frame of a payload becomes bytes of the image: decompressed within bounds and checked against its digest.

Rules: nothing leaves here unchecked. The window of a zstd frame is bounded, so that memory is; so is its output, so
that a small frame cannot become a large one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable
from functools import lru_cache

from backports import zstd

from posagent.core.errors import BundleError
from posagent.core.payload import WINDOW_LOG_MAX, ZERO, Frame
from posagent.core.ports import ByteSource

_BOUNDS: dict[int, int] = {zstd.DecompressionParameter.window_log_max: WINDOW_LOG_MAX}


def materialise(source: ByteSource, frame: Frame) -> bytes:
    """The frame's raw bytes. Raises BundleError `payload_corrupt`, or `spool_io` where the payload cannot be read."""
    raw = _zeros(frame.size) if frame.kind == ZERO else _decompress(_stored(source, frame), frame)
    if hashlib.sha256(raw).hexdigest() != frame.sha256:
        raise BundleError("payload_corrupt", f"the frame at {frame.at} does not match its digest", at=frame.at)
    return raw


def materialised(source: ByteSource, frames: Iterable[Frame]) -> Generator[bytes, None, None]:
    """The raw bytes of each frame."""
    return (materialise(source, frame) for frame in frames)


def _stored(source: ByteSource, frame: Frame) -> bytes:
    try:
        stored = source.pread(frame.offset, frame.length)
    except OSError as error:
        raise BundleError("spool_io", f"reading the bundle: {error.strerror or error}") from error
    if len(stored) != frame.length:
        raise BundleError("payload_corrupt", f"the frame at {frame.at} is cut short", at=frame.at)
    return stored


def _decompress(stored: bytes, frame: Frame) -> bytes:
    decompressor = zstd.ZstdDecompressor(options=_BOUNDS)
    try:
        raw = decompressor.decompress(stored, frame.size + 1)
    except zstd.ZstdError as error:
        raise BundleError("payload_corrupt", f"the frame at {frame.at}: {error}", at=frame.at) from None
    if len(raw) != frame.size or not decompressor.eof or decompressor.unused_data:
        raise BundleError("payload_corrupt", f"the frame at {frame.at} is not of its signed size", at=frame.at)
    return raw


@lru_cache(maxsize=1)
def _zeros(size: int) -> bytes:
    return bytes(size)
