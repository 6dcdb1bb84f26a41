"""Seeded faults: each is a mistake somebody could make, and the checker must find every one of them.

Owns: what is changed in the code (in a process of its own, that then explores until the first violation), and where to
look for it. A fault that survives says that the checker, or the scenario, is blind there: the build fails.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from posagent.agent import actors, answers, api, engine, errand, journal, support
from posagent.core import durable, machine, model, recovery, states
from posagent.core.deadline import Deadline
from posagent.core.errors import PosagentError
from posagent.core.model import Command, Event, Occurrence, Situation, State
from posagent.core.ports import BootState, Message, ResetCause
from posagent.crash import medium, replay, stage
from posagent.crash.explorer import Bounds, Explorer, Found
from posagent.crash.medium import MediumBoot
from posagent.crash.scenarios import SCENARIOS
from posagent.crash.units import PROFILES, Unit
from posagent.data import copying, generations, parameters, place
from posagent.fetcher import download, spool
from posagent.installer import slots, writer

EXECUTIONS_MAX = 4000
Patch = tuple[Any, str, Any]
Look = tuple[str, str]
"""Scenario and device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """`patches` are (object, attribute, new value); `look` are the scenario and device to explore, in this order;
    `join` goes deeper, for faults that keep nothing in memory."""

    name: str
    what: str
    patches: Callable[[], list[Patch]]
    look: tuple[Look, ...]
    copies: int = 2
    join: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    name: str
    what: str
    found: Found | None
    where: Look
    executions: int


MUTANTS: dict[str, Mutant] = {}


def mutant(
    name: str, what: str, *look: Look, copies: int = 2, join: bool = False
) -> Callable[[Callable[[], list[Patch]]], None]:
    def add(patches: Callable[[], list[Patch]]) -> None:
        MUTANTS[name] = Mutant(
            name=name, what=what, patches=patches, look=look or (("good", "emmc-512"),), copies=copies, join=join
        )

    return add


class _Without:
    """A core.ports.Files or BlockDevice that leaves an operation out where `skipped` says so."""

    def __init__(self, inner: Any, operation: str, skipped: Callable[[str], bool] = lambda _: True) -> None:
        self._inner, self._operation, self._skipped = inner, operation, skipped

    def __getattr__(self, name: str) -> Any:
        if name != self._operation:
            return getattr(self._inner, name)
        return lambda path="", *rest: None if self._skipped(path) else getattr(self._inner, name)(path, *rest)


def _in_replace(operation: str) -> list[Patch]:
    """durable.replace without one of its operations."""
    real = durable.replace
    return [(durable, "replace", lambda files, path, data: real(_Without(files, operation), path, data))]


def _journal_without(operation: str, skipped: Callable[[str], bool] = lambda _: True) -> list[Patch]:
    real = journal.Journal.__init__

    def init(self: Any, files: Any, path: str, bytes_max: int = journal.BYTES_MAX) -> None:
        real(self, _Without(files, operation, skipped), path, bytes_max)

    return [(journal.Journal, "__init__", init)]


# durability: every fsync and flush, and every order of two of them


@mutant("journal-not-synced", "a record is not synced before its commands run", ("good", "emmc-512"))
def _() -> list[Patch]:
    return _journal_without("sync")


@mutant("replace-without-sync", "a small file is renamed into place before its content is durable")
def _() -> list[Patch]:
    return _in_replace("sync")


@mutant("replace-without-sync-dir", "a small file's new name is not made durable")
def _() -> list[Patch]:
    return _in_replace("sync_dir")


@mutant("replace-in-place", "small files are written over instead of replaced", ("good", "emmc-4k"))
def _() -> list[Patch]:
    def replace(files: Any, path: str, data: bytes) -> None:
        files.write(path, 0, data)
        files.truncate(path, len(data))
        files.sync(path)
        files.sync_dir(durable.parent(path))

    return [(durable, "replace", replace)]


