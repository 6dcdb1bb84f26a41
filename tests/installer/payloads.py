"""Payloads of small images, as the builder makes them, and a bundle that holds them."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from posagent.core.bundle import Spooled, Window
from posagent.core.manifest import Manifest
from posagent.core.pieces import Piece, Pieces
from posagent.core.seal import Seal
from posagent.release.payload import encode
from tests.installer.store import Bytes

BLOCK = 4096
DATA_BYTES = 2 * BLOCK
WHOLE_BYTES = 8 * BLOCK


@lru_cache(maxsize=64)
def payload(image: bytes, source: bytes | None = None, whole: bool = False) -> tuple[bytes, Manifest]:
    """The payload of `image`, full, whole or from `source`, and what the manifest says of it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "new").write_bytes(image)
        old = None
        if source is not None:
            old = folder / "old"
            old.write_bytes(source)
        size = WHOLE_BYTES if whole else DATA_BYTES
        made = encode(folder / "new", folder / "payload", source=old, whole=whole, level=1, data_bytes=size)
        manifest = Manifest(
            target="whole" if whole else "full" if source is None else f"from-{made.source_sha256[:8]}",
            length=made.length,
            sha256=made.sha256,
            version="2.0.0",
            security_counter=1,
            hw_ids=("sim-pos",),
            min_hw_rev=0,
            component="system",
            header_sha256=made.header_sha256,
            image_size=made.image_size,
            image_sha256=made.image_sha256,
            source_size=made.source_size,
            source_sha256=made.source_sha256,
            whole=whole,
        )
        return (folder / "payload").read_bytes(), manifest


@dataclass(slots=True)
class Shelf:
    """As much of core.bundle.Bundle as work needs: payloads by name, one behind the other in a file."""

    members: dict[str, Window] = field(default_factory=dict)
    manifests: list[Manifest] = field(default_factory=list)
    data: bytes = b""
    walked: tuple[Piece, ...] = ()
    pieces: list[Piece] | None = None
    """What of it was fetched, where that is not all."""

    def add(self, made: tuple[bytes, Manifest]) -> None:
        data, manifest = made
        start = len(self.data)
        self.data += data
        self.manifests.append(manifest)
        self.members[manifest.member] = Window(Bytes(b""), start, len(data))

    def target(self, name: str) -> Window | None:
        window = self.members.get(name)
        if window is None:
            return None
        parts = [(0, len(self.data))] if self.pieces is None else self.pieces
        stored = b"".join(self.data[at : at + length] for at, length in parts)
        source = Spooled(Bytes(stored), Pieces(parts, len(stored)), len(self.data))
        return Window(source, window.start, window.size)


def unsealed(sealed: Mapping[str, str]) -> Seal:
    raise AssertionError(f"nothing here is sealed: {sealed}")


def image(seed: int = 1, blocks: int = 40) -> bytes:
    """Text, zeros and noise."""
    dice = random.Random(seed)
    kinds = (lambda: bytes(BLOCK), lambda: dice.randbytes(16) * (BLOCK // 16), lambda: dice.randbytes(BLOCK))
    return b"".join(dice.choice(kinds)() for _ in range(blocks))


def newer(old: bytes, seed: int = 2) -> bytes:
    """The image after an update: blocks moved, some bytes of some changed, some new."""
    dice, blocks = random.Random(seed), [old[at : at + BLOCK] for at in range(0, len(old), BLOCK)]
    first = dice.randrange(len(blocks) // 2)
    blocks = blocks[first:] + blocks[:first]
    for _ in range(5):
        at, place = dice.randrange(len(blocks)), dice.randrange(BLOCK - 8)
        blocks[at] = blocks[at][:place] + dice.randbytes(8) + blocks[at][place + 8 :]
    blocks[dice.randrange(len(blocks))] = dice.randbytes(BLOCK)
    return b"".join(blocks)
