"""Makes a payload file (core.payload) from an image: a full one, or a delta against the image that runs on terminals.

A full payload is made of small operations packed by themselves, so that a terminal can leave out those whose bytes it
has already; a whole one of large operations, which pack better. A delta's blocks come from the old image where they are
in it; all others are patched (release.delta).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO

from backports import zstd

from posagent.core.codec import CodecSpec
from posagent.core.errors import ReleaseError
from posagent.core.extents import BLOCK_BYTES, Extent, blocks, size_of
from posagent.core.payload import (
    PREFIX_BYTES,
    WINDOW_LOG_MAX,
    Header,
    Kind,
    Operation,
    encode_header,
    header_length,
    parse_header,
)
from posagent.core.seal import Seal
from posagent.release import delta, dense, patch
from posagent.release.compressed import prepared
from posagent.release.delta import Image, Match, Step
from posagent.release.repack import Packed

LEVEL = 19
DATA_BYTES = 64 << 10
"""Of a `data` operation: small, so that few bytes are fetched that the terminal has. Measured in docs/payload.md."""
DENSE_BYTES = 3 << 20
"""Of a `dense` operation: what a terminal has memory for."""
COPY_BYTES = 1 << 20
ZERO_BYTES = 1 << 20
PATCH_BYTES = 1 << 20
PIECE_BYTES = 1 << 20
Progress = Callable[[int, int], None]
"""Called with bytes of the image done and in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """What the manifest says about a payload and its images; lengths in bytes, digests SHA-256 in hexadecimal."""

    length: int
    sha256: str
    header_sha256: str
    image_size: int
    image_sha256: str
    source_size: int = 0
    source_sha256: str = ""


Packing = Callable[[], Packed]
"""Makes an operation without its offset, and its stored bytes."""


def encode(
    image: Path,
    out: Path,
    *,
    source: Path | None = None,
    whole: bool = False,
    level: int = LEVEL,
    data_bytes: int | None = None,
    seal: Seal | None = None,
    on_progress: Progress | None = None,
) -> Encoded:
    """Write the payload of `image` to `out`: full, `whole`, or as a delta against the image `source`; encrypted with
    `seal`, which must not have been used before. `data_bytes` is what an operation makes of stored bytes alone.

    Same images, seal, level, sizes and releases of zstd, liblzma and bsdiff4: same bytes. Raises ReleaseError
    `release_io` for an empty image, OSError.
    """
    with ExitStack() as stack:
        new = _File(image, stack)
        old = None if source is None else _File(source, stack)
        planned, codecs = (_full(new, level, whole, data_bytes), ()) if old is None else _delta(new, old)
        data = out.with_name(out.name + ".data")
        operations, done = [], 0
        with data.open("wb") as stored:
            for operation, packed in _in_order(planned):
                if packed and seal is not None:
                    packed = seal.close(stored.tell(), packed)
                operations.append(operation._replace(offset=stored.tell(), length=len(packed)))
                stored.write(packed)
                done += size_of(operation.target, len(new))
                if on_progress is not None:
                    on_progress(done, len(new))
        sizes = {"image_size": len(new), "source_size": 0 if old is None else len(old)}
        header = Header(**sizes, operations=tuple(operations), codecs=codecs)
        head = encode_header(header)
        with out.open("wb") as made, data.open("rb") as stored_data:
            made.write(head)
            shutil.copyfileobj(stored_data, made, PIECE_BYTES)
        data.unlink()
        with out.open("rb") as made_data:
            sha256 = hashlib.file_digest(made_data, "sha256").hexdigest()
        return Encoded(
            length=out.stat().st_size,
            sha256=sha256,
            header_sha256=hashlib.sha256(head).hexdigest(),
            image_size=len(new),
            image_sha256=new.sha256(),
            source_size=header.source_size,
            source_sha256="" if old is None else old.sha256(),
        )