def _unflushed(given: Mapping[str, Any]) -> dict[str, Any]:
    """writer.write's arguments, with neither opening of the slot flushing it."""
    work = given["work"]
    work.spare = _Without(work.spare, "drop_cache")
    return {**given, "work": work, "device": _Without(_Without(given["device"], "flush"), "drop_cache")}


@mutant("slot-never-flushed", "slot data is not flushed before its completion")
def _() -> list[Patch]:
    real = writer.write

    def write(**given: Any) -> Iterator[Message]:
        return real(**_unflushed(given))

    return [(writer, "write", write)]


@mutant("spool-not-synced", "downloaded bytes are recorded as there, but not synced")
def _() -> list[Patch]:
    return [(spool.Entry, "_sync", lambda self: None)]


@mutant("spool-record-first", "the spool's record is written before the bytes that it counts are durable")
def _() -> list[Patch]:
    def checkpoint(self: Any, *, last: bool = False) -> None:
        if last and self.done != self.record.stored:
            self.record = dataclasses.replace(self.record, pieces=tuple(self.pieces))
            self._keep_record()
            self._sync()

    return [(spool.Entry, "checkpoint", checkpoint)]


@mutant(
    "spool-shares-blocks", "the spool is written on in a block whose beginning counts as there", ("streamed", "raw")
)
def _() -> list[Patch]:
    def touch(self: Any, end: int) -> None:
        self.record = dataclasses.replace(self.record, pieces=spool._first(self.pieces, end))
        self._keep_record()

    return [(spool.Entry, "_touch", touch)]


@mutant(
    "tail-cut-in-its-block",
    "a torn tail is cut off right behind the last good record, in its block",
    ("good", "raw"),
    join=True,
)
def _() -> list[Patch]:
    def cut(self: Any, rest: bytes, size: int) -> None:
        self._files.truncate(self._path, self._tail.size)
        self._files.sync(self._path)

    return [(journal.Journal, "_cut", cut)]


@mutant("compaction-in-place", "compaction writes over the journal instead of replacing it", ("compaction", "emmc-4k"))
def _() -> list[Patch]:
    def compact(self: Any) -> None:
        line = self._line(model.snapshot(self.situation))
        self._files.truncate(self._path, 0)
        self._files.write(self._path, 0, line)
        self._files.sync(self._path)
        self._tail = journal._Tail(len(line), self._tail.sequence + 1, journal._hash(line[:-1]))

    return [(journal.Journal, "compact", compact)]


@mutant("journal-shares-blocks", "a record is appended to the block of the one before", ("good", "raw"))
def _() -> list[Patch]:
    return [(journal, "_blocks", lambda size: size)]


# checksums and copies


@mutant("checksum-skipped", "half a journal record is believed: neither checksum nor chain", ("good", "emmc-4k"))
def _() -> list[Patch]:
    real = journal.decode

    def decode(line: bytes) -> dict[str, Any] | None:
        found = real(line)
        if found is None and line.strip(b"\0"):
            return real(b"%08x %s" % (zlib.crc32(body := _repaired(line)), body))
        return found

    return [(journal, "decode", decode), (journal.Journal, "_follows", lambda self, record: True)]


def _repaired(line: bytes) -> bytes:
    """What a reader makes of half a record that takes missing fields for their defaults."""
    return b'{"seq":0,"state":"idle"}' if b"{" not in line[:12] else line[9:]


@mutant("one-environment-copy", "the boot environment has one copy", copies=1)
def _() -> list[Patch]:
    return []


@mutant("torn-environment-accepted", "a half-written copy of the boot environment is believed")
def _() -> list[Patch]:
    def torn(old: Any, new: Any) -> tuple[Any, ...]:
        return (new._replace(order=()),)  # its first line was cut off

    return [(MediumBoot, "_torn", staticmethod(torn))]


@mutant(
    "counter-does-not-wrap", "the environment's counter is compared without wrap-around", ("there-and-back", "emmc-512")
)
def _() -> list[Patch]:
    return [(medium, "newer", lambda one, other: one > other)]


