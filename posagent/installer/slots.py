"""What is known of the two slots, and the only ways in which that may change.

Owns: the slot records, the rollback floor and the trial markers in the installer's directory; all writes to boot
control. Records are derived: the booted slot is a fact. Where they are missing or damaged it counts as good unless its
trial marker is there, and the other only where the boot order keeps it as a fall-back. Every verb may be repeated at
any time and after a power cut between any two of its steps. The orders that matter:
* a slot about to be written leaves the boot order first, then becomes `writing`, then its data changes;
* a written slot is flushed and read back, then `complete`, then gets its trial marker, then is put first in the order;
* a good slot gets its tries back, then its record says so, then its trial marker goes: whatever is lost is made up for
  by the next `mark_good`, at the latest at the next start;
* the floor rises when the agent has journalled the commit, not before (`refresh`), and again at every start;
* a bad slot leaves the boot order first, because a broken data partition may be why it is bad;
* a trial that was never started is called off: the running slot is first in the order again, then the record says good.
Rules: only whole, tested slots stay in the boot order behind the first, so that a bootloader that refills counters
cannot start a half-written one. While a trial runs, its fall-back is not written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from posagent.core import durable
from posagent.core.errors import PosagentError, Refusal, SlotError, TrustError
from posagent.core.ports import BootControl, BootState, Files

NAMES = ("a", "b")
FLOOR_COPIES = ("floor.json", "floor-copy.json")


class SlotState(StrEnum):
    """`complete`: written and read back, never confirmed by a self-test. `bad`: not to be started."""

    GOOD = "good"
    BAD = "bad"
    WRITING = "writing"
    COMPLETE = "complete"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotRecord:
    """What a slot holds. `digest` and `size` (bytes) are of the image, `counter` is its security counter; `tested`: it
    was good before it went on trial again; `approved` as in core.manifest."""

    state: SlotState = SlotState.BAD
    version: str = ""
    digest: str = ""
    size: int = 0
    counter: int = 0
    update_id: str = ""
    tested: bool = False
    approved: Mapping[str, str] = field(default_factory=dict)


class Slots:
    """Raises SlotError, BootControlError, Refusal; `slot_io` where the records cannot be written.

    `floor_min` is the image's own rollback floor, and so the least that its counter can be; that and `running_version`
    are of the booted system where no record tells of it.
    """

    def __init__(
        self,
        files: Files,
        directory: str,
        boot: BootControl,
        *,
        tries_full: int,
        floor_min: int = 0,
        running_version: str = "",
    ) -> None:
        self._files = files
        self._dir = directory
        self._boot = boot
        self._tries_full = tries_full
        self._floor_min = floor_min
        self._running_version = running_version

    # looking

    def observe(self) -> dict[str, Any]:
        """What core.model.Observation needs: `{booted, order, slots: {name: {…}}, floor, contradictions}`."""
        booted, boot, records = self._boot.booted(), self._boot.read(), self.records()
        return {
            "booted": booted,
            "order": list(boot.order),
            "slots": {name: self._view(name, records[name], booted, boot) for name in NAMES},
            "floor": self.floor(),
            "contradictions": self._contradictions(booted, boot, records),
        }

    def records(self) -> dict[str, SlotRecord]:
        """Both records, as stored or made up."""
        stored = self._stored()
        if stored is not None:
            return stored
        booted, boot = self._boot.booted(), self._boot.read()
        kept = {name for name in boot.order[1:] if boot.tries.get(name, 0) > 0}
        tested = self._read(self._marker(booted)) is None
        state = SlotState.GOOD if tested else SlotState.COMPLETE
        running = SlotRecord(state=state, version=self._running_version, counter=self._floor_min)
        unknown = {name: SlotRecord(state=SlotState.GOOD if name in kept else SlotState.BAD) for name in NAMES}
        return {**unknown, booted: running}

    def floor(self) -> int:
        """The least security counter that may be installed."""
        return max(self._floor_min, *(copy or 0 for copy in self._floors()))

    def target(self, slot: str) -> None:
        """Refuse what is not the slot that may be written now."""
        if slot not in NAMES:
            raise SlotError("slot_missing", f"there is no slot {slot[:20]!r}")
        booted = self._boot.booted()
        if slot == booted:
            raise SlotError("slot_is_booted", f"slot {slot} is running")
        if self.records()[booted].state is not SlotState.GOOD:
            raise Refusal("busy", f"slot {booted} is on trial, and slot {slot} is its fall-back")

    # writing

    def begin_write(self, slot: str, new: SlotRecord) -> None:
        """Take the slot out of service for the image that `new` describes."""
        self.target(slot)
        boot, booted = self._boot.read(), self._boot.booted()
        self._set_boot(boot, (booted,), {booted: boot.tries.get(booted, 0) or self._tries_full, slot: 0})
        self._record(slot, dataclasses.replace(new, state=SlotState.WRITING))

    def complete(self, slot: str) -> None:
        """Everything is durable in the slot and was read back."""
        record = self.records()[slot]
        assert record.state is SlotState.WRITING, "completed outside of a write"
        self._record(slot, dataclasses.replace(record, state=SlotState.COMPLETE))

    # switching

    def arm(self, slot: str) -> None:
        """Let the bootloader try the slot at the next start, and fall back to the running one.

        A good slot goes on trial again: power cuts can end a trial between its confirmation and the agent's record.
        """
        record = self._startable(slot)
        tested = record.tested or record.state is SlotState.GOOD
        self._record(slot, dataclasses.replace(record, state=SlotState.COMPLETE, tested=tested))
        self._write_marker(slot)
        self._start_first(slot)

    def disarm(self, slot: str) -> None:
        """Call off the trial of a slot that was good before: it is so again, behind the running one."""
        record = self._startable(slot)
        if not (record.tested or record.state is SlotState.GOOD):
            raise SlotError("slot_not_complete", f"slot {slot} was never confirmed")
        order = (self._boot.booted(), slot)
        self._set_boot(self._boot.read(), order, dict.fromkeys(order, self._tries_full))
        self._record(slot, dataclasses.replace(record, state=SlotState.GOOD))
        self._remove_marker(slot)

    def prefer(self, slot: str) -> None:
        """Let the bootloader start a good slot again that it has left for want of tries."""
        if self._startable(slot).state is not SlotState.GOOD:
            raise SlotError("slot_not_complete", f"slot {slot} was never confirmed")
        self._start_first(slot)

    def renew(self) -> None:
        """The running slot's trial goes on: it gets its tries back."""
        booted, boot = self._boot.booted(), self._boot.read()
        if self.records()[booted].state is not SlotState.COMPLETE or boot.order[:1] != (booted,):
            raise SlotError("slot_not_complete", f"slot {booted} is not on trial")
        self._set_boot(boot, boot.order, {booted: self._tries_full})

    def _startable(self, slot: str) -> SlotRecord:
        """The record of the spare slot, if it may be started."""
        self.target(slot)
        record = self.records()[slot]
        if record.state not in (SlotState.COMPLETE, SlotState.GOOD):
            raise SlotError("slot_not_complete", f"slot {slot} is {record.state.value}")
        if record.counter < self.floor():
            raise TrustError("counter_too_low", f"slot {slot}: {record.counter} is below {self.floor()}")
        return record

    def _start_first(self, slot: str) -> None:
        order = (slot, self._boot.booted())
        self._set_boot(self._boot.read(), order, dict.fromkeys(order, self._tries_full))

    def mark_good(self) -> None:
        """The running slot is to stay: it passed its tests, or was good before."""
        booted, records = self._boot.booted(), self.records()
        record = records[booted]
        if record.state is SlotState.WRITING:
            raise SlotError("slot_not_complete", f"slot {booted} runs, but was not completely written")
        boot, other = self._boot.read(), _other(booted)
        fallback = records[other].state is SlotState.GOOD
        tries = {booted: self._tries_full, other: boot.tries.get(other, 0) if fallback else 0}
        self._set_boot(boot, (booted, other) if fallback else (booted,), tries)
        self._record(booted, dataclasses.replace(record, state=SlotState.GOOD))
        self._remove_marker(booted)

    def refresh(self) -> None:
        """The running slot is the one that is to run: it stays startable, and what is older may not come back."""
        self.mark_good()
        self._raise_floor(self.records()[self._boot.booted()].counter)

    def mark_bad(self, slot: str) -> None:
        """The slot is not to be started again. Refused where the other one is not good."""
        if slot not in NAMES:
            raise SlotError("slot_missing", f"there is no slot {slot[:20]!r}")
        records, other = self.records(), _other(slot)
        if records[other].state is not SlotState.GOOD:
            raise SlotError("slot_not_complete", f"slot {other} is {records[other].state.value}; {slot} must stay")
        self._set_boot(self._boot.read(), (other,), {other: self._tries_full, slot: 0})
        self._record(slot, dataclasses.replace(records[slot], state=SlotState.BAD))
        self._remove_marker(slot)

    # inside

    def _view(self, name: str, record: SlotRecord, booted: str, boot: BootState) -> dict[str, Any]:
        version = record.version or (self._running_version if name == booted else "")
        return {
            "state": record.state.value,
            "version": version,
            "digest": record.digest,
            "size": record.size,
            "counter": record.counter,
            "tries_left": boot.tries.get(name, 0),
            "booted": name == booted,
            "unconfirmed": name == booted and record.state is not SlotState.GOOD,
        }

    def _contradictions(self, booted: str, boot: BootState, records: Mapping[str, SlotRecord]) -> list[str]:
        found = []
        if self._exists(self._path) and self._stored() is None:
            found.append("the slot records are damaged; the running slot counts as good")
        if any(self._exists(path) for path in self._floor_paths) and None in self._floors():
            found.append("a copy of the rollback floor is damaged")
        first = boot.order[0] if boot.order else ""
        if records[booted].state in (SlotState.BAD, SlotState.WRITING):
            found.append(f"slot {booted} runs although it is {records[booted].state.value}")
        elif first in records and first != booted and records[first].state is SlotState.GOOD:
            found.append(f"slot {booted} runs although slot {first} is good and first in the boot order")
        return found

    @property
    def _path(self) -> str:
        return f"{self._dir}/slots.json"

    @property
    def _floor_paths(self) -> list[str]:
        return [f"{self._dir}/{name}" for name in FLOOR_COPIES]

    def _read(self, path: str) -> Any:
        """What can be read of a file; a data partition that fails must not keep us from going back."""
        try:
            return durable.read_json(self._files, path)
        except OSError:
            return None

    def _exists(self, path: str) -> bool:
        try:
            return self._files.size(path) is not None
        except OSError:
            return True

    def _stored(self) -> dict[str, SlotRecord] | None:
        value = self._read(self._path)
        if not isinstance(value, dict) or value.get("format") != 1 or not isinstance(value.get("slots"), dict):
            return None
        read = {name: _record_of(value["slots"].get(name)) for name in NAMES}
        whole = {name: record for name, record in read.items() if record is not None}
        return whole if len(whole) == len(NAMES) else None

    def _record(self, slot: str, record: SlotRecord) -> None:
        stored = self._stored()
        if stored is not None and stored[slot] == record:
            return
        slots = {name: dataclasses.asdict(one) for name, one in {**self.records(), slot: record}.items()}
        self._replace(self._path, {"format": 1, "slots": slots})

    def _replace(self, path: str, value: Any) -> None:
        try:
            self._files.make_dir(self._dir)
            durable.replace_json(self._files, path, value)
        except OSError as error:
            raise _io(path, error) from error

    def _set_boot(self, boot: BootState, order: tuple[str, ...], tries: Mapping[str, int]) -> None:
        if boot.order != order or any(boot.tries.get(name, 0) != count for name, count in tries.items()):
            self._boot.write(BootState(order=order, tries=tries))

    def _marker(self, slot: str) -> str:
        """Exists while the slot is on trial: a timer that knows nothing of us restarts an unconfirmed system."""
        return f"{self._dir}/trial-{slot}"

    def _write_marker(self, slot: str) -> None:
        if self._read(self._marker(slot)) is None:
            self._replace(self._marker(slot), {})

    def _remove_marker(self, slot: str) -> None:
        try:
            durable.remove(self._files, self._marker(slot))
        except OSError as error:
            raise _io(self._marker(slot), error) from error

    def _floors(self) -> list[int | None]:
        """Both copies of the floor; None where one is missing or damaged."""
        values = [self._read(path) for path in self._floor_paths]
        floors = [value.get("floor") if isinstance(value, dict) else None for value in values]
        return [floor if type(floor) is int else None for floor in floors]

    def _raise_floor(self, counter: int) -> None:
        floor = max(counter, self.floor())
        for path, stored in zip(self._floor_paths, self._floors(), strict=True):
            if stored != floor:
                self._replace(path, {"floor": floor})


def _other(slot: str) -> str:
    return NAMES[1 - NAMES.index(slot)]


def _io(path: str, error: OSError) -> PosagentError:
    return SlotError("slot_io", f"{path}: {error.strerror or error}")


def _record_of(value: Any) -> SlotRecord | None:
    """The record in `value`, or None where it is damaged. Fields of later releases are ignored."""
    if not isinstance(value, dict):
        return None
    empty = SlotRecord()
    fields = {f.name: value.get(f.name, getattr(empty, f.name)) for f in dataclasses.fields(SlotRecord)}
    if any(type(fields[name]) is not type(getattr(empty, name)) for name in fields if name != "state"):
        return None
    if not all(isinstance(digest, str) for digest in fields["approved"].values()):
        return None
    try:
        return SlotRecord(**{**fields, "state": SlotState(fields["state"])})
    except ValueError:
        return None