class _File:
    """An image file, read piece by piece: a mapping of it would count as the builder's memory."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self._descriptor = stack.enter_context(path.open("rb", buffering=0)).fileno()
        self._size = os.fstat(self._descriptor).st_size
        if not self._size:
            raise ReleaseError("release_io", f"{path} is empty")

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, place: slice) -> bytes:
        start, stop, _ = place.indices(self._size)
        return os.pread(self._descriptor, stop - start, start)

    def sha256(self) -> str:
        with open(self._descriptor, "rb", closefd=False) as stream:
            stream.seek(0)
            return hashlib.file_digest(stream, "sha256").hexdigest()


def _in_order(planned: Iterable[Packing]) -> Iterator[Packed]:
    """What is packed on all cores, in order; little more than one operation a core is in memory at a time."""
    cores = os.cpu_count() or 1
    pending: deque[Future[Packed]] = deque()
    with ThreadPoolExecutor(cores) as pool:
        for packing in planned:
            pending.append(pool.submit(packing))
            if len(pending) > 2 * cores:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def shares(payload: IO[bytes], length: int) -> dict[str, dict[str, int]]:
    """Where the bytes of a payload file are: `operations`, `image_bytes` and `stored_bytes` by kind, and the header's.
    What is copied from another place of the old image is told apart, as `moved`.

    Raises BundleError `bundle_unreadable`.
    """
    prefix = payload.read(PREFIX_BYTES)
    head = prefix + payload.read(header_length(prefix) - PREFIX_BYTES)
    header = parse_header(head, length)
    found: dict[str, dict[str, int]] = {}
    moved = 0
    for one in header.operations:
        share = found.setdefault(one.kind.name.lower(), dict.fromkeys(("operations", "image_bytes", "stored_bytes"), 0))
        share["operations"] += 1
        share["image_bytes"] += header.size(one)
        share["stored_bytes"] += one.length
        if one.kind is Kind.COPY:
            there = [to for to, of in zip(one.target, one.source, strict=True) if to == of]
            moved += header.size(one) - size_of(there, header.image_size)
    if moved:
        found["copy"]["image_bytes"] -= moved
        found["moved"] = {"operations": 0, "image_bytes": moved, "stored_bytes": 0}
    return {**found, "header": {"operations": 0, "image_bytes": 0, "stored_bytes": len(head)}}


# full


def _full(image: Image, level: int, whole: bool, data_bytes: int | None) -> Iterator[Packing]:
    zeros: list[int] = []
    rest: list[int] = []
    for number in range(blocks(len(image))):
        piece = image[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES]
        (rest if piece.strip(b"\0") else zeros).append(number)
    yield from _zeros(zeros)
    branch = dense.filter_for(image) if whole else None
    size = data_bytes or (DENSE_BYTES if whole else DATA_BYTES)
    for some in _grouped(rest, size // BLOCK_BYTES):
        yield lambda some=some: _data(image, some, level, branch)  # type: ignore[misc]


def _zeros(numbers: Sequence[int]) -> Iterator[Packing]:
    for some in _grouped(numbers, ZERO_BYTES // BLOCK_BYTES):
        yield lambda some=some: (Operation(kind=Kind.ZERO, target=some), b"")  # type: ignore[misc]


def _grouped(numbers: Sequence[int], blocks_max: int) -> Iterator[tuple[Extent, ...]]:
    """So many of the blocks at a time, as extents."""
    for start in range(0, len(numbers), blocks_max):
        yield tuple(delta.runs(numbers[start : start + blocks_max]))


def _data(image: Image, extents: tuple[Extent, ...], level: int, branch: int | None) -> Packed:
    raw = delta.read(image, extents)
    kind = Kind.DATA if branch is None else Kind.DENSE
    operation = Operation(kind=kind, target=extents, sha256=hashlib.sha256(raw).digest(), anchor=delta.anchor(raw))
    if branch is not None:
        return operation, dense.packed(raw, branch, level)
    parameter = zstd.CompressionParameter
    options = {
        int(parameter.compression_level): level,
        int(parameter.window_log): WINDOW_LOG_MAX,
        int(parameter.checksum_flag): 0,  # each operation has a digest of its own
    }
    return operation, zstd.compress(raw, options=options)


# delta


def _delta(new: Image, old: Image) -> tuple[Iterator[Packing], tuple[CodecSpec, ...]]:
    """The operations, and the codecs that they may need."""
    found = delta.match(new, old)
    compressed = prepared(new, old, found)
    if compressed is None:
        return chain(_found(new, found), _changed(new, old, found)), ()
    return chain(_found(new, compressed.found), compressed.operations()), compressed.codecs


def _found(new: Image, found: Match) -> Iterator[Packing]:
    yield from _zeros(found.zeros)
    for pairs in delta.copied(found.copies, COPY_BYTES // BLOCK_BYTES):
        yield lambda pairs=pairs: _copy(new, pairs)  # type: ignore[misc]


def _changed(new: Image, old: Image, found: Match) -> Iterator[Packing]:
    if not found.changed:
        return
    reach = delta.with_neighbours(found.vanished, len(old) // BLOCK_BYTES)
    fresh, gone = delta.read(new, delta.runs(found.changed)), delta.read(old, delta.runs(reach))
    for piece in delta.pieces(*delta.difference(fresh, gone), PATCH_BYTES):
        yield lambda piece=piece: _patch(new, old, found.changed, reach, piece)  # type: ignore[misc]


def _copy(new: Image, pairs: Sequence[tuple[Extent, Extent]]) -> Packed:
    target = tuple(to for to, _ in pairs)
    digest = hashlib.sha256(delta.read(new, target)).digest()
    source = tuple(origin for _, origin in pairs)
    return Operation(kind=Kind.COPY, target=target, source=source, sha256=digest, source_sha256=digest), b""


def _patch(new: Image, old: Image, changed: Sequence[int], reach: Sequence[int], piece: delta.Piece) -> Packed:
    first = piece.start // BLOCK_BYTES
    target = tuple(delta.runs(changed[first : first + blocks(piece.size)]))
    read = delta.blocks_read(piece.steps)
    place = {number: at * BLOCK_BYTES for at, number in enumerate(read)}
    steps = [
        step._replace(at=place[step.at // BLOCK_BYTES] + step.at % BLOCK_BYTES) if step.add else step
        for step in piece.steps
    ]
    source = tuple(delta.runs([reach[number] for number in read]))
    made = delta.read(new, target)
    alone, patched = patch.packed([Step(0, 0, len(made))], b"", made), patch.packed(steps, piece.add, piece.new)
    stored = min(patched, alone, key=len)
    source = source if stored is patched else ()
    operation = Operation(
        kind=Kind.PATCH,
        target=target,
        source=source,
        sha256=hashlib.sha256(made).digest(),
        source_sha256=hashlib.sha256(delta.read(old, source)).digest(),
        anchor=delta.anchor(made),
    )
    return operation, stored
