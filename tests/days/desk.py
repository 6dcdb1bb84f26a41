"""A release desk for one terminal: images with behaviours, and a signed bundle whenever one is to be offered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from posagent.crash.medium import SLOT_BLOCK_BYTES
from posagent.crash.stage import FACTORY, HARDWARE
from posagent.release import bundle, keys
from tests.days.pace import PROFILE

FACTORY_BYTES = 1 << 20
OPERATION_BYTES = 256 << 10
BEHAVIOURS = ("good", "test-fails", "panic", "hang")
"""Passes; answers no payment; never comes up, at once or only the watchdog says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    version: str
    behaviour: str


def image_in(block: bytes) -> Image:
    """What the first block of a slot says."""
    version, behaviour = json.loads(block[: block.index(b"\n")])
    return Image(version=version, behaviour=behaviour)


class Desk:
    """In the directory `root`; everything a terminal needs of the real file system lies there, too."""

    def __init__(self, root: Path, random: Random, now_s: float) -> None:
        self.root = root
        self._random = random
        self._number = 1
        keys.init(root / "keys", now_s=int(now_s))
        (root / "root.json").write_bytes((root / "keys/1.root.json").read_bytes())
        self.factory = self._image(Image(version=FACTORY, behaviour="good"), FACTORY_BYTES)

    def os_release(self, image: Image) -> str:
        return str(self.root / f"os-release-{image.version}")

    def _image(self, image: Image, size: int) -> bytes:
        Path(self.os_release(image)).write_text(f"IMAGE_VERSION={image.version}\n")
        head = json.dumps([image.version, image.behaviour]).encode() + b"\n"
        return head.ljust(SLOT_BLOCK_BYTES, b".") + self._random.randbytes(size - SLOT_BLOCK_BYTES)

    def release(
        self, behaviour: str, size: int, now_s: float, terms: Mapping[str, Any]
    ) -> tuple[dict[str, Any], bytes]:
        """The pointer of the repository and the bundle of a new version."""
        self._number += 1
        image = Image(version=f"1.{self._number}.0", behaviour=behaviour)
        size -= size % SLOT_BLOCK_BYTES
        source, made = self.root / "image", self.root / "bundle"
        source.write_bytes(self._image(image, size))
        bundle.build(
            source,
            version=image.version,
            compatible=[HARDWARE],
            keys_dir=self.root / "keys",
            out=made,
            security_counter=self._number,
            level=1,
            data_bytes=OPERATION_BYTES,
            profile=PROFILE,
            terms=terms,
            now_s=int(now_s),
        )
        data = made.read_bytes()
        made.unlink()
        source.unlink()
        pointer = {
            "format": 1,
            "version": image.version,
            "bundle": f"bundles/{image.version}.bundle",
            "length": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "payloads": [{"from": "", "bytes": len(data), "image_bytes": size}],
            **terms,
        }
        return pointer, data
