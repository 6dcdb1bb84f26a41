"""Checks of the boot environment: two whole copies, writable, and variables that make sense."""

from __future__ import annotations

from posagent.core.errors import BootControlError
from posagent.doctor import environment, images, slots, trials
from posagent.doctor.findings import CannotTell, Verdict, all_of, fault, ok, warning
from posagent.doctor.site import SLOTS, Site

REPORTS_CARD_RESET = 0x20
"""WDIOF_CARDRESET among a watchdog driver's options."""
SECTOR = 512
RESET_WORDS = ("power", "brown_out", "watchdog", "panic", "reboot")


def readable(site: Site) -> Verdict:
    """The environment can be read and, unless configured otherwise, has two copies."""
    try:
        site.boot.read()
    except BootControlError as error:
        return fault(f"{error.detail} [{error.code}]")
    if not site.config.boot.require_redundant_env:
        return warning("boot.require_redundant_env is switched off: a power cut can lose the only copy")
    return ok(f"kind {site.config.boot.kind}")


def places(site: Site) -> Verdict:
    """The two copies lie apart from each other and outside of both slots."""
    if site.config.boot.kind != "uboot":
        raise CannotTell(f"boot control of kind {site.config.boot.kind} has no places to compare")
    found = environment.places(site)
    if len(found) != 2:
        return fault(f"{site.config.boot.env_config} names {len(found)} place(s)")
    first, second = found
    devices = {site.board.real(site.device(slot)): slot for slot in SLOTS}
    inside = [f"{one.device} is also slot {devices[one.device]}" for one in found if one.device in devices]
    shown = [f"{one.device} {one.offset:#x}+{one.size:#x}" for one in found]
    unequal = ["the copies are of unequal size"] if first.size != second.size else []
    overlap = [f"{shown[0]} and {shown[1]} overlap"] if first.overlaps(second) else []
    return all_of(overlap + inside + unequal + _in_a_slot(site, found), ", ".join(shown))


