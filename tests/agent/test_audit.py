"""The audit log on its file: durable before anybody goes on, whole after power cuts, bounded, and never in the way."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from posagent.agent import audit as agent_audit
from posagent.agent.audit import AuditLog, Pace
from posagent.core import audit
from posagent.core.audit import Verdict
from posagent.core.ports import Files
from posagent.crash.medium import Medium, PowerCut
from posagent.crash.units import PROFILES, Profile
from posagent.platform.storage import LinuxFiles
from posagent.sim.virtual import VirtualTime
from tests.console.test_lockout import Odometer

PATH = "/var/lib/posagent/audit.log"


def whole(data: bytes) -> Verdict:
    verdict = audit.verify(data, lambda *_: True)
    assert verdict.breaks == []
    return verdict


class Desk:
    """An agent's log on real files, with a clock that goes on."""

    def __init__(self, folder: Path, files: Files | None = None) -> None:
        self.path = folder / "audit.log"
        self.time = VirtualTime()
        self._files = files or LinuxFiles()
        self.restart()

    def restart(self) -> None:
        self.log = AuditLog(self._files, str(self.path), self.time)

    def note(self, count: int = 1, **fields: Any) -> None:
        for number in range(count):
            self.time.let_pass(10)
            self.log.note("command", verb=f"v{number}", **fields)

    @property
    def data(self) -> bytes:
        return self.path.read_bytes()

    def events(self, count: int = 200) -> list[str]:
        return [record["event"] for record in self.log.last(count)]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_records_are_read_again_by_the_next_agent_which_goes_on_with_the_chain(desk: Desk) -> None:
    desk.note(3, name="Li Wei")
    desk.restart()
    desk.note(2)
    verdict = whole(desk.data)
    assert (verdict.records, verdict.first) == (5, 0)
    assert [record["seq"] for record in desk.log.last(2)] == [3, 4]
    assert desk.log.last(200)[0] == {"seq": 0, "at": 1800000010.0, "event": "command", "verb": "v0", "name": "Li Wei"}


def test_each_record_begins_a_block_and_the_file_reads_as_lines(desk: Desk) -> None:
    desk.note(3)
    assert len(desk.data) == 3 * 4096 and desk.data.count(b"\n") == 3 and b"\0" not in desk.data


@pytest.mark.parametrize("tail", [b'{"seq":3,"pr', b"\xff" * 4096, b"\0" * 4096, b" " * 100, b'{"seq":3}\n'])
def test_a_torn_record_is_cut_off_and_that_is_recorded(desk: Desk, tail: bytes) -> None:
    desk.note(3)
    with desk.path.open("ab") as stream:
        stream.write(tail)
    desk.restart()
    desk.note()
    torn = bool(tail.strip(b" \0"))
    assert desk.events() == ["command"] * 3 + ["repaired"] * torn + ["command"]
    whole(desk.data)
    assert not Path(f"{desk.path}.damaged").exists()


def test_more_than_a_torn_record_is_set_aside_as_evidence(desk: Desk) -> None:
    desk.note(3)
    damaged = desk.data + b"x" * 5000
    desk.path.write_bytes(damaged)
    desk.restart()
    assert Path(f"{desk.path}.damaged").read_bytes() == damaged
    assert desk.events() == ["command"] * 3 + ["repaired"]
    desk.path.write_bytes(b"nothing of it is left" * 1000)
    desk.restart()
    assert desk.events() == ["repaired"] and desk.log.size == 1


class InMemory(LinuxFiles):
    """Thousands of records, sooner."""

    def sync(self, path: str) -> None:
        return None


def test_the_log_is_bounded_and_goes_on_where_old_records_were_dropped(tmp_path: Path) -> None:
    desk, sizes = Desk(tmp_path, InMemory()), []
    for _ in range(30):
        desk.note(100, args={"source": "x" * 100})
        sizes.append(desk.path.stat().st_size)
    assert max(sizes) <= agent_audit.PACK_BYTES + agent_audit.BLOCK_BYTES
    verdict = whole(desk.data)
    assert verdict.first > 1000 and verdict.records > 500, "the newest are kept"
    assert verdict.size == desk.log.size > 3000
    desk.restart()
    desk.note()
    whole(desk.data)


def test_restarts_without_end_do_not_let_it_grow(desk: Desk) -> None:
    for _ in range(300):
        desk.note(2)
        desk.restart()
    assert desk.path.stat().st_size <= agent_audit.PACK_BYTES + agent_audit.BLOCK_BYTES
    assert whole(desk.data).size >= 600


