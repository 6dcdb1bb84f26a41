"""The simulated bootloader: the same try counting as RAUC's U-Boot script, on the real environment file.

For each slot in BOOT_ORDER, the first with tries left is decremented, saved, and started. When no slot has a try
left, all counters are refilled and it starts over, so that a terminal never stays dark for want of a counter.
"""

from __future__ import annotations

from collections.abc import Callable

from posagent.core.ports import BootState

TRIES_FULL = 3


def choose(
    read: Callable[[], BootState], write: Callable[[BootState], None], tries_full: int = TRIES_FULL
) -> str | None:
    """The slot to start now, its counter already decremented and saved; None after a refill (start over)."""
    state = read()
    for slot in state.order:
        if state.tries.get(slot, 0) > 0:
            write(BootState(order=state.order, tries={**state.tries, slot: state.tries[slot] - 1}))
            return slot
    write(BootState(order=state.order, tries=dict.fromkeys(state.order, tries_full)))
    return None
