"""Three bootloaders on the model's environment: which slot they start, and what they write before they do.

counting    RAUC's U-Boot script: every start uses up a try of the slot, confirmed or not; refilled when none is left
bootcount   U-Boot's bootcount with upgrade_available: only a slot on trial is counted, a confirmed one never
one-try     GRUB and EFI "start once": like bootcount, with a single try
"""

from __future__ import annotations

from posagent.core.ports import BootState
from posagent.crash.medium import MediumBoot
from posagent.sim import bootloader

KINDS = ("counting", "bootcount", "one-try")


def choose(kind: str, boot: MediumBoot, tries_full: int) -> str | None:
    """The slot to start, everything written; None to begin again. Raises BootControlError."""
    if kind == "counting":
        return bootloader.choose(boot.read, boot.store, tries_full)
    state = boot.read()
    first, *others = state.order
    if not boot.trial:
        return first
    left = state.tries.get(first, 0)
    if left == 0:
        return others[0] if others else first
    boot.store(BootState(order=state.order, tries={**state.tries, first: left - 1}))
    return first
