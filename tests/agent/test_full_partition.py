"""Somebody else fills the data partition: the agent's notebook goes on, whatever it is in the middle of."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from posagent.agent import journal as module
from posagent.agent.journal import BLOCK_BYTES, READ_BYTES_MAX, RESERVE_BYTES, Journal
from posagent.core.errors import JournalError
from posagent.core.model import Situation, State
from posagent.core.ports import Files
from posagent.crash.medium import Medium, PowerCut
from posagent.platform.storage import LinuxFiles
from posagent.sim.inprocess import InProcessTerminal
from tests.conftest import Desk

BEGINS = {"id": "u1", "source": "https://x/b", "spool": "s", "target": "b", "previous": "a", "version": "2"}
RESERVE = RESERVE_BYTES // BLOCK_BYTES


class SmallPartition:
    """core.ports.Files of which one directory has `blocks`; `fill` gives all that are free to somebody else."""

    def __init__(self, inner: Files, directory: str, blocks: int = 1000) -> None:
        self._inner, self._dir, self.blocks = inner, directory, blocks
        self.failing = ""
        """An operation such as "sync_dir" that fails with EIO."""

    def __getattr__(self, name: str) -> Any:
        if name == self.failing:
            raise OSError(errno.EIO, "the medium failed")
        return getattr(self._inner, name)

    @property
    def used(self) -> int:
        sizes = (self._inner.size(f"{self._dir}/{name}") or 0 for name in self._inner.names(self._dir))
        return sum(-(-size // BLOCK_BYTES) for size in sizes)

    def fill(self) -> None:
        self.blocks = self.used

    def write(self, path: str, offset: int, data: bytes) -> None:
        old = -(-(self._inner.size(path) or 0) // BLOCK_BYTES) if path.startswith(self._dir) else 1 << 40
        end = (old + self.blocks - self.used) * BLOCK_BYTES
        self._inner.write(path, offset, data[: max(0, end - offset)])
        if offset + len(data) > end:
            raise OSError(errno.ENOSPC, "No space left on device", path)


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return str(tmp_path / "state")


@pytest.fixture
def partition(directory: str) -> SmallPartition:
    return SmallPartition(LinuxFiles(), directory)


def opened(files: Any, directory: str) -> Journal:
    return Journal(files, f"{directory}/journal")


def begun(files: Any, directory: str) -> Journal:
    journal = opened(files, directory)
    journal.append({"event": "update_requested", "state": "download", "begins": BEGINS})
    return journal


def names(files: Any, directory: str) -> list[str]:
    found: list[str] = files.names(directory)
    return found


def test_on_a_full_partition_the_journal_goes_on_for_ever(partition: SmallPartition, directory: str) -> None:
    journal = begun(partition, directory)
    partition.fill()
    for number in range(300):
        journal.append({"event": "progressed", "state": "download", "update": {"bytes_done": number}})
        again = opened(LinuxFiles(), directory) if number % 50 == 0 else journal
        assert again.situation == journal.situation and again.damage is None
    assert partition.used <= partition.blocks


def test_the_reserve_comes_back_when_there_is_room(partition: SmallPartition, directory: str) -> None:
    journal = begun(partition, directory)
    partition.fill()
    for number in range(RESERVE):
        journal.append({"event": "progressed", "state": "download", "update": {"bytes_done": number}})
    partition.blocks = 1000
    journal.compact()
    assert partition.size(f"{directory}/journal.reserve") == RESERVE_BYTES
    partition.fill()
    journal.append({"event": "fetched", "state": "verify"})
    assert opened(LinuxFiles(), directory).situation.state is State.VERIFY


def test_beside_the_journal_lies_nothing_but_its_reserve(partition: SmallPartition, directory: str) -> None:
    for _ in range(3):
        opened(partition, directory)
        assert names(partition, directory) == ["journal", "journal.reserve"]


def test_a_partition_that_was_always_full_is_no_reason_not_to_start(partition: SmallPartition, directory: str) -> None:
    partition.blocks = 0
    assert opened(partition, directory).situation == Situation()


def test_a_compaction_for_which_there_is_no_room_loses_nothing(partition: SmallPartition, directory: str) -> None:
    journal = begun(partition, directory)
    partition.fill()
    journal.compact()
    assert names(partition, directory) == ["journal", "journal.reserve"], "nor is anything left of the attempt"
    journal.append({"event": "fetched", "state": "verify"})
    assert opened(LinuxFiles(), directory).situation == journal.situation


@pytest.mark.parametrize("failing", ["unlink", "rename", "sync"])
def test_a_compaction_that_fails_loses_nothing(failing: str, partition: SmallPartition, directory: str) -> None:
    journal = begun(partition, directory)
    partition.failing = failing
    journal.compact()
    partition.failing = ""
    journal.append({"event": "fetched", "state": "verify"})
    again = opened(LinuxFiles(), directory)
    assert again.situation == journal.situation and again.damage is None


def test_a_compaction_that_may_not_stay_ends_the_agent(partition: SmallPartition, directory: str) -> None:
    """The next start sees which of the two files it is; to append to either might be for nothing."""
    journal = begun(partition, directory)
    partition.failing = "sync_dir"
    with pytest.raises(JournalError):
        journal.compact()
    assert opened(LinuxFiles(), directory).situation == journal.situation


def test_with_no_room_at_all_who_asked_is_told_and_it_goes_on_when_there_is_some(
    partition: SmallPartition, directory: str
) -> None:
    journal = begun(partition, directory)
    partition.unlink(f"{directory}/journal.reserve")
    partition.fill()
    with pytest.raises(JournalError, match="No space left"):
        journal.append({"event": "fetched", "state": "verify"})
    assert journal.situation.state is State.DOWNLOAD
    partition.blocks = 1000
    journal.append({"event": "fetched", "state": "verify"})
    assert opened(LinuxFiles(), directory).situation.state is State.VERIFY


def test_damage_on_a_full_partition_costs_the_evidence_and_not_the_agent(
    partition: SmallPartition, directory: str
) -> None:
    journal = begun(partition, directory)
    for _ in range(3):
        journal.append({"event": "due", "state": "download", "commands": ["fetch"]})
    LinuxFiles().write(f"{directory}/journal", BLOCK_BYTES + 20, b"X")
    partition.fill()
    again = opened(partition, directory)
    assert again.damage is not None and "lost: No space left" in again.damage
    assert again.situation.state is State.DOWNLOAD
    assert names(partition, directory) == ["journal", "journal.reserve"]


def test_no_record_is_written_where_it_would_not_be_read_again(
    partition: SmallPartition, directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READ_BYTES_MAX", 8 * BLOCK_BYTES)
    journal = begun(partition, directory)
    for _ in range(7):
        journal.append({"event": "due", "state": "download", "commands": ["fetch"]})
    with pytest.raises(JournalError, match="read again"):
        journal.append({"event": "due", "state": "download", "commands": ["fetch"]})
    assert opened(partition, directory).situation == journal.situation
    assert READ_BYTES_MAX > module.BYTES_MAX


def test_a_power_cut_anywhere_on_a_full_partition_keeps_what_was_told(directory: str) -> None:
    """Before every operation in turn, with everything that was not synced lost."""
    for cut in range(1, 200):
        medium, told = Medium(), Situation()
        partition = SmallPartition(medium.files, "/state")
        journal = begun(partition, "/state")
        partition.fill()
        medium.cut_at = len(medium.done) + cut
        try:
            for number in range(5):
                told = journal.situation
                journal.append({"event": "progressed", "state": "download", "update": {"bytes_done": number}})
        except PowerCut:
            medium.power_on()
            again = opened(partition, "/state")
            update = again.situation.update
            assert again.damage is None and update is not None and told.update is not None
            assert update.bytes_done in (told.update.bytes_done, told.update.bytes_done + 1, 0)
            assert again.situation == told or update.bytes_done == number
            again.append({"event": "fetched", "state": "verify"})
            assert opened(partition, "/state").situation.state is State.VERIFY
        else:
            assert cut > 15
            return
    raise AssertionError("no end")


@pytest.mark.parametrize("state", [State.DOWNLOAD, State.INSTALL, State.SELFTEST])
def test_an_update_is_ended_although_the_partition_fills_on_its_way(
    state: State, in_process: Callable[[], InProcessTerminal], desk: Desk
) -> None:
    terminal = in_process()
    partition = SmallPartition(LinuxFiles(), str(Path(terminal._parts.config.journal_path).parent))
    terminal._parts = dataclasses.replace(terminal._parts, files=partition)
    terminal.boot()
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    terminal.run_until(lambda one: one.state is state)
    partition.fill()
    assert terminal.run_to_idle()["outcome"] == "committed"
    for _ in range(3):
        terminal.boot()
        terminal.settle()
        assert terminal.state is State.IDLE
