"""The two copies of a U-Boot environment as they lie on the medium: looked at, never written.

Each copy is a CRC-32 (little-endian), a byte that tells which copy is newer, then NAME=VALUE with a zero byte after
each, over which the CRC goes. Source: U-Boot include/env_internal.h; libubootenv fw_env.config.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from posagent.doctor.findings import CannotTell
from posagent.doctor.site import Site

OFFSET_MAX, SIZE_MAX = 1 << 62, 1 << 22
HEAD_BYTES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One line of fw_env.config: where a copy lies, in bytes. `device` is without links."""

    device: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.device} {self.offset:#x}+{self.size:#x}"

    def overlaps(self, other: Place) -> bool:
        apart = self.offset + self.size <= other.offset or other.offset + other.size <= self.offset
        return self.device == other.device and not apart


def places(site: Site) -> list[Place]:
    """Raises CannotTell for what is not the plain form of DEVICE OFFSET SIZE."""
    path = site.config.boot.env_config
    if site.config.boot.kind != "uboot":
        raise CannotTell(f"boot control of kind {site.config.boot.kind} looks at its copies itself")
    text = site.board.text(path)
    if text is None:
        raise CannotTell(f"{path} does not exist")
    lines = (line.partition("#")[0].split() for line in text.splitlines())
    return [_place(site, words) for words in lines if words]


def _place(site: Site, words: list[str]) -> Place:
    path, shown = site.config.boot.env_config, " ".join(words)[:80]
    try:
        device, offset, size = words[0], int(words[1], 0), int(words[2], 0)
    except (ValueError, IndexError):
        raise CannotTell(f"{path}: {shown!r} is not DEVICE OFFSET SIZE; only this form is understood") from None
    if not device.isprintable() or abs(offset) > OFFSET_MAX or not HEAD_BYTES < size <= SIZE_MAX:
        raise CannotTell(f"{path}: {shown!r} is no place that is understood")
    if offset < 0:  # from the end
        offset += site.board.size(device)
    return Place(device=site.board.real(device), offset=offset, size=size)


def variables(site: Site, place: Place) -> Mapping[str, str] | None:
    """What a copy holds; None where its checksum is wrong. Raises CannotTell, OSError."""
    data = site.board.read(place.device, place.offset, place.size)
    if len(data) < place.size or int.from_bytes(data[:4], "little") != zlib.crc32(data[HEAD_BYTES:]):
        if site.board.word(site.board.system(f"/sys/class/mtd/{place.device.rpartition('/')[2]}/type")) == "nand":
            raise CannotTell(f"{place.device}: on NAND a copy may lie behind a bad block")
        return None
    texts = data[HEAD_BYTES:].partition(b"\0\0")[0].split(b"\0")
    return {name: value for name, _, value in (text.decode("utf-8", "replace").partition("=") for text in texts)}
