"""The journal survives torn tails and tells of real damage."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posagent.agent import journal as module
from posagent.agent.journal import Journal
from posagent.core.errors import JournalError
from posagent.core.model import State
from posagent.platform.storage import LinuxFiles

BEGINS = {"id": "u1", "source": "https://x/b", "spool": "s", "target": "b", "previous": "a", "version": "2"}
OUTCOME = {"outcome": "committed", "code": "ok", "version": "2", "detail": "", "at": 1.0, "id": "u1"}


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "state" / "journal")


def opened(path: str) -> Journal:
    return Journal(LinuxFiles(), path)


def with_three_records(path: str) -> bytes:
    journal = opened(path)
    journal.append({"event": "update_requested", "state": "download", "begins": BEGINS})
    journal.append({"event": "due", "state": "download", "commands": ["fetch"]})
    journal.append({"event": "fetched", "state": "verify", "update": {"bundle": "/s/b"}})
    return Path(path).read_bytes()


def test_what_was_appended_is_there_after_a_restart(path: str) -> None:
    with_three_records(path)
    situation = opened(path).situation
    assert situation.state is State.VERIFY
    assert situation.update is not None and situation.update.bundle == "/s/b"
    assert situation.attempts == {"fetch": 1}


def test_a_torn_last_record_is_cut_off_and_the_journal_goes_on(path: str) -> None:
    whole = with_three_records(path)
    last = 2 * module.BLOCK_BYTES
    for end in range(last, len(whole)):
        Path(path).write_bytes(whole[:end])
        journal = opened(path)
        assert journal.situation.state is State.DOWNLOAD and journal.damage is None
        journal.append({"event": "fetched", "state": "verify"})
        assert opened(path).situation.state is State.VERIFY


def test_damage_in_the_middle_keeps_what_was_before_and_sets_the_rest_aside(path: str) -> None:
    whole = with_three_records(path)
    second = module.BLOCK_BYTES + 20
    Path(path).write_bytes(whole[:second] + b"X" + whole[second + 1 :])
    journal = opened(path)
    assert journal.situation.state is State.DOWNLOAD and journal.situation.attempts == {}
    assert journal.damage is not None and "record 1" in journal.damage
    assert b"fetched" in Path(path + ".damaged").read_bytes()
    assert opened(path).damage is None, "reported once, then the journal is whole again"


def test_a_record_left_out_is_damage_even_if_every_line_is_good(path: str) -> None:
    whole = with_three_records(path)
    Path(path).write_bytes(whole[: module.BLOCK_BYTES] + whole[2 * module.BLOCK_BYTES :])
    assert opened(path).situation.state is State.DOWNLOAD


def test_compaction_keeps_outcomes_and_measurements(path: str) -> None:
    journal = opened(path)
    journal.append({"event": "update_requested", "state": "download", "begins": BEGINS})
    journal.append({"event": "fetched", "state": "verify", "measured": {"download": {"seconds": 2.0, "bytes": 10.0}}})
    journal.append({"event": "marked_good", "state": "idle", "outcome": OUTCOME})
    before = journal.situation
    journal.compact()
    journal.append({"event": "update_requested", "state": "download", "begins": BEGINS})
    again = opened(path).situation
    assert again.outcomes == before.outcomes == (OUTCOME,)
    assert again.measured == before.measured and again.state is State.DOWNLOAD


def test_the_journal_stays_bounded(path: str) -> None:
    journal = opened(path)
    for number in range(3000):
        journal.append({"event": "due", "state": "idle", "padding": "x" * 300, "number": number})
    assert Path(path).stat().st_size < module.BYTES_MAX + 2 * module.BLOCK_BYTES


def test_fields_of_a_newer_release_are_ignored(path: str) -> None:
    journal = opened(path)
    journal.append({"event": "update_requested", "state": "download", "begins": {**BEGINS, "zone": 7}, "mood": "good"})
    journal.append({"event": "new_event", "state": "verify", "update": {"bundle": "/b", "novelty": []}})
    assert opened(path).situation.state is State.VERIFY


def test_a_state_of_a_newer_release_ends_the_journal_instead_of_the_agent(path: str) -> None:
    journal = opened(path)
    journal.append({"event": "update_requested", "state": "download", "begins": BEGINS})
    whole = Path(path).read_bytes()
    line = module.encode(1, module._hash(whole[:-1]), {"event": "x", "state": "migrate"})
    Path(path).write_bytes(whole.ljust(module.BLOCK_BYTES, b"\0") + line)
    assert opened(path).situation.state is State.DOWNLOAD


def test_a_directory_that_cannot_be_written_is_a_coded_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="journal_io"):
        opened(str(tmp_path / "file" / "journal"))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=400), cut=st.integers(0, 10_000))
def test_no_bytes_stop_the_agent_from_starting(path: str, data: bytes, cut: int) -> None:
    Path(path).unlink(missing_ok=True)
    whole = with_three_records(path)
    Path(path).write_bytes(whole[: cut % len(whole)] + data)
    journal = opened(path)
    journal.append({"event": "due", "state": journal.situation.state.value})
    assert opened(path).situation == journal.situation


def test_forty_failures_with_all_their_evidence_can_be_read_again(path: str) -> None:
    journal = opened(path)
    checks = [{"name": f"c{number}", "passed": False, "detail": "错" * 1500} for number in range(4)]
    for number in range(40):
        begins = {**BEGINS, "id": f"u{number}"}
        journal.append({"event": "update_requested", "state": "download", "begins": begins})
        outcome = {**OUTCOME, "outcome": "rolled_back", "id": f"u{number}", "detail": "错" * 2000, "checks": checks}
        journal.append({"event": "marked_bad", "state": "idle", "outcome": outcome})
        journal.compact()
    again = opened(path)
    assert again.damage is None and again.situation == journal.situation
    assert len(again.situation.outcomes) == 20
    assert again.situation.outcomes[-1]["checks"] == checks, "the last one keeps its evidence"


def test_a_record_too_large_to_be_read_again_is_refused_and_loses_nothing(path: str) -> None:
    with_three_records(path)
    journal = opened(path)
    with pytest.raises(JournalError, match="larger than"):
        journal.append({"event": "due", "state": "verify", "padding": "x" * module.RECORD_BYTES_MAX})
    journal.append({"event": "accepted", "state": "ready"})
    assert opened(path).situation.state is State.READY


def test_no_record_shares_a_block_with_another(path: str) -> None:
    whole = with_three_records(path)
    assert 2 * module.BLOCK_BYTES < len(whole) < 3 * module.BLOCK_BYTES
    Path(path).write_bytes(whole[: 2 * module.BLOCK_BYTES] + b"\xff" * module.BLOCK_BYTES)
    journal = opened(path)
    assert journal.situation.state is State.DOWNLOAD and journal.damage is None, "garbage costs the last record only"
