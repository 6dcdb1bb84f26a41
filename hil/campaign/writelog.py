"""Every write to the card during one update, recorded by QEMU: the card as a cut between any two of them leaves it.

An SD card here has no cache that could lose or reorder anything, so a cut leaves exactly the writes before it. What is
checked at a moment needs no boot: the boot environment can be read, every slot of its order is whole (also one without
tries, which U-Boot gives back), the data partition can be repaired by its journal, the agent's journal is sound and in
step with the boot environment, neither it nor a payment is gone that was there before.
Source: Linux Documentation/admin-guide/device-mapper/log-writes.rst; QEMU's blklogwrites.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import random
import shutil
import sqlite3
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hil.campaign.guest import DECIDED_S, ENDED_S, PAYMENTS, Customer, Guest
from hil.campaign.life import MIB, PAUSE_S, SLOT_AT, SLOT_BYTES, digest_of
from hil.image import start
from hil.image.start import BUILT
from hil.machine import Machine
from hil.repository import Repository
from posagent.agent.journal import Journal
from posagent.core.errors import PosagentError
from posagent.core.model import State
from posagent.data import record
from posagent.data.place import RECORD
from posagent.platform.storage import LinuxFiles
from posagent.sim.till import DATABASE, Till

MAGIC = 0x6A736677736872
SECTOR = 512
STARTED = 8
"""How many of the examined cards are started."""
DATA_AT = SLOT_AT["b"] + SLOT_BYTES
FACTORY = BUILT / "card.img"
AGAIN = ".venv/bin/python -m hil.campaign --moment"
LATE = (State.ACTIVATE, State.SELFTEST, State.COMMIT, State.ROLLBACK)


@dataclass(frozen=True, slots=True)
class Write:
    """One write: where on the card, and where in the log its bytes are."""

    at: int
    log_at: int
    length: int


class WriteLog:
    """The writes of a log in their order."""

    def __init__(self, path: Path) -> None:
        """Raises ValueError for a file that is no log."""
        with path.open("rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        magic, version, _, size = struct.unpack_from("<QQQI", self._bytes)
        # QEMU writes the superblock now and then only: a machine that was killed may not have written any.
        if (magic, version, size) not in ((MAGIC, 1, SECTOR), (0, 0, 0)):
            raise ValueError(f"{path} is no log of writes")
        self.writes = list(self._walk())

    def _walk(self) -> Iterator[Write]:
        at = SECTOR
        while at + SECTOR <= len(self._bytes):
            sector, count, flags, _ = struct.unpack_from("<QQQQ", self._bytes, at)
            write = Write(sector * SECTOR, at + SECTOR, count * SECTOR)
            at = write.log_at + write.length
            if not count or flags or at > len(self._bytes):  # the end; a card knows neither flushes nor discards
                return
            yield write

    def data(self, write: Write) -> bytes:
        return self._bytes[write.log_at : write.log_at + write.length]


def moments(writes: Sequence[Write], count: int, seed: int) -> list[int]:
    """Numbers of writes before which to look: those to the boot environment all, where there is room, else at random.

    Most writes fill a slot, and differ little; half of the others' share goes to the data partition.
    """
    dice = random.Random(seed)
    kinds: dict[str, list[int]] = {"environment": [], "data": [], "slot": []}
    for number, write in enumerate(writes):
        place = "environment" if write.at < SLOT_AT["a"] else "data" if write.at >= DATA_AT else "slot"
        kinds[place].append(number)
    wanted = {"environment": count // 4, "data": count // 2, "slot": count // 4}
    chosen = {n for kind, numbers in kinds.items() for n in dice.sample(numbers, min(wanted[kind], len(numbers)))}
    return sorted({*chosen, len(writes)})


@dataclass(frozen=True, slots=True)
class Seen:
    """What a card has shown at a moment, and must show at every later one."""

    payments: int = 0
    journal: bool = False


@dataclass(slots=True)
class Replay:
    """The card, write by write; `seen` at the moments that were looked at."""

    card: Path
    log: WriteLog
    digests: Mapping[str, str]
    folder: Path
    seen: Seen = Seen()
    _done: int = 0
    _slots: dict[str, str] = field(default_factory=dict)

    def look(self, number: int) -> list[str]:
        """What is wrong with the card as a cut before that write leaves it; numbers only grow."""
        with self.card.open("r+b") as card:
            for write in self.log.writes[self._done : number]:
                os.pwrite(card.fileno(), self.log.data(write), write.at)
                for slot, begin in SLOT_AT.items():
                    if begin <= write.at < begin + SLOT_BYTES:
                        self._slots.pop(slot, None)
        self._done = number
        return list(self._check())

    def _check(self) -> Iterator[str]:
        try:
            environment = self._environment()
        except subprocess.CalledProcessError as error:
            yield f"no boot environment: {error.stderr.strip()}"
            return
        order = environment.get("BOOT_ORDER", "").split()
        yield from (f"slot {slot} may be started and is not whole" for slot in order if not self._whole(slot))
        if not order:
            yield "the boot order is empty"
        yield from self.data_partition(order)

    def _environment(self) -> dict[str, str]:
        config = self.folder / "fw_env.config"
        text = (BUILT / "fw_env.config").read_text().replace(str(FACTORY), str(self.card))
        config.write_text(text)
        said = subprocess.run(["fw_printenv", "-c", config], capture_output=True, text=True, check=True).stdout
        return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)

    def _whole(self, slot: str) -> bool:
        if slot not in self._slots:
            self._slots[slot] = digest_of(self.card, slot)
        return self._slots[slot] in self.digests.values()

    def data_partition(self, order: Sequence[str]) -> Iterator[str]:
        """What is wrong with the data partition after the repair that every start makes."""
        part, out = self.folder / "data.ext4", self.folder / "data"
        with self.card.open("rb") as card, part.open("wb") as copy:
            card.seek(DATA_AT)
            shutil.copyfileobj(card, copy, MIB)
            copy.truncate((os.path.getsize(self.card) - DATA_AT) // MIB * MIB - MIB)
        repaired = subprocess.run(["e2fsck", "-fp", part], capture_output=True, text=True, check=False)
        if repaired.returncode > 1:
            yield f"the data partition needs a person: {repaired.stdout[-200:]}"
            return
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        for name in ("posagent", "posagent-data"):
            request = f"rdump /{name} {out}"
            subprocess.run(["debugfs", "-R", request, part], capture_output=True, check=True)
        yield from self._ledger(out / "posagent-data")
        yield from self._journal(out / "posagent/journal", order)

    def _ledger(self, root: Path) -> Iterator[str]:
        """The payments in the generation that a start would go on with, as its payment program would find them."""
        try:
            found = record.load(LinuxFiles(), str(root / RECORD))
            paid = payments(root / found.current.name / "data", found.current.format) if found is not None else []
        except (PosagentError, sqlite3.Error, ValueError) as error:
            yield f"the merchant's data: {error}"
            return
        if [number for number, _ in paid] != list(range(1, len(paid) + 1)) or len(paid) < self.seen.payments:
            yield f"{len(paid)} payments, and {self.seen.payments} at an earlier moment"
        self.seen = replace(self.seen, payments=max(self.seen.payments, len(paid)))

    def _journal(self, path: Path, order: Sequence[str]) -> Iterator[str]:
        if not path.exists():  # at first nobody has made it yet
            if self.seen.journal:
                yield "the agent's journal is gone, and was there at an earlier moment"
            return
        self.seen = replace(self.seen, journal=True)
        try:
            journal = Journal(LinuxFiles(), str(path))
        except PosagentError as error:
            yield f"the agent's journal: {error}"
            return
        if journal.damage:
            yield f"the agent's journal: {journal.damage}"
        situation = journal.situation
        known = situation.state in LATE or (situation.last_outcome or {}).get("outcome") == "committed"
        if "b" in order and not known:
            yield f"slot b is in the boot order, and the agent is in {situation.state}"


def payments(data: Path, form: int) -> list[tuple[int, int]]:
    """Trace numbers and amounts in a data directory of that format. Raises sqlite3.Error, ValueError."""
    if not (data / DATABASE).exists():  # at first nobody has made it yet
        return []
    batch = Till(data, form)
    try:
        return batch.payments()
    finally:
        batch.close()


def examine(
    folder: Path, bundle: Path, digests: Mapping[str, str], count: int, seed: int, keep: Path
) -> dict[str, Any]:
    """Record one update, look at the card at about `count` moments, and start the terminal from some of them. Where
    something is found, the log stays in the directory `keep`.

    Raises TimeoutError, RuntimeError where the update is not committed.
    """
    log_file = folder / "writes.log"
    _record(folder, bundle, log_file)
    log = WriteLog(log_file)
    replay = Replay(start.fresh(folder / "replayed.img"), log, digests, folder)
    looked = moments(log.writes, count, seed)
    started = set(random.Random(seed).sample(looked, min(STARTED, len(looked))))
    findings = []
    for number in looked:
        before = replay.seen
        wrong = replay.look(number)
        if number in started:
            wrong += starts(folder, replay.card)
        if wrong:
            findings.append(Finding(number, before, tuple(wrong)))
    return {
        "recorded": len(log.writes),
        "examined": len(looked),
        "started": len(started),
        "payments": replay.seen.payments,
        "found": kept(log_file, FACTORY, digests, findings, keep) if findings else [],
    }


def _record(folder: Path, bundle: Path, log: Path) -> None:
    """One whole update, and a customer who pays."""
    log.touch()
    guest = Guest(Machine(start.fresh(folder / "card.img"), folder, payments=PAYMENTS, log=log))
    repository = Repository(folder / "served", "10.0.2.2")
    customer = Customer(PAYMENTS, PAUSE_S)
    try:
        repository.offer(bundle)
        guest.power_on()
        if not guest.until(guest.decided, DECIDED_S):
            raise TimeoutError("the agent did not decide")
        name = guest.begin_update()
        if not guest.until(lambda: guest.ended(name), ENDED_S) or guest.booted != "b":
            raise RuntimeError(f"the update was not committed: {guest.status}")
    finally:
        guest.power_off()
        customer.stop()
        repository.close()


def starts(folder: Path, card: Path) -> Iterator[str]:
    """What is wrong with a start from a copy of the card as it is now."""
    copy = folder / "started.img"
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", card, copy], check=True)
    guest = Guest(Machine(copy, folder))
    guest.power_on()
    try:
        if not guest.until(guest.decided, DECIDED_S):
            yield f"the terminal does not start: {guest.phase}"
    finally:
        guest.power_off()


# looking again


@dataclass(frozen=True, slots=True)
class Finding:
    """What was wrong before that write, and what had been seen before it."""

    number: int
    seen: Seen
    wrong: tuple[str, ...]


def kept(log: Path, card: Path, digests: Mapping[str, str], findings: Sequence[Finding], keep: Path) -> list[str]:
    """Keep the log, and beside it what looking again needs; the findings, each with the command that does so."""
    keep.mkdir(parents=True, exist_ok=True)
    stays = keep / f"{log.parent.name}-{log.name}"
    shutil.move(log, stays)
    beside = {
        "card": _sha256(card),
        "digests": dict(digests),
        "seen": {str(one.number): asdict(one.seen) for one in findings},
    }
    stays.with_suffix(".json").write_text(json.dumps(beside, indent=1) + "\n", encoding="utf-8")
    return [
        f"before write {one.number}: {wrong} -- {AGAIN} {stays}:{one.number}" for one in findings for wrong in one.wrong
    ]


def again(log: Path, number: int, folder: Path, card: Path = FACTORY) -> list[str]:
    """What is wrong at that moment of a log that was kept; the terminal is started from it, too.

    Raises ValueError where the log does not belong to that card as it leaves the factory.
    """
    beside = json.loads(log.with_suffix(".json").read_text(encoding="utf-8"))
    if beside["card"] != _sha256(card):
        raise ValueError(f"{log} was recorded with another card than {card}, which was built anew since")
    seen = Seen(**beside["seen"].get(str(number), {}))
    replay = Replay(start.fresh(folder / "replayed.img"), WriteLog(log), beside["digests"], folder, seen)
    return [*replay.look(number), *starts(folder, replay.card)]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
