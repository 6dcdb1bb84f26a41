"""Makes a payload file (core.payload) from an image: frames compressed on all cores, zeros left out."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from backports import zstd

from posagent.core.errors import ReleaseError
from posagent.core.payload import FRAME_BYTES, FRAMES_MAX, WINDOW_LOG_MAX, ZERO, ZSTD, Frame, encode_header

LEVEL = 19
Progress = Callable[[int, int], None]
"""Called with bytes of the image done and in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """What the manifest says about a payload and its image; lengths in bytes, digests SHA-256 in hexadecimal."""

    length: int
    sha256: str
    header_sha256: str
    image_size: int
    image_sha256: str


def encode(
    image: Path,
    out: Path,
    *,
    level: int = LEVEL,
    frame_bytes: int = FRAME_BYTES,
    on_progress: Progress | None = None,
) -> Encoded:
    """Write the payload of `image` to `out`. Same image, level, frame size and zstd release: same bytes.

    Raises ReleaseError `release_io` for an empty or too large image, OSError.
    """
    size = image.stat().st_size
    if not 0 < size <= FRAMES_MAX * frame_bytes:
        raise ReleaseError("release_io", f"{image}: {size} bytes are no image")
    data = out.with_name(out.name + ".frames")
    digest = hashlib.sha256()
    frames: list[Frame] = []
    with image.open("rb") as stream, data.open("wb") as stored:
        for raw_size, packed, kind, sha256 in _packed(stream, digest.update, level, frame_bytes):
            at = frames[-1].at + frames[-1].size if frames else 0
            frames.append(
                Frame(at=at, size=raw_size, offset=stored.tell(), length=len(packed), kind=kind, sha256=sha256)
            )
            stored.write(packed)
            if on_progress is not None:
                on_progress(at + raw_size, size)
    if not frames or frames[-1].at + frames[-1].size != size:
        raise ReleaseError("release_io", f"{image} changed while it was read")
    header = encode_header(size, frames)
    with out.open("wb") as whole, data.open("rb") as stored:
        whole.write(header)
        shutil.copyfileobj(stored, whole, FRAME_BYTES)
    data.unlink()
    with out.open("rb") as whole:
        sha256 = hashlib.file_digest(whole, "sha256").hexdigest()
    return Encoded(
        length=out.stat().st_size,
        sha256=sha256,
        header_sha256=hashlib.sha256(header).hexdigest(),
        image_size=size,
        image_sha256=digest.hexdigest(),
    )


def _packed(
    stream: BinaryIO, update: Callable[[bytes], None], level: int, frame_bytes: int
) -> Iterator[tuple[int, bytes, str, str]]:
    """Raw size, stored bytes, kind and raw digest of each frame, in order; a few frames are in memory at a time."""
    cores = os.cpu_count() or 1
    pending: deque[Future[tuple[int, bytes, str, str]]] = deque()
    with ThreadPoolExecutor(cores) as pool:
        while raw := stream.read(frame_bytes):
            update(raw)
            pending.append(pool.submit(_pack, raw, level))
            if len(pending) > 2 * cores:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _pack(raw: bytes, level: int) -> tuple[int, bytes, str, str]:
    digest = hashlib.sha256(raw).hexdigest()
    if raw.count(0) == len(raw):
        return len(raw), b"", ZERO, digest
    parameter = zstd.CompressionParameter
    options = {
        int(parameter.compression_level): level,
        int(parameter.window_log): WINDOW_LOG_MAX,
        int(parameter.checksum_flag): 0,  # each frame has a digest of its own
    }
    return len(raw), zstd.compress(raw, options=options), ZSTD, digest