class SmallDisk(LinuxFiles):
    """A data partition with so much room for writing; `full` has none."""

    full = False

    def write(self, path: str, offset: int, data: bytes) -> None:
        if self.full or path.endswith(".new"):
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(path, offset, data)


def test_a_full_disk_ends_nothing_and_what_was_lost_is_counted(tmp_path: Path) -> None:
    files = SmallDisk()
    desk = Desk(tmp_path, files)
    desk.note(2)
    files.full = True
    desk.note(5)
    files.full = False
    desk.note()
    assert desk.log.last(1)[0]["lost"] == 5
    verdict = whole(desk.data)
    assert (verdict.records, verdict.lost) == (3, 5)


def test_where_it_cannot_be_packed_it_ends_at_its_limit_and_counts(tmp_path: Path) -> None:
    desk = Desk(tmp_path, SmallDisk())
    desk.note(400)
    assert desk.path.stat().st_size == agent_audit.BYTES_MAX
    assert whole(desk.data).records == 256
    desk._files = LinuxFiles()
    desk.restart()
    desk.note()
    assert whole(desk.data).size > 256


def test_an_unreadable_place_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "audit.log").mkdir()
    desk = Desk(tmp_path)
    desk.note(3)
    assert desk.log.size == 0


def test_strangers_are_paced_apart_from_all_others(desk: Desk) -> None:
    for _ in range(1000):
        desk.log.note("command", stranger=True, verb="status")
    assert desk.log.size == 20
    desk.log.note("unlock", name="Li Wei")
    assert desk.log.last(1)[0]["skipped"] == 980
    for _ in range(1000):
        desk.log.note("command", verb="check")
    assert desk.log.size == 20 + 200


def test_a_pace_allows_a_burst_and_then_one_in_its_time() -> None:
    pace = Pace(3, 10.0)
    assert [pace.take(now) for now in (100, 100, 100, 100, 109, 110, 110, 121, 1000, 1000, 1000, 1000)] == [
        *(True, True, True, False, False, True, False, True),
        *(True, True, True, False),
    ]


# power cuts


def written(log: AuditLog, count: int, done: list[int]) -> None:
    for number in range(count):
        log.note("command", number=number)
        done.append(number)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_no_power_cut_takes_a_record_that_was_written(profile: Profile) -> None:
    """At each operation, with whatever it may have left: what was noted is there, and the chain is whole."""

    def terminal(chooser: Odometer | None = None) -> Medium:
        medium = Medium(profile=profile, chooser=chooser)
        medium.files.make_dir("/var/lib/posagent")
        return medium

    medium = terminal()
    begun = len(medium.done)
    written(AuditLog(medium.files, PATH, VirtualTime()), 4, [])
    operations = len(medium.done)
    assert operations - begun > 8
    for cut_at in range(begun + 1, operations + 1):
        chooser = Odometer()
        for _ in chooser.runs():
            medium, done = terminal(chooser), list[int]()
            medium.cut_at = cut_at
            with pytest.raises(PowerCut):
                written(AuditLog(medium.files, PATH, VirtualTime()), 4, done)
            medium.restore(medium.crashed())
            log = AuditLog(medium.files, PATH, VirtualTime())
            log.note("after")
            numbers = [one["number"] for one in log.last(200) if "number" in one]
            assert numbers[: len(done)] == done and len(numbers) <= len(done) + 1
            whole(medium.files.read(PATH))


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_no_power_cut_while_it_is_packed_takes_anything(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_audit, "PACK_BYTES", 16 * agent_audit.BLOCK_BYTES)
    monkeypatch.setattr(agent_audit, "KEPT_BYTES", 1500)

    def terminal(chooser: Odometer | None = None) -> tuple[Medium, AuditLog]:
        medium = Medium(profile=profile, chooser=chooser)
        medium.files.make_dir("/var/lib/posagent")
        log = AuditLog(medium.files, PATH, VirtualTime())
        written(log, 16, [])
        return medium, log

    medium, log = terminal()
    begun = len(medium.done)
    log.note("packed")
    operations = len(medium.done) - begun
    assert operations > 5 and log.last(200)[-2]["event"] == "rotated"
    for cut in range(1, operations + 1):
        chooser = Odometer()
        for _ in chooser.runs():
            medium, log = terminal(chooser)
            medium.cut_at = begun + cut
            with pytest.raises(PowerCut):
                log.note("packed")
            medium.restore(medium.crashed())
            log = AuditLog(medium.files, PATH, VirtualTime())
            log.note("after")
            assert whole(medium.files.read(PATH)).size >= 17
            assert [one for one in log.last(200) if one.get("number") == 15]
