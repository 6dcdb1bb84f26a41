"""What to do first after any start: a total function of the journal's state and what the hardware says.

Rules: intent comes from the journal, fact from the hardware; where they contradict, the hardware is believed and the
booted slot keeps running. Recovery yields an event for the one table, never a state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from posagent.core.model import Event, Observation, Occurrence, Situation, State

Recover = Callable[[Situation, Observation], Occurrence]


def _settle(situation: Situation, seen: Observation) -> Occurrence:
    """No update under way: make sure the booted slot stays bootable."""
    if seen.slots[seen.booted].unconfirmed:
        return _adopt(situation, seen)
    return Occurrence(event=Event.SETTLED)


def _resume(situation: Situation, seen: Observation) -> Occurrence:
    """Before the trial boot: go on, unless the terminal now runs from the slot that was to be written."""
    update = situation.update
    if seen.slots[seen.booted].unconfirmed:
        return _adopt(situation, seen)
    if update is None or seen.booted == update.target:
        return Occurrence(event=Event.SLOT_CHANGED)
    return Occurrence(event=Event.DUE)


def _after_boot(situation: Situation, seen: Observation) -> Occurrence:
    """From arming on: which slot came up decides."""
    update = situation.update
    if update is not None and seen.booted == update.target:
        return Occurrence(event=Event.BOOTED_TARGET, data={"update": {"armed": True, "tried": True}})
    if update is None:
        return Occurrence(event=Event.BOOTED_PREVIOUS)
    tried = update.tried or seen.spent(update.target)
    return Occurrence(
        event=Event.BOOTED_PREVIOUS, data={"update": {"armed": seen.armed(update.target), "tried": tried}}
    )


def _adopt(situation: Situation, seen: Observation) -> Occurrence:
    """An unconfirmed trial is running that the journal does not know of (its tail was lost): test it all the same."""
    slot = seen.slots[seen.booted]
    begins: dict[str, Any] = {
        "id": "adopted",
        "source": "",
        "spool": "adopted",
        "target": seen.booted,
        "previous": seen.spare,
        "version": slot.version,
        "from_version": seen.slots[seen.spare].version,
        "digest": slot.digest,
        "armed": True,
        "tried": True,
    }
    update = situation.update
    if update is not None and update.target == seen.booted:
        return Occurrence(event=Event.TRIAL_FOUND, data={"update": {"armed": True, "tried": True}})
    return Occurrence(event=Event.TRIAL_FOUND, data={"begins": begins})


RECOVERY: Mapping[State, Recover] = {
    State.IDLE: _settle,
    State.DOWNLOAD: _resume,
    State.VERIFY: _resume,
    State.READY: _resume,
    State.INSTALL: _resume,
    State.ACTIVATE: _after_boot,
    State.SELFTEST: _after_boot,
    State.COMMIT: _after_boot,
    State.ROLLBACK: _after_boot,
}


def recover(situation: Situation, seen: Observation) -> Occurrence:
    """The event with which the agent begins after a start."""
    return RECOVERY[situation.state](situation, seen)
