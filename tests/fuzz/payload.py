"""`make fuzz`: whatever bytes are called a bundle, nothing crashes, takes memory without bound, or writes elsewhere.

The first byte of an input says which reader gets the rest. Coverage-guided (atheris); the corpus begins with what the
builder makes (`seeds FOLDER`).
"""

from __future__ import annotations

import errno
import hashlib
import json
import lzma
import random
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["posagent"]):
    from posagent.core import dense, payload, pieces, repack
    from posagent.core.bundle import Bundle, Missing, Spooled
    from posagent.core.codec import CodecKind, CodecSpec
    from posagent.core.errors import BundleError
    from posagent.core.extents import BLOCK_BYTES, Extent, blocks
    from posagent.core.patch import HEAD, PACKING, patched
    from posagent.core.payload import parse_header
    from posagent.core.pieces import Pieces
    from posagent.installer.operations import made
    from posagent.platform import codecs

SOURCE = random.Random(1).randbytes(64 << 10)
MADE_MAX = 64 << 10
CODECS = [codec for kind, level in ((CodecKind.ZSTD, 1), (CodecKind.LZ4, 0)) if (codec := codecs.find(kind, level))]
"""As the header names them; fewer where this machine lacks a library."""


class Bytes:
    """core.ports.Medium in memory."""

    def __init__(self, data: bytes) -> None:
        self.data, self.size = data, len(data)

    def pread(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]

    def pread_into(self, offset: int, view: memoryview) -> None:
        piece = self.pread(offset, len(view))
        if len(piece) < len(view):
            raise OSError(errno.EIO, "there is no more")
        view[:] = piece

    def drop_cache(self) -> None:
        """There is none."""


def header(data: bytes) -> None:
    """A payload file, its header as it is."""
    try:
        found = parse_header(data[: payload.header_length(data[: payload.PREFIX_BYTES])], len(data))
    except BundleError:
        return
    extents = sorted(extent for one in found.operations for extent in one.target)
    assert [start for start, _ in extents] == [0, *(sum(extent) for extent in extents[:-1])], "made twice, or never"
    assert sum(extents[-1]) == blocks(found.image_size)
    for one in found.operations:
        if found.size(one) <= MADE_MAX:
            try:
                assert len(made(one, found, Bytes(data), Bytes(SOURCE), None, CODECS)) == found.size(one)
            except BundleError:
                pass


def table(data: bytes) -> None:
    """A payload file whose header is packed here, so that what is in it is reached."""
    packed = lzma.compress(data, lzma.FORMAT_RAW, filters=payload.PACKING)
    lengths = len(packed).to_bytes(4, "little") + len(data).to_bytes(4, "little")
    header(payload.MAGIC + lengths + packed)


def bundle(data: bytes) -> None:
    opened = Bundle(Bytes(data))
    try:
        opened.metadata("timestamp.json")
        target = opened.target("a.payload")
        assert target is None or len(target.pread(0, 1 << 20)) <= len(data)
    except BundleError:
        pass


def patch(data: bytes) -> None:
    size = int.from_bytes(data[:2], "little")
    try:
        assert len(patched(data[2:], SOURCE, size)) == size
    except BundleError as error:
        assert error.code == "payload_corrupt"


def repacked(data: bytes) -> None:
    """Stored bytes of a repack operation, the source that it unpacks, and how much it shall make."""
    size, length = 1 + int.from_bytes(data[:2], "little"), int.from_bytes(data[2:4], "little")
    layout(data[4 + length :], data[4 : 4 + length], size)


def repacking(data: bytes) -> None:
    """The same with layout and streams packed here, so that what is in them is reached."""
    parts, at = [], 3
    for _ in range(4):
        length = int.from_bytes(data[at : at + 2], "little")
        parts.append(data[at + 2 : at + 2 + length])
        at += 2 + length
    table, *streams = parts
    ways = (repack.PACKING, *3 * (PACKING,))
    packed = [
        lzma.compress(one, lzma.FORMAT_RAW, filters=way) for one, way in zip((table, *streams), ways, strict=True)
    ]
    head = HEAD.pack(data[0] if data else 0, *map(len, packed[1:]))
    stored = len(packed[0]).to_bytes(4, "little") + packed[0] + head + b"".join(packed[1:])
    layout(stored, data[at:], 1 + int.from_bytes(data[1:3], "little"))


def layout(stored: bytes, source: bytes, size: int) -> None:
    try:
        assert len(repack.repacked(stored, source, size, CODECS)) == size
    except BundleError as error:
        assert error.code == "payload_corrupt"