@mutant("environment-not-synced", "the boot environment is not synced before the next step relies on it")
def _() -> list[Patch]:
    real = Unit.flush

    def flush(self: Any, stored: Any = None) -> None:
        if not isinstance(self._now, medium.Copy):
            real(self, stored)

    return [(Unit, "flush", flush)]


# order of decisions


@mutant(
    "act-before-journal", "commands run before their decision is durable", ("good", "emmc-512"), ("cancel", "emmc-512")
)
def _() -> list[Patch]:
    real = journal.Journal.append

    def append(self: Any, record: Mapping[str, Any]) -> None:
        late = getattr(self, "_late", None)
        if late is not None:
            real(self, late)
        self._late = record
        self.situation = model.fold(self.situation, record)

    return [(journal.Journal, "append", append)]


@mutant("armed-journalled-before-arming", "the journal says armed before the boot environment does")
def _() -> list[Patch]:
    def arm(self: Any, update: Any) -> None:
        self._post(Event.ARMED, update={"armed": True, "armed_at": 0.0})

    return [(actors.UpdateActors, "_arm", arm)]


@mutant("marked-good-before-the-tests", "the new version is confirmed as soon as it runs", ("test-fails", "emmc-512"))
def _() -> list[Patch]:
    real = actors.UpdateActors._run_tests

    def run_tests(self: Any, update: Any) -> None:
        self.ask.start(self._workers.installer, "mark_good", {}, lambda _: real(self, update), lambda _: None, 60.0)

    return [(actors.UpdateActors, "_run_tests", run_tests)]


@mutant("committed-without-tests", "a version that booted is committed", ("test-fails", "emmc-512"))
def _() -> list[Patch]:
    def run_tests(self: Any, update: Any) -> None:
        self._post(Event.TESTS_PASSED)

    return [(actors.UpdateActors, "_run_tests", run_tests)]


@mutant("floor-raised-when-arming", "the rollback floor rises before the commit")
def _() -> list[Patch]:
    real = slots.Slots.arm

    def arm(self: Any, slot: str) -> None:
        real(self, slot)
        self._raise_floor(self.records()[slot].counter)

    return [(slots.Slots, "arm", arm)]


@mutant("marked-good-in-the-journal-first", "the outcome is journalled before the slot is confirmed")
def _() -> list[Patch]:
    def mark_good(self: Any, update: Any) -> None:
        self._post(Event.MARKED_GOOD)

    return [(actors.UpdateActors, "_mark_good", mark_good)]


@mutant(
    "slot-stays-in-the-order",
    "a slot is written while the bootloader may still start it",
    ("there-and-back", "emmc-512"),
)
def _() -> list[Patch]:
    real = slots.Slots._set_boot

    def set_boot(self: Any, boot: BootState, order: tuple[str, ...], tries: Mapping[str, int]) -> None:
        if len(order) > 1 or boot.order[:1] != order:
            real(self, boot, order, tries)

    return [(slots.Slots, "_set_boot", set_boot)]


@mutant("record-before-order", "a slot is declared good again although it was never read back", ("good", "emmc-512"))
def _() -> list[Patch]:
    def begin_write(self: Any, slot: str, new: Any) -> None:
        self._record(slot, dataclasses.replace(new, state=slots.SlotState.GOOD))

    def nothing(*_: Any) -> None:
        return None

    return [
        (slots.Slots, "begin_write", begin_write),
        (slots.Slots, "complete", nothing),
    ]


# memory that outlives a reset


@mutant("global-survives-the-reset", "the installer keeps slot records in memory across a reset")
def _() -> list[Patch]:
    kept: dict[str, Any] = {}
    real = slots.Slots.records

    def records(self: Any) -> Any:
        return kept.setdefault("records", real(self))

    real_record = slots.Slots._record

    def record(self: Any, slot: str, new: Any) -> None:
        kept["records"] = {**records(self), slot: new}
        real_record(self, slot, new)

    return [(slots.Slots, "records", records), (slots.Slots, "_record", record)]