def _in_a_slot(site: Site, found: list[environment.Place]) -> list[str]:
    """Copies on a bare disk that lie where a slot's partition is."""
    taken = {slot: slots.extents(site, site.device(slot))[:1] for slot in SLOTS}
    hits = []
    for one in found:
        for here in slots.extents(site, one.device)[:1]:
            first = here.start * SECTOR + one.offset
            lies = slots.Extent(disk=here.disk, start=first // SECTOR, end=-(-(first + one.size) // SECTOR))
            names = [slot for slot, places in taken.items() for place in places if place.overlaps(lies)]
            hits += [f"{one.device} {one.offset:#x} lies inside slot {slot}" for slot in names]
    return hits


def copies(site: Site) -> Verdict:
    """Each copy alone could start the terminal."""
    found = environment.copies(site)
    broken = [f"copy {number} at {one.place.device} {one.place.offset:#x}" for number, one in _numbered(found, False)]
    if broken:
        return fault(f"{', '.join(broken)} has a wrong checksum")
    order = site.config.boot.order_variable
    bare = [f"copy {number} has no {order}" for number, one in _numbered(found, True) if not one.variables.get(order)]
    stale = []
    if len(found) == 2 and found[0].counted:
        apart = (found[0].byte - found[1].byte) % 256
        if min(apart, 256 - apart) > 1:
            stale = [f"one copy is {min(apart, 256 - apart)} writes behind: something writes only the other one"]
    return all_of(bare, f"{len(found)} whole copies", stale)


def _numbered(found: list[environment.Copy], whole: bool) -> list[tuple[int, environment.Copy]]:
    return [(number, one) for number, one in enumerate(found, 1) if one.whole is whole]


def booted(site: Site) -> Verdict:
    """The kernel says which slot runs."""
    try:
        return ok(f"slot {site.boot.booted()}")
    except BootControlError as error:
        return fault(error.detail)


def order(site: Site) -> Verdict:
    """The order names slots, and the running one among them."""
    found, running = site.boot_state().order, site.booted()
    if not found:
        return fault(f"the boot order names neither {' nor '.join(site.boot_name(slot) for slot in SLOTS)}")
    if running not in found:
        return fault(f"slot {running} runs and is not in the boot order ({' '.join(found)})")
    if found[0] != running and not site.agent_is_busy():
        return warning(f"slot {running} runs, but slot {found[0]} is first in the boot order")
    return ok(" ".join(found))


def tries(site: Site) -> Verdict:
    """Counters between nothing and full; those of slots in the order not used up."""
    state, full, running = site.boot_state(), site.config.boot.tries_full, site.booted()
    faults = [f"slot {slot} has {count} of {full}" for slot, count in state.tries.items() if count > full]
    spent = [slot for slot in state.order if not state.tries.get(slot)]
    faults += [f"slot {slot} is in the order without a try" for slot in spent if slot != running or site.agent_runs()]
    return all_of(faults, ", ".join(f"{slot}: {count} of {full}" for slot, count in sorted(state.tries.items())))


def fallback(site: Site) -> Verdict:
    """What the bootloader may start besides the running slot is a whole, tested image."""
    others = [slot for slot in site.boot_state().order if slot != site.booted()]
    if not others:
        return ok("only the running slot is in the boot order")
    [slot] = others
    records = site.stored_records()
    if records is not None:
        state = str(records[slot].state)
        if state == "complete" and site.boot_state().order[0] == slot:
            raise CannotTell(f"slot {slot} is about to be tried")
        return ok(f"slot {slot} is good") if state == "good" else fault(f"slot {slot} is {state} and in the boot order")
    device = site.device(slot)
    image = images.recognize(site.board.read(device, 0, images.HEAD_BYTES))
    if image is None:
        raise CannotTell(f"slot {slot}: what is in {device} is not recognised")
    if image.kind == images.EMPTY:
        return fault(f"slot {slot} is in the boot order, and {device} is empty")
    return ok(f"slot {slot} holds an image ({image.kind})")


def writable(site: Site) -> Verdict:
    """The same state written back twice, once into each copy, through the agent's own boot control."""
    if trials.pending(site) is not None:
        raise CannotTell("a boot test is under way, which this would blur")
    unrest = site.unrest()
    if unrest:
        raise CannotTell(f"{unrest}; the environment is left alone")
    before, bytes_before = site.boot_state(), _bytes(site)
    try:
        site.boot.write(before)
        site.boot.write(before)
        after = site.boot.read()
    except BootControlError as error:
        return fault(f"{error.detail} [{error.code}]")
    if after != before:
        return fault(f"{before} was written, {after} was read back")
    same = [number for number, (old, new) in enumerate(zip(bytes_before, _bytes(site), strict=True), 1) if old == new]
    if same:
        return warning(f"copy {' and '.join(map(str, same))} did not change: it may not be where it is looked for")
    return ok("written back twice")


def _bytes(site: Site) -> list[int]:
    """The bytes that count writes; none where they cannot be seen."""
    try:
        found = environment.copies(site)
    except (CannotTell, OSError):
        return []
    return [one.byte for one in found] if len(found) == 2 and all(one.counted for one in found) else []


def reset_word(site: Site) -> Verdict:
    """Whether a hang can be told from a power cut: by the boot script's word, or by the watchdog driver."""
    key = site.config.boot.reset_key
    said = [word.partition("=")[2] for word in site.command_line() if word.startswith(f"{key}=")]
    if any(word in RESET_WORDS for word in said):
        return ok(f"{key}={said[-1]}")
    options = site.board.word(site.board.system("/sys/class/watchdog/watchdog0/options"))
    try:
        reports = int(options, 0) & REPORTS_CARD_RESET
    except ValueError:
        reports = 0
    if said:
        return fault(f"{key}={said[-1][:40]} is none of {', '.join(RESET_WORDS)}")
    if reports:
        return ok("no word on the kernel command line; the watchdog driver reports its resets")
    return warning(f"no {key}= on the kernel command line, and the watchdog driver does not say that it reports resets")


CHECKS = {
    "boot.counts_down": trials.counts_down,
    "boot.readable": readable,
    "boot.places": places,
    "boot.copies": copies,
    "boot.booted": booted,
    "boot.order": order,
    "boot.tries": tries,
    "boot.fallback": fallback,
    "boot.writable": writable,
    "boot.reset_word": reset_word,
}