def spooled(data: bytes) -> None:
    """A fetcher's record and what it says of a spool file."""
    try:
        parts = pieces.of(json.loads(data))
    except (ValueError, RecursionError):
        return
    if parts is None:
        return
    try:
        assert len(Spooled(Bytes(SOURCE), Pieces(parts, len(SOURCE)), 1 << 40).pread(5, 1000)) <= 1000
    except Missing:
        pass


def densely(data: bytes) -> None:
    """Stored bytes of a dense operation, and how much it shall make."""
    size = int.from_bytes(data[:3], "little")
    try:
        assert len(dense.unpacked(data[3:], size)) == size
    except BundleError as error:
        assert error.code == "payload_corrupt"


READERS = (header, table, bundle, patch, spooled, repacked, repacking, densely)


def one(data: bytes) -> None:
    if data:
        READERS[data[0] % len(READERS)](data[1:])


def seeds(corpus: Path) -> None:
    """Write the first inputs: what the builder makes, for each reader."""
    from posagent.release.payload import encode
    from tests.release.desk import pack

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "old").write_bytes(SOURCE)
        (folder / "new").write_bytes(SOURCE[4096:] + bytes(9000) + b"end" * 2000)
        for number, (source, whole) in enumerate(((None, False), (folder / "old", False), (None, True))):
            encode(folder / "new", folder / "payload", source=source, whole=whole, level=1, data_bytes=8192)
            data = (folder / "payload").read_bytes()
            size = payload.header_length(data[: payload.PREFIX_BYTES])
            unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=payload.PACKING)
            for index, one in enumerate(payload.parse_header(data[:size], len(data)).operations):
                if one.kind is payload.Kind.PATCH:
                    made_bytes = sum(count for _, count in one.target) * BLOCK_BYTES
                    stored = data[one.offset : one.offset + one.length]
                    (corpus / f"patch-{index}").write_bytes(b"\3" + made_bytes.to_bytes(2, "little") + stored)
                if one.kind is payload.Kind.DENSE:
                    stored = data[one.offset : one.offset + one.length]
                    (corpus / f"dense-{index}").write_bytes(b"\7" + (8192).to_bytes(3, "little") + stored)
            (corpus / f"header-{number}").write_bytes(b"\0" + data)
            (corpus / f"table-{number}").write_bytes(b"\1" + unpacker.decompress(data[payload.PREFIX_BYTES : size]))
    (corpus / "bundle").write_bytes(b"\2" + pack({"metadata/timestamp.json": b"{}", "targets/a.payload": b"P" * 700}))
    packed_seeds(corpus)
    (corpus / "spooled").write_bytes(b"\4[[0,1000],[4096,5000]]")


def packed_seeds(corpus: Path) -> None:
    """Repack operations that are as they should be."""
    from posagent.release import patch as patches
    from posagent.release import repack as repacks
    from posagent.release.delta import Step

    for place, codec in enumerate(CODECS):
        frame, taken = codec.pack(bytes(range(64)) * 100, 0, 4096)
        run = repack.MadeRun(3, 1, taken, taken, 0)
        table = repacks.encoded(repack.Layout(place, 3 + taken, [repack.SourceRun(0, 1)], [run]))
        stored = table + patches.packed([Step(0, 0, 3), Step(0, taken, 0)], bytes(taken), b"new")
        wanted = b"new" + frame
        sizes = (len(wanted) - 1).to_bytes(2, "little") + len(frame).to_bytes(2, "little")
        (corpus / f"repacked-{place}").write_bytes(b"\5" + sizes + frame + stored)
        streams = [lzma.decompress(table[repack.HEAD_BYTES :], lzma.FORMAT_RAW, filters=repack.PACKING)]
        streams += [b"".join(map(payload.number, (0, taken, 3, 0, 0, 0))), bytes(taken), b"new"]
        joined = b"".join(len(one).to_bytes(2, "little") + one for one in streams)
        (corpus / f"repacking-{place}").write_bytes(b"\6\2" + sizes[:2] + joined + frame)
        operation = payload.Operation(
            kind=payload.Kind.REPACK,
            target=(Extent(0, blocks(len(wanted))),),
            sha256=hashlib.sha256(wanted).digest(),
            source_sha256=hashlib.sha256().digest(),
            anchor=b"anchored",
            length=len(stored),
        )
        spec = CodecSpec(CodecKind.ZSTD, 1, 10504, b"known answer 16!")
        sizes_of = {"image_size": len(wanted), "source_size": 0}
        head = payload.encode_header(payload.Header(**sizes_of, operations=(operation,), codecs=(spec,)))
        (corpus / f"header-repack-{place}").write_bytes(b"\0" + head + stored)


if __name__ == "__main__":
    if sys.argv[1:2] == ["seeds"]:
        seeds(Path(sys.argv[2]))
    else:
        atheris.Setup(sys.argv, one)
        atheris.Fuzz()