# attempts, gates, cancel


@mutant(
    "attempts-not-counted",
    "attempts are not counted",
    ("hang", "emmc-512"),
    ("test-hangs", "emmc-512"),
    ("good", "emmc-512"),
)
def _() -> list[Patch]:
    real = model.fold

    def fold(situation: Situation, record: Mapping[str, Any]) -> Situation:
        return real(situation, {key: value for key, value in record.items() if key != "commands"})

    return [(model, "fold", fold), (machine, "fold", fold)]


@mutant("customer-condemns-a-good-slot", "power cycles use up the new version's tries")
def _() -> list[Patch]:
    real = recovery._after_boot

    def after_boot(situation: Any, seen: Any) -> Occurrence:
        return real(situation, dataclasses.replace(seen, reset=ResetCause.UNKNOWN))

    patched = {state: after_boot if row is real else row for state, row in recovery.RECOVERY.items()}
    return [(recovery, "RECOVERY", patched)]


@mutant("tries-not-refilled", "the running version's tries are not refilled while an update waits")
def _() -> list[Patch]:
    real = recovery._resume

    def resume(situation: Any, seen: Any) -> Occurrence:
        found = real(situation, seen)
        return Occurrence(event=Event.DUE) if found.event is Event.SETTLED else found

    patched = {state: resume if row is real else row for state, row in recovery.RECOVERY.items()}
    return [(recovery, "RECOVERY", patched)]


@mutant("gate-asked-once", "the power gate is not asked again when the install goes on", ("power-gate", "emmc-512"))
def _() -> list[Patch]:
    def facts(self: Any) -> Any:
        now = real(self)
        return dataclasses.replace(now, gates=()) if self.situation.state is State.INSTALL else now

    real = engine.Engine._facts
    return [(engine.Engine, "_facts", facts)]


@mutant("cancel-answered-before-the-journal", "a cancel is acknowledged before it is durable", ("cancel", "emmc-512"))
def _() -> list[Patch]:
    def cancel(self: Any, _: Any, reply: Any, __: str) -> Any:
        decision = self._engine.would(Occurrence(event=Event.CANCEL_REQUESTED))
        if decision.refusal is not None:
            raise PosagentError(decision.refusal)
        reply({"result": {"cancelled": True}})
        return api._no_hang_up

    return [(api.AgentApi, "_cancel", cancel)]


@mutant("install-can-be-cancelled", "a cancel is taken during install", ("cancel", "emmc-512"))
def _() -> list[Patch]:
    rows = [
        dataclasses.replace(
            row, to=State.IDLE, do=(Command.STOP,), outcome=model.OutcomeKind.CANCELLED, refuse=None, durable=True
        )
        if row.on is Event.CANCEL_REQUESTED and row.source is State.INSTALL
        else row
        for row in states.TABLE
    ]
    return [(machine, "_TABLE", machine.Table(rows))]


# what is left, and what is believed


@mutant("skipped-transfer-is-a-success", "a download that stopped early is reported as whole", ("good", "emmc-512"))
def _() -> list[Patch]:
    def complete(self: Any, entry: Any, wanted: Any) -> Iterator[Message]:
        if not entry.done:
            yield from self._local(entry, wanted)
        entry.finish()

    return [(download.Fetcher, "_complete", complete)]


@mutant("written-while-running", "the slot to write is not compared with the one that runs")
def _() -> list[Patch]:
    real = api.AgentApi._beginning

    def beginning(self: Any, offer: Any, caller: str) -> dict[str, Any]:
        return {**real(self, offer, caller), "target": "a"}

    return [(api.AgentApi, "_beginning", beginning), (slots.Slots, "target", lambda self, slot: None)]


