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

SIZE_MAX = 1 << 22
HEAD_BYTES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One line of fw_env.config: where a copy lies. `device` is without links."""

    device: str
    offset: int
    size: int

    def overlaps(self, other: Place) -> bool:
        apart = self.offset + self.size <= other.offset or other.offset + other.size <= self.offset
        return self.device == other.device and not apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """`counted` where the byte counts writes (elsewhere it is 1 for the newer copy); no variables where damaged."""

    place: Place
    whole: bool
    byte: int
    counted: bool
    variables: Mapping[str, str]


def places(site: Site) -> list[Place]:
    """Raises CannotTell for what is not the plain form of two lines."""
    path = site.config.boot.env_config
    text = site.board.text(path)
    if text is None:
        raise CannotTell(f"{path} does not exist")
    found = []
    for line in text.splitlines():
        words = line.split("#")[0].split()
        if not words:
            continue
        try:
            device, offset, size = words[0], int(words[1], 0), int(words[2], 0)
        except (ValueError, IndexError):
            raise CannotTell(f"{path}: {line[:80]!r} is not DEVICE OFFSET SIZE; only this form is understood") from None
        if not HEAD_BYTES < size <= SIZE_MAX:
            raise CannotTell(f"{path}: a copy of {size} bytes is not understood")
        if offset < 0:
            offset += site.board.size(device)
        found.append(Place(device=site.board.real(device), offset=offset, size=size))
    return found


def copies(site: Site) -> list[Copy]:
    """Raises CannotTell, OSError."""
    if site.config.boot.kind != "uboot":
        raise CannotTell(f"boot control of kind {site.config.boot.kind} looks at its copies itself")
    return [_copy(site, place) for place in places(site)]


def _copy(site: Site, place: Place) -> Copy:
    about = site.board.about(place.device)
    counted = about is not None and about.kind != "character device"
    data = site.board.read(place.device, place.offset, place.size)
    whole = len(data) == place.size and int.from_bytes(data[:4], "little") == zlib.crc32(data[HEAD_BYTES:])
    if not whole and not counted and site.board.word(_mtd_type(site, place)) != "nor":
        raise CannotTell(f"{place.device}: on NAND a copy may lie behind a bad block")
    texts = data[HEAD_BYTES:].partition(b"\0\0")[0].split(b"\0") if whole else []
    pairs = (text.decode("utf-8", "replace").partition("=") for text in texts)
    variables = {name: value for name, _, value in pairs}
    return Copy(place=place, whole=whole, byte=data[4] if len(data) > 4 else 0, counted=counted, variables=variables)


def _mtd_type(site: Site, place: Place) -> str:
    return site.board.system(f"/sys/class/mtd/{place.device.rpartition('/')[2]}/type")


def newer(one: Copy, other: Copy) -> Copy:
    """The copy that is used, of two whole ones."""
    ahead = (other.byte - one.byte) % 256
    return other if (0 < ahead < 128 if one.counted else other.byte > one.byte) else one
