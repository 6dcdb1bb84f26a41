"""A release desk for tests: keys, a small image, bundles built, taken apart, changed and signed again."""

from __future__ import annotations

import io
import random
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata, MetaFile

from posagent.release import bundle, keys
from posagent.release.bundle import Versions

NOW_S = 1_800_000_000
DAY_S = 86400
Parts = dict[str, bytes]


def image_bytes(seed: int = 1, size: int = (5 << 19) + 4096) -> bytes:
    """An image of some blocks of text, then a megabyte of zeros, then noise; not a whole number of frames."""
    dice = random.Random(seed)
    words = [dice.randbytes(3).hex().encode() for _ in range(500)]
    text = b" ".join(dice.choices(words, k=160_000))[: 1 << 20]
    noise = dice.randbytes(size - (2 << 20))
    return text.ljust(1 << 20, b"\0") + bytes(1 << 20) + noise


class Desk:
    """One product's release desk in `folder`. Bundles are built quickly and always for `sim-pos`."""

    def __init__(self, folder: Path, *, now_s: int = NOW_S, root_days: int = keys.ROOT_DAYS) -> None:
        self.folder = folder
        self.keys = folder / "keys"
        keys.init(self.keys, now_s=now_s, root_days=root_days)
        self.image = folder / "image"
        self.image.write_bytes(image_bytes())

    @property
    def first_root(self) -> bytes:
        return (self.keys / "1.root.json").read_bytes()

    def build(self, number: int | None = None, *, now_s: int = NOW_S, **words: Any) -> bytes:
        """A bundle whose three metadata versions are all `number`."""
        versions = None if number is None else Versions(targets=number, snapshot=number, timestamp=number)
        values: dict[str, Any] = {"version": "1.2.3", "compatible": ["sim-pos"], "level": 1, **words}
        out = self.folder / "out.bundle"
        bundle.build(self.image, keys_dir=self.keys, out=out, versions=versions, now_s=now_s, **values)
        return out.read_bytes()

    def sign(self, part: Metadata[Any], *, signatures: int = 9) -> bytes:
        """Sign with at most so many of the newest root's keys for the part's role."""
        names = ("timestamp-offline",) if part.signed.type == "timestamp" else ()
        signers = keys.role_signers(self.keys, keys.newest_root(self.keys), part.signed.type, names=names)
        return keys.sign(part, signers[:signatures])

    def change(self, data: bytes, role: str, edit: Callable[[Any], None], *, signatures: int = 9) -> bytes:
        """The bundle with `edit` done to one role's signed part, signed again, and the roles above made to fit."""
        parts = unpack(data)
        below: MetaFile | None = None
        for one in CHAIN[CHAIN.index(role) :]:
            part: Metadata[Any] = Metadata.from_bytes(parts.pop(name_of(parts, one)))
            if one == role:
                edit(part.signed)
            elif one == "snapshot":
                part.signed.meta["targets.json"] = below
            else:
                part.signed.snapshot_meta = below
            signed = self.sign(part, signatures=signatures if one == role else 9)
            number = "" if one == "timestamp" else f"{part.signed.version}."
            parts[f"metadata/{number}{one}.json"] = signed
            below = MetaFile.from_data(part.signed.version, signed, ["sha256"])
        return pack(parts)


CHAIN = ("targets", "snapshot", "timestamp")


def name_of(parts: Mapping[str, bytes], role: str) -> str:
    return next(name for name in parts if name.endswith(f"{role}.json") and name.startswith("metadata/"))


def unpack(data: bytes) -> Parts:
    """Members of a bundle by name."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {entry.name: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]


def pack(parts: Mapping[str, bytes]) -> bytes:
    """A bundle of these members, metadata first."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(parts, key=lambda name: name.startswith("targets/")):
            entry = tarfile.TarInfo(name)
            entry.size = len(parts[name])
            tar.addfile(entry, io.BytesIO(parts[name]))
    return out.getvalue()