@mutant("bundle-left-behind", "a power cut before the clean-up leaves the bundle for ever")
def _() -> list[Patch]:
    real = actors.UpdateActors._discard

    def discard(self: Any, update: Any, situation: Any) -> None:
        if update is not None:
            real(self, update, situation)

    return [(actors.UpdateActors, "_discard", discard)]


@mutant("no-trial-marker", "nothing restarts a new version whose agent cannot start", ("agent-dead", "emmc-512"))
def _() -> list[Patch]:
    return [(slots.Slots, "_write_marker", lambda self, slot: None)]


@mutant("trial-marker-stays", "the trial marker of a confirmed version stays")
def _() -> list[Patch]:
    return [(slots.Slots, "_remove_marker", lambda self, slot: None)]


@mutant(
    "bad-slot-stays-first",
    "a bad slot is recorded as bad but stays first in the boot order",
    ("test-fails", "emmc-512"),
)
def _() -> list[Patch]:
    def mark_bad(self: Any, slot: str) -> None:
        self._record(slot, dataclasses.replace(self.records()[slot], state=slots.SlotState.BAD))

    return [(slots.Slots, "mark_bad", mark_bad)]


@mutant("hang-is-waited-for", "a self-test that hangs is waited for", ("test-hangs", "emmc-512"))
def _() -> list[Patch]:
    return [(Deadline, "set", lambda self, at: None), (errand, "GRACE_S", 1e12)]


@mutant("ticket-without-bundle", "a ticket is noted before its bundle is durable", ("ticket", "emmc-512"))
def _() -> list[Patch]:
    real = support.Support._keep

    def keep(self: Any, sealed: Any) -> str:
        files, self._files = self._files, _Without(self._files, "sync_dir")
        try:
            return real(self, sealed)
        finally:
            self._files = files

    return [(support.Support, "_keep", keep)]


@mutant("outcome-told-twice", "an outcome that is known already is recorded again")
def _() -> list[Patch]:
    real = journal.Journal.compact

    def compact(self: Any) -> None:
        real(self)
        last = self.situation.last_outcome
        if last is not None:
            self.append({"event": "settled", "state": "idle", "outcome": dict(last)})

    return [(journal.Journal, "compact", compact)]


@mutant(
    "the-way-back-forgets-why",
    "a start during the way back clears what the version is given up for",
    ("fails-2-tries", "raw"),
)
def _() -> list[Patch]:
    real = model.fold

    def fold(situation: Situation, record: Mapping[str, Any]) -> Situation:
        folded = real(situation, record)
        forgets = bool(record.get("progressed")) and "failure" not in record
        return dataclasses.replace(folded, failure=None) if forgets else folded

    return [(model, "fold", fold), (machine, "fold", fold)]


@mutant(
    "going-back-condemns-what-never-ran",
    "a good version that could not be started is marked bad when an engineer wanted to go back to it",
    ("engineer-back", "raw"),
    join=True,
)
def _() -> list[Patch]:
    rows = [row for row in states.TABLE if Command.DISARM not in row.do]
    return [(machine, "_TABLE", machine.Table(rows))]


@mutant(
    "going-back-without-the-gates",
    "an engineer's way back does not wait for the battery",
    ("engineer-back", "raw"),
)
def _() -> list[Patch]:
    back = next(row for row in states.TABLE if row.source is State.READY and row.to is State.ACTIVATE)
    rows = [back, *(row for row in states.TABLE if row is not back)]
    return [(machine, "_TABLE", machine.Table(rows))]


@mutant(
    "going-back-without-a-test",
    "a version that was good before is kept without its test",
    ("engineer-no-way", "raw"),
    join=True,
)
def _() -> list[Patch]:
    def arm(self: slots.Slots, slot: str) -> None:
        self._startable(slot)
        self._start_first(slot)

    def tested(_: object) -> answers.Tested:
        return answers.Tested(None, [])  # what was good once is good

    return [(slots.Slots, "arm", arm), (answers, "_RESULTS", {**answers._RESULTS, "run": tested})]


