"""Checks of the slots: two separate places of sufficient size, of which nobody uses the spare one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from posagent.doctor import images, mounts
from posagent.doctor.findings import CannotTell, Verdict, all_of, fault, ok, warning
from posagent.doctor.site import SLOTS, Site
from posagent.platform.board import About

BLOCK_BYTES_MAX = 4096
UNEQUAL_SHARE_MAX = 0.05
DEPTH_MAX = 4
USABLE = ("block device", "file")


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """Where a block device lies: sectors of 512 bytes on a disk."""

    disk: str
    start: int
    end: int

    def overlaps(self, other: Extent) -> bool:
        return self.disk == other.disk and self.start < other.end and other.start < self.end


def _about(site: Site, slot: str) -> About:
    found = site.board.about(site.device(slot))
    if found is None or found.kind not in USABLE:
        raise CannotTell(f"slot {slot}: {site.device(slot)} cannot be used")
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


def distinct(site: Site) -> Verdict:
    """Not one device under two names."""
    first, second = (_about(site, slot) for slot in SLOTS)
    paths = [site.board.real(site.device(slot)) for slot in SLOTS]
    if first.number and first.number == second.number:
        return fault(f"{' and '.join(site.device(slot) for slot in SLOTS)} are both device {first.number}")
    return fault(f"both are {paths[0]}") if paths[0] == paths[1] else ok()


def apart(site: Site) -> Verdict:
    """No sector belongs to both."""
    numbers = [_about(site, slot).number for slot in SLOTS]
    if "" in numbers:
        raise CannotTell("a slot is a file")
    first, second = (extents(site, site.device(slot)) for slot in SLOTS)
    if not first or not second:
        raise CannotTell("sysfs does not say where the slots lie")
    both = next((one for one in first for other in second if one.overlaps(other)), None)
    if both is not None:
        return fault(f"they share sectors {both.start} to {both.end - 1} of {both.disk}")
    return ok(", ".join(f"{one.disk} {one.start}-{one.end - 1}" for one in (first[0], second[0])))


def extents(site: Site, path: str) -> list[Extent]:
    """Where a block device lies; none for anything else. The first is the device as it is named."""
    about = site.board.about(path)
    return list(_extents(site, about.number)) if about is not None and about.kind == "block device" else []


def _extents(site: Site, number: str, depth: int = DEPTH_MAX) -> Iterator[Extent]:
    """Where the device lies; for a mapped one, itself and what it is made of where that is one device."""
    board = site.board
    here = board.real(board.system(f"/sys/dev/block/{number}"))
    size = board.word(f"{here}/size")
    if not size.isdigit():
        return
    if board.about(f"{here}/partition") is not None:
        start = int(board.word(f"{here}/start") or 0)
        yield Extent(disk=here.split("/")[-2], start=start, end=start + int(size))
        return
    yield Extent(disk=here.rpartition("/")[2], start=0, end=int(size))
    below = board.names(f"{here}/slaves")
    if len(below) == 1 and depth > 0 and not board.word(f"{here}/dm/uuid").startswith("LVM-"):
        yield from _extents(site, board.word(f"{here}/slaves/{below[0]}/dev"), depth - 1)


def _below(site: Site, number: str, depth: int = DEPTH_MAX) -> set[str]:
    """The device and those it is made of."""
    found = {number}
    here = site.board.system(f"/sys/dev/block/{number}/slaves")
    for name in site.board.names(here) if depth > 0 else ():
        found |= _below(site, site.board.word(f"{here}/{name}/dev"), depth - 1)
    return found


def root(site: Site) -> Verdict:
    """The system that runs was started from the slot that the kernel's command line names."""
    running, spare = _about(site, site.booted()), _about(site, site.spare())
    if not running.number or not spare.number:
        raise CannotTell("a slot is a file")
    mounted = mounts.covering(mounts.table(site), "/")
    devices = _below(site, mounted.device) if mounted is not None else set()
    if spare.number in devices:
        return fault(f"the command line names slot {site.booted()}, but slot {site.spare()} is mounted as /")
    if running.number in devices:
        return ok(f"/ is slot {site.booted()}")
    if any(running.number in _below(site, one.device) for one in mounts.table(site)):
        return ok(f"slot {site.booted()} is mounted, below another root")
    shown = mounted.device if mounted is not None else "unknown"
    return warning(f"/ is device {shown}, which is neither slot; a root in memory hides what was started")


