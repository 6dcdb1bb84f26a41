"""Checks of the slots: two separate places of sufficient size, of which nobody uses the spare one.

Source of the images' sizes: Linux Documentation/filesystems/ext4/super.rst, squashfs and erofs on-disk formats.
"""

from __future__ import annotations

from dataclasses import dataclass

from posagent.doctor import mounts
from posagent.doctor.findings import CannotTell, Verdict, all_of, fault, ok, warning
from posagent.doctor.site import SLOTS, Site
from posagent.platform.board import About

SECTOR = 512
HEAD_BYTES = 4096
EXT_64BIT = 0x80
UNEQUAL_SHARE_MAX = 0.05
DEPTH_MAX = 4
USABLE = ("block device", "file")


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """Where a block device lies: sectors of 512 bytes on a disk."""

    disk: str
    start: int
    end: int

    def __str__(self) -> str:
        return f"{self.disk} {self.start}-{self.end - 1}"

    def overlaps(self, other: Extent) -> bool:
        return self.disk == other.disk and self.start < other.end and other.start < self.end

    def part(self, offset: int, size: int) -> Extent:
        """The sectors of some bytes of it."""
        end = self.start + -(-(offset + size) // SECTOR)
        return Extent(disk=self.disk, start=self.start + offset // SECTOR, end=end)


def extent(site: Site, path: str) -> Extent | None:
    """Where a partition or a whole device lies; None for anything else."""
    board, about = site.board, site.board.about(path)
    if about is None or about.kind != "block device":
        return None
    here = board.real(board.system(f"/sys/dev/block/{about.number}"))
    start, size = board.number(f"{here}/start"), board.number(f"{here}/size")
    if size is None:
        return None
    if start is None:
        return Extent(disk=here.split("/")[-1], start=0, end=size)
    return Extent(disk=here.split("/")[-2], start=start, end=start + size)


def _about(site: Site, slot: str) -> About:
    found = site.board.about(site.device(slot))
    if found is None or found.kind not in USABLE:
        raise CannotTell(f"slot {slot}: {site.device(slot)} cannot be used")
    return found


def _device(site: Site, slot: str) -> About:
    found = _about(site, slot)
    if not found.number:
        raise CannotTell(f"slot {slot} is a file")
    return found


def exist(site: Site) -> Verdict:
    faults = []
    for slot in SLOTS:
        path = site.device(slot)
        found = site.board.about(path)
        if found is None:
            faults.append(f"slot {slot}: {path} does not exist")
        elif found.kind not in USABLE:
            faults.append(f"slot {slot}: {path} is a {found.kind}")
    return all_of(faults, ", ".join(site.device(slot) for slot in SLOTS))


def apart(site: Site) -> Verdict:
    """Not one device under two names, and no sector belongs to both. One path for both is no configuration."""
    if not all(_about(site, slot).number for slot in SLOTS):
        return ok("a slot is a file")
    first, second = (extent(site, site.device(slot)) for slot in SLOTS)
    if first is None or second is None:
        raise CannotTell("sysfs does not say where the slots lie")
    shown = f"{first}, {second}"
    return fault(f"{shown} overlap") if first.overlaps(second) else ok(shown)


def _below(site: Site, number: str, depth: int = DEPTH_MAX) -> set[str]:
    """The device and those it is made of (dm-verity and the like)."""
    found = {number}
    here = site.board.system(f"/sys/dev/block/{number}/slaves")
    for name in site.board.names(here) if depth > 0 else ():
        found |= _below(site, site.board.word(f"{here}/{name}/dev"), depth - 1)
    return found


def root(site: Site) -> Verdict:
    """The system that runs was started from the slot that the kernel's command line names."""
    running, spare = _device(site, site.booted()), _device(site, site.spare())
    table = mounts.table(site)
    mounted = mounts.covering(table, "/")
    devices = _below(site, mounted.device) if mounted is not None else set()
    if spare.number in devices:
        return fault(f"the command line names slot {site.booted()}, but slot {site.spare()} is mounted as /")
    if running.number in devices:
        return ok(f"/ is slot {site.booted()}")
    if any(running.number in _below(site, one.device) for one in table):
        return ok(f"slot {site.booted()} is mounted, below another root")
    shown = mounted.device if mounted is not None else "unknown"
    return warning(f"/ is device {shown}, which is neither slot; a root in memory hides what was started")


def spare_is_free(site: Site) -> Verdict:
    """Nobody has the spare slot mounted or open for himself: the installer needs that."""
    slot = site.spare()
    found, path = _device(site, slot), site.device(slot)
    points = [one.point for one in mounts.table(site) if found.number in _below(site, one.device)]
    if points:
        return fault(f"slot {slot} ({path}) is mounted at {', '.join(points[:3])}")
    if site.agent_state() not in (None, "idle"):
        raise CannotTell("an update is under way, whose installer has it and must not be disturbed")
    why = site.board.refuses_exclusive(path)
    return fault(f"slot {slot} ({path}) is in use: {why}") if why else ok(f"slot {slot}")


def size(site: Site) -> Verdict:
    """The spare slot can take what runs now, and both are about equal."""
    sizes = {slot: site.board.size(site.device(slot)) for slot in SLOTS if _about(site, slot)}
    needed, spare = image_size(site), site.spare()
    shown = ", ".join(f"{slot}: {count} bytes" for slot, count in sizes.items())
    if needed > sizes[spare]:
        return fault(f"{shown}; the running image has {needed}")
    small, large = sorted(sizes.values())
    if small == 0:
        return fault(shown)
    if (large - small) / large > UNEQUAL_SHARE_MAX:
        return warning(f"{shown}: an image that fits into one need not fit into the other")
    if not needed:
        return warning(f"{shown}; how large the running image is cannot be told")
    return ok(f"{shown}; the running image has {needed}")


def image_size(site: Site) -> int:
    """Bytes of the image that runs, as recorded or as its file system says; 0 where neither tells."""
    running = site.booted()
    records = site.stored_records()
    if records is not None and records[running].size:
        return records[running].size
    return _file_system_size(_head(site, running))


def is_empty(site: Site, slot: str) -> bool:
    head = _head(site, slot)
    return head in (b"\0" * len(head), b"\xff" * len(head))


def _head(site: Site, slot: str) -> bytes:
    return site.board.read(site.device(slot), 0, HEAD_BYTES)


def _file_system_size(head: bytes) -> int:
    def number(at: int, length: int) -> int:
        return int.from_bytes(head[at : at + length], "little")

    if head[:4] == b"hsqs":
        return number(40, 8)
    if number(1024 + 56, 2) == 0xEF53:
        high = number(1024 + 0x150, 4) if number(1024 + 96, 4) & EXT_64BIT else 0
        return ((high << 32) + number(1024 + 4, 4)) << (10 + min(number(1024 + 24, 4), 6))
    if number(1024, 4) == 0xE0F5E1E2:  # erofs
        return number(1024 + 36, 4) << min(number(1024 + 12, 1), 16)
    return 0


CHECKS = {
    "slots.exist": exist,
    "slots.apart": apart,
    "slots.root": root,
    "slots.spare": spare_is_free,
    "slots.size": size,
}
