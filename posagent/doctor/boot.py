"""Checks of the boot environment: two whole copies, writable, and variables that make sense."""

from __future__ import annotations

from posagent.core.errors import BootControlError
from posagent.core.ports import ResetCause
from posagent.doctor import environment, slots, trials
from posagent.doctor.environment import Place
from posagent.doctor.findings import CannotTell, Verdict, all_of, fault, ok, warning
from posagent.doctor.site import SLOTS, Site

REPORTS_CARD_RESET = 0x20
"""WDIOF_CARDRESET among a watchdog driver's options."""


def readable(site: Site) -> Verdict:
    """The environment can be read and, unless configured otherwise, has two copies."""
    boot = site.config.boot
    try:
        site.boot.read()
    except BootControlError as error:
        return fault(f"{error.detail} [{error.code}]")
    if boot.kind != "custom" and not boot.require_redundant_env:
        return warning("boot.require_redundant_env is switched off: a power cut can lose the only copy")
    return ok(f"kind {boot.kind}")


def places(site: Site) -> Verdict:
    """The two copies lie apart from each other and outside of both slots."""
    found = environment.places(site)
    if len(found) != 2:
        return fault(f"{site.config.boot.env_config} names {len(found)} place(s)")
    first, second = found
    faults = [f"{first} and {second} overlap"] if first.overlaps(second) else []
    faults += ["the copies are of unequal size"] if first.size != second.size else []
    faults += [f"{one} lies inside slot {slot}" for one in found for slot in _slots_around(site, one)]
    return all_of(faults, f"{first}, {second}")


def _slots_around(site: Site, place: Place) -> list[str]:
    disk = slots.extent(site, place.device)
    if disk is None:
        return []
    lies = disk.part(place.offset, place.size)
    extents = {slot: slots.extent(site, site.device(slot)) for slot in SLOTS}
    return [slot for slot, taken in extents.items() if taken is not None and taken.overlaps(lies)]


def copies(site: Site) -> Verdict:
    """Each copy alone could start the terminal."""
    order, faults = site.config.boot.order_variable, []
    found = environment.places(site)
    for place in found:
        variables = environment.variables(site, place)
        if variables is None:
            faults.append(f"{place} has a wrong checksum")
        elif not variables.get(order):
            faults.append(f"{place} has no {order}")
    return all_of(faults, f"{len(found)} whole copies")


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
    if found[0] != running and site.agent_state() in (None, "idle"):
        return warning(f"slot {running} runs, but slot {found[0]} is first in the boot order")
    return ok(" ".join(found))


def tries(site: Site) -> Verdict:
    """Counters between nothing and full; those of slots in the order not used up."""
    state, full, running = site.boot_state(), site.config.boot.tries_full, site.booted()
    faults = [f"slot {slot} has {count} of {full}" for slot, count in state.tries.items() if count > full]
    spent = [slot for slot in state.order if not state.tries.get(slot)]
    # the running slot's last try is gone until the agent, which refills it, has started
    faults += [f"slot {slot} is in the order without a try" for slot in spent if slot != running or site.agent_runs()]
    return all_of(faults, ", ".join(f"{slot}: {count} of {full}" for slot, count in sorted(state.tries.items())))


def fallback(site: Site) -> Verdict:
    """What the bootloader may start besides the running slot is a whole, tested image."""
    boot_order = site.boot_state().order
    others = [slot for slot in boot_order if slot != site.booted()]
    if not others:
        return ok("only the running slot is in the boot order")
    [slot] = others
    records = site.stored_records()
    if records is not None:
        state = str(records[slot].state)
        if state == "complete" and boot_order[0] == slot:
            raise CannotTell(f"slot {slot} is about to be tried")
        return ok(f"slot {slot} is good") if state == "good" else fault(f"slot {slot} is {state} and in the boot order")
    if slots.is_empty(site, slot):
        return fault(f"slot {slot} is in the boot order, and {site.device(slot)} is empty")
    raise CannotTell(f"slot {slot} is in the boot order; what is in it was not recorded")


def writable(site: Site) -> Verdict:
    """The same state written back twice, once into each copy, through the agent's own boot control.

    Never where that would change it: a counter that is missing or no number would become 0.
    """
    for _ in range(2):
        unrest = site.unrest()  # asked again just before each write: what is written was read since
        if unrest:
            raise CannotTell(f"{unrest}; the environment is left alone")
        before = site.boot_state()
        if not before.order or not all(before.tries.get(slot) for slot in before.order):
            raise CannotTell("order and tries are not such that they could be written back")
        try:
            site.boot.write(before)
            after = site.boot.read()
        except BootControlError as error:
            return fault(f"{error.detail} [{error.code}]")
        if after != before:
            return fault(f"{before} was written, {after} was read back")
    return ok("written back twice")


def reset_word(site: Site) -> Verdict:
    """Whether a hang can be told from a power cut: by the boot script's word, or by the watchdog driver."""
    key = site.config.boot.reset_key
    words = (site.board.text(site.config.boot.cmdline_file) or "").split()
    said = [word.partition("=")[2] for word in words if word.startswith(f"{key}=")]
    known = [cause.value for cause in ResetCause if cause is not ResetCause.UNKNOWN]
    if any(word in known for word in said):
        return ok(f"{key}={said[-1]}")
    if said:
        return fault(f"{key}={said[-1][:40]} is none of {', '.join(known)}")
    if _driver_reports(site):
        return ok("no word on the kernel command line; the watchdog driver reports its resets")
    return warning(f"no {key}= on the kernel command line, and the watchdog driver does not say that it reports resets")


def _driver_reports(site: Site) -> bool:
    options = site.board.word(site.board.system("/sys/class/watchdog/watchdog0/options"))
    try:
        return bool(int(options, 0) & REPORTS_CARD_RESET)
    except ValueError:
        return False


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