def spare_is_free(site: Site) -> Verdict:
    """Nobody has the spare slot mounted or open for himself: the installer needs that."""
    slot = site.spare()
    found, path = _about(site, slot), site.device(slot)
    if not found.number:
        raise CannotTell(f"slot {slot} is a file")
    points = [one.point for one in mounts.table(site) if found.number in _below(site, one.device)]
    if points:
        return fault(f"slot {slot} ({path}) is mounted at {', '.join(points[:3])}")
    why = site.board.refuses_exclusive(path)
    return fault(f"slot {slot} ({path}) is in use: {why}") if why else ok(f"slot {slot}")


def size(site: Site) -> Verdict:
    """The spare slot can take what runs now, and both are about equal."""
    sizes = {slot: site.board.size(site.device(slot)) for slot in SLOTS if _about(site, slot)}
    running, spare = site.booted(), site.spare()
    needed = image_size(site)
    if needed > sizes[spare]:
        return fault(f"slot {spare} has {sizes[spare]} bytes, the image in slot {running} has {needed}")
    small, large = sorted(sizes.values())
    shown = ", ".join(f"{slot}: {count} bytes" for slot, count in sizes.items())
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
    image = images.recognize(site.board.read(site.device(running), 0, images.HEAD_BYTES))
    return image.size if image is not None else 0


def blocks(site: Site) -> Verdict:
    """Direct writes are in pieces of 4 KiB."""
    found = {}
    for slot in SLOTS:
        number = _about(site, slot).number
        here = site.board.real(site.board.system(f"/sys/dev/block/{number}"))
        words = [site.board.word(f"{place}/queue/logical_block_size") for place in (here, here.rpartition("/")[0])]
        known = [int(word) for word in words if word.isdigit()]
        if not number or not known:
            raise CannotTell("a slot is a file" if not number else f"sysfs does not say it for slot {slot}")
        found[slot] = known[0]
    shown = ", ".join(f"{slot}: {count} bytes" for slot, count in found.items())
    return fault(shown) if max(found.values()) > BLOCK_BYTES_MAX else ok(shown)


def allowed(site: Site) -> Verdict:
    """The installer's sandbox opens the drivers that the slots and the boot environment are on."""
    site.need_systemd()
    rules = [rule.split()[0] for rule in site.settings("posagent-installer.service", "DeviceAllow") if rule.split()]
    if not rules:
        raise CannotTell("posagent-installer.service is not installed or allows every device")
    drivers = _drivers(site.board.text(site.board.system("/proc/devices")) or "")
    paths = [site.device(slot) for slot in SLOTS]
    if site.copies_in_files():
        lines = (site.board.text(site.config.boot.env_config) or "").splitlines()
        paths += [line.split()[0] for line in lines if line.strip() and not line.lstrip().startswith("#")]
    faults = []
    for path in dict.fromkeys(paths):
        found = site.board.about(path)
        if found is None or not found.number:
            continue
        kind = "block" if found.kind == "block device" else "char"
        driver = drivers.get((kind, found.number.split(":")[0]), "?")
        if f"{kind}-{driver}" not in rules and not {path, site.board.real(path)} & set(rules):
            faults.append(f"{path}: add DeviceAllow={kind}-{driver} rw")
    return all_of(faults, ", ".join(rules))


def _drivers(text: str) -> dict[tuple[str, str], str]:
    """(block or char, major number) -> driver, as /proc/devices has it."""
    found, kind = {}, ""
    for line in text.splitlines():
        words = line.split()
        if line.endswith("devices:"):
            kind = "block" if line.startswith("Block") else "char"
        elif len(words) == 2:
            found[kind, words[0]] = words[1]
    return found


CHECKS = {
    "slots.exist": exist,
    "slots.distinct": distinct,
    "slots.apart": apart,
    "slots.root": root,
    "slots.spare": spare_is_free,
    "slots.size": size,
    "slots.blocks": blocks,
    "slots.allowed": allowed,
}
