"""`make fuzz`: whatever bytes are called a bundle, nothing crashes, takes memory without bound, or writes elsewhere.

The first byte of an input says which reader gets the rest. Coverage-guided (atheris); the corpus begins with what the
builder makes (`seeds FOLDER`).
"""

from __future__ import annotations

import json
import lzma
import random
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["posagent"]):
    from posagent.core import payload, pieces
    from posagent.core.errors import BundleError
    from posagent.core.patch import patched
    from posagent.core.payload import blocks, parse_header
    from posagent.core.pieces import Pieces
    from posagent.installer.bundle import Bundle, Missing, Spooled
    from posagent.installer.operations import made

SOURCE = random.Random(1).randbytes(64 << 10)
MADE_MAX = 64 << 10


class Bytes:
    """core.ports.ByteSource in memory."""

    def __init__(self, data: bytes) -> None:
        self.data, self.size = data, len(data)

    def pread(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


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
                assert len(made(one, found, Bytes(data), Bytes(SOURCE))) == found.size(one)
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


READERS = (header, table, bundle, patch, spooled)


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
        for number, source in enumerate((None, folder / "old")):
            encode(folder / "new", folder / "payload", source=source, level=1, data_bytes=8192)
            data = (folder / "payload").read_bytes()
            size = payload.header_length(data[: payload.PREFIX_BYTES])
            unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=payload.PACKING)
            for index, one in enumerate(payload.parse_header(data[:size], len(data)).operations):
                if one.kind is payload.Kind.PATCH:
                    made_bytes = sum(count for _, count in one.target) * payload.BLOCK_BYTES
                    stored = data[one.offset : one.offset + one.length]
                    (corpus / f"patch-{index}").write_bytes(b"\3" + made_bytes.to_bytes(2, "little") + stored)
            (corpus / f"header-{number}").write_bytes(b"\0" + data)
            (corpus / f"table-{number}").write_bytes(b"\1" + unpacker.decompress(data[payload.PREFIX_BYTES : size]))
    (corpus / "bundle").write_bytes(b"\2" + pack({"metadata/timestamp.json": b"{}", "targets/a.payload": b"P" * 700}))
    (corpus / "spooled").write_bytes(b"\4[[0,1000],[4096,5000]]")


if __name__ == "__main__":
    if sys.argv[1:2] == ["seeds"]:
        seeds(Path(sys.argv[2]))
    else:
        atheris.Setup(sys.argv, one)
        atheris.Fuzz()