@mutant(
    "data-named-before-it-is-durable", "the record names a copy of the data before that is flushed", ("money", "raw")
)
def _() -> list[Patch]:
    return [(copying, "settle", lambda trees, top: iter(()))]


@mutant("counters-go-back", "trace numbers that a failed version used are used again", ("money-back", "raw"))
def _() -> list[Patch]:
    return [(generations.Generations, "_raise_counters", lambda self, found: "")]


@mutant("migrated-in-place", "the version on trial works on the old data", ("money-back", "raw"))
def _() -> list[Patch]:
    def inside(self: place.Place, name: str) -> str:
        return f"{self._root}/g-1/data"

    return [(place.Place, "inside", inside)]


@mutant("parameters-stay", "a set whose self-test failed is found all the same", ("parameters-bad", "emmc-512"))
def _() -> list[Patch]:
    return [
        (parameters.ParameterSets, "withdraw", lambda self: None),
        (parameters.ParameterSets, "tidy", lambda self: ""),
    ]


@mutant("parameters-forgotten", "a set that was confirmed is not kept", ("parameters", "emmc-512"))
def _() -> list[Patch]:
    return [(parameters.ParameterSets, "_kept", lambda self, found, holder: found)]


@mutant("parameters-for-everybody", "a set goes on when its version has failed", ("parameters-back", "emmc-512"))
def _() -> list[Patch]:
    def show(self: parameters.ParameterSets, found: parameters.Sets) -> str:
        self._publish(found.tried or found.current)
        return ""

    return [(parameters.ParameterSets, "_show", show), (parameters.ParameterSets, "tidy", lambda self: "")]


def judge(name: str) -> Verdict:
    """Explore with the fault in place; in a process of its own, because it stays."""
    chosen, executions = MUTANTS[name], 0
    with stage.opened() as made:
        for target, attribute, value in chosen.patches():
            mock.patch.object(target, attribute, value).start()
        bounds = Bounds(executions=EXECUTIONS_MAX, first_violation=True, join=chosen.join)
        for scenario, profile in chosen.look:
            explorer = Explorer(made, SCENARIOS[scenario], PROFILES[profile], chosen.copies)
            report = explorer.explore(bounds)
            executions += report.executions
            if report.found:
                return Verdict(name, chosen.what, report.found[0], (scenario, profile), executions)
    return Verdict(name, chosen.what, None, chosen.look[-1], executions)


def main() -> int:
    """Judge all of them on all cores; build/mutants.json, and 4 where one survived."""
    began, verdicts = time.monotonic(), []
    with ProcessPoolExecutor(max_tasks_per_child=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        for future in as_completed([pool.submit(judge, name) for name in MUTANTS]):
            verdict = future.result()
            verdicts.append(verdict)
            oracle = verdict.found.violation.oracle if verdict.found else ""
            print(f"{'killed by ' + oracle if oracle else 'SURVIVED':<24}{verdict.name:<36}{verdict.what}", flush=True)
    survivors = sorted(one.name for one in verdicts if one.found is None)
    result = {
        "total": len(verdicts),
        "killed": len(verdicts) - len(survivors),
        "survivors": survivors,
        "seconds": round(time.monotonic() - began, 1),
        "mutants": {one.name: _numbers(one) for one in sorted(verdicts, key=lambda one: one.name)},
    }
    out = Path("build/mutants.json")
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{result['killed']} of {result['total']} seeded faults killed in {result['seconds']} s -> {out}")
    return 4 if survivors else 0


def _numbers(verdict: Verdict) -> dict[str, Any]:
    found = verdict.found
    return {
        "what": verdict.what,
        "oracle": found.violation.oracle if found else None,
        "detail": found.violation.detail if found else None,
        "scenario": "/".join(verdict.where),
        "executions": verdict.executions,
        "path": replay.text(found.path) if found else None,
    }


if __name__ == "__main__":
    sys.exit(main())
