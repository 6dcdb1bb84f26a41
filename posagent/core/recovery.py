"""What to do first after any start: a total function of the journal's state and what the hardware says.

Rules: intent comes from the journal, fact from the hardware; where they contradict, the hardware is believed and the
booted slot keeps running. Recovery yields an event for the one table, never a state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from posagent.core.model import Command, Event, Observation, Occurrence, Situation, State
from posagent.core.ports import ResetCause

Recover = Callable[[Situation, Observation], Occurrence]


def _settle(situation: Situation, seen: Observation) -> Occurrence:
    """No update under way: make sure the booted slot stays bootable."""
    if seen.slots[seen.booted].unconfirmed:
        return _adopt(situation, seen)
    return _stay_or_return(situation, seen)


def _stay_or_return(situation: Situation, seen: Observation) -> Occurrence:
    """The running version is good, but is it the one that should run?"""
    first = seen.order[0] if seen.order else seen.booted
    if first != seen.booted and seen.spent(first) and seen.slots[first].state == "good":
        began = {"begins": _found(situation, seen, first), "failure": _evidence("boot_failed", situation, seen, first)}
        # it worked before: give it the benefit of doubt
        by_hand = seen.lost_power or _perhaps_lost_power(seen, first) or seen.reset is ResetCause.UNKNOWN
        return Occurrence(event=Event.STRANDED if by_hand else Event.FELL_BACK, data=began)
    done = [Command.RETURN.value] if Command.RETURN in situation.attempts else []
    return Occurrence(event=Event.SETTLED, data={"progressed": done})


def _perhaps_lost_power(seen: Observation, slot: str) -> bool:
    """The starts that used up the tries of this slot, which does not run, ended without a trace."""
    return seen.traceless and seen.booted != slot and seen.spent(slot)


def _resume(situation: Situation, seen: Observation) -> Occurrence:
    """Before the trial boot: go on, unless the terminal now runs from the slot that was to be written."""
    update = situation.update
    if seen.slots[seen.booted].unconfirmed:
        return _adopt(situation, seen)
    found = _stay_or_return(situation, seen)
    if found.event is Event.STRANDED or (update is not None and seen.booted != update.target):
        return found if found.event is not Event.FELL_BACK else Occurrence(event=Event.SLOT_CHANGED)
    return Occurrence(event=Event.SLOT_CHANGED)


def _after_boot(situation: Situation, seen: Observation) -> Occurrence:
    """From arming on: which slot came up decides, and what the start before it died of."""
    update = situation.update
    if update is None:
        return Occurrence(event=Event.BOOTED_PREVIOUS, data={"update": {}})
    again = seen.same_start(update.boot_id)
    changes: dict[str, Any] = {"boot_id": seen.boot_id}
    if (seen.lost_power or _perhaps_lost_power(seen, update.target)) and not again:
        changes["power_cycles"] = update.power_cycles + 1
    if update.only_parameters:  # nothing was to be started: what runs is what ran before
        tried = situation.state in (State.SELFTEST, State.COMMIT)
        event = Event.BOOTED_TARGET if tried else Event.BOOTED_PREVIOUS
        return Occurrence(event=event, data={"update": changes})
    if seen.booted == update.target:
        changes |= {"armed": True, "tried": True}
        died = situation.state is not State.ACTIVATE and not again and not seen.lost_power
        blame = {"failure": _evidence("interrupted", situation, seen, update.target)} if died else {}
        began = {"progressed": [Command.ARM.value, Command.REBOOT.value]}
        return Occurrence(event=Event.BOOTED_TARGET, data={"update": changes, **began, **blame})
    spent = seen.spent(update.target)
    changes |= {"armed": seen.armed(update.target), "tried": update.tried or spent}
    if situation.state is State.ROLLBACK or (situation.state is State.ACTIVATE and (again or not spent)):
        return Occurrence(event=Event.BOOTED_PREVIOUS, data={"update": changes})
    code = "commit_lost" if situation.state is State.COMMIT else "boot_failed"
    failure = _evidence(code, situation, seen, update.target)
    return Occurrence(event=Event.BOOTED_PREVIOUS, data={"update": changes, "failure": failure})


_HOW = {
    ResetCause.POWER: "power loss",
    ResetCause.BROWN_OUT: "supply voltage too low",
    ResetCause.WATCHDOG: "hung, reset by the watchdog",
    ResetCause.PANIC: "kernel panic",
    ResetCause.REBOOT: "orderly restart",
    ResetCause.UNKNOWN: "reset for an unknown reason",
}


def _evidence(code: str, situation: Situation, seen: Observation, slot: str) -> dict[str, Any]:
    """What is known of how the last start of the version in that slot ended."""
    # where its starts left no trace, what is known is how the one before them ended
    cause = ResetCause.UNKNOWN if _perhaps_lost_power(seen, slot) else seen.reset
    stage = situation.state.value
    detail = f"{_HOW[cause]}, last stage {stage}"
    return {"code": code, "detail": detail, "cause": cause.value, "stage": stage, "log": list(seen.log)}


def _adopt(situation: Situation, seen: Observation) -> Occurrence:
    """An unconfirmed trial is running that the journal does not know of (its tail was lost): test it all the same."""
    update = situation.update
    if update is not None and update.target == seen.booted:
        return Occurrence(event=Event.TRIAL_FOUND, data={"update": {"armed": True, "tried": True}})
    return Occurrence(event=Event.TRIAL_FOUND, data={"begins": _found(situation, seen, seen.booted)})


def _found(situation: Situation, seen: Observation, target: str) -> dict[str, Any]:
    """An update that nobody asked for in this journal, but that the slots tell of."""
    previous = next(name for name in seen.slots if name != target)
    return {
        "id": f"found-{len(situation.outcomes) + 1}",
        "source": "",
        "spool": "found",
        "target": target,
        "previous": previous,
        "version": seen.slots[target].version,
        "from_version": seen.slots[previous].version,
        "digest": seen.slots[target].digest,
        "armed": True,
        "tried": True,
        "boot_id": seen.boot_id,
    }


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
