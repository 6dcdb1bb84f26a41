"""Challenges: single use, one outstanding, 60 seconds, and a delay after failures that outlives a restart."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from posagent.console.auth import CHALLENGE_S, DELAY_S_MAX, Challenge, Gatekeeper
from posagent.core.errors import PosagentError
from posagent.core.ports import Files
from posagent.platform.storage import LinuxFiles
from posagent.sim.virtual import VirtualTime


class Door:
    """A terminal's gatekeeper on a real file, and its clock."""

    def __init__(self, folder: Path, files: Files | None = None) -> None:
        self.path = folder / "console.json"
        self.time = VirtualTime()
        self._files = files or LinuxFiles()
        self.restart()

    def restart(self) -> None:
        self.keeper = Gatekeeper(
            files=self._files, path=str(self.path), clock=self.time, terminal="pos-0001", boot_id="boot"
        )

    def fail(self) -> None:
        """Somebody answers wrongly."""
        self.keeper.challenge("update")
        self.keeper.take()
        self.keeper.failed()

    def refusal(self, role: str = "update") -> PosagentError:
        with pytest.raises(PosagentError) as caught:
            self.keeper.challenge(role)
        return caught.value

    def wait_s(self) -> float:
        """How long a new challenge has to wait."""
        error = self.refusal()
        assert error.code == "unlock_wait"
        return float(error.facts["expected_s"])


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path)


def test_a_challenge_names_domain_terminal_boot_number_nonce_and_role(door: Door) -> None:
    domain, terminal, boot, number, nonce, role = door.keeper.challenge("look").split(" ")
    assert (domain, terminal, boot, number, role) == ("posagent-console-v1", "pos-0001", "boot", "1", "look")
    assert len(bytes.fromhex(nonce)) == 16


def test_no_challenge_is_ever_repeated_even_after_a_restart(door: Door) -> None:
    seen = set()
    for _ in range(5):
        seen |= {door.keeper.challenge("look"), door.keeper.challenge("update")}
        door.restart()
    assert len(seen) == 10
    assert sorted(int(line.split()[3]) for line in seen) == list(range(1, 11))


def test_a_role_that_does_not_exist_is_a_bad_request(door: Door) -> None:
    assert door.refusal("root").code == "bad_request"


def test_a_challenge_is_used_once(door: Door) -> None:
    line = door.keeper.challenge("update")
    assert door.keeper.take() == Challenge(line, "update")
    with pytest.raises(PosagentError, match="unlock_expired"):
        door.keeper.take()


def test_a_newer_challenge_voids_the_older(door: Door) -> None:
    door.keeper.challenge("update")
    newer = door.keeper.challenge("look")
    assert door.keeper.take() == Challenge(newer, "look")


@pytest.mark.parametrize(("seconds", "good"), [(CHALLENGE_S - 1, True), (CHALLENGE_S + 1, False)])
def test_a_challenge_lives_for_sixty_seconds(door: Door, seconds: float, good: bool) -> None:
    assert CHALLENGE_S == 60
    line = door.keeper.challenge("update")
    door.time.let_pass(seconds)
    if good:
        assert door.keeper.take() == Challenge(line, "update")
    else:
        with pytest.raises(PosagentError, match="unlock_expired"):
            door.keeper.take()


def test_every_failure_doubles_the_delay_up_to_a_limit_that_always_ends(door: Door) -> None:
    waits = []
    for _ in range(12):
        door.fail()
        waits.append(door.wait_s())
        door.time.let_pass(waits[-1])
    assert waits == [2, 4, 8, 16, 32, 64, 128, 256, *[DELAY_S_MAX] * 4]


def test_the_delay_survives_a_restart(door: Door) -> None:
    for _ in range(4):
        door.fail()
        door.time.let_pass(16)
    door.restart()
    assert door.wait_s() == 16, "switching off and on does not shorten it"
    door.time.let_pass(16)
    assert door.keeper.challenge("update")


def test_challenges_asked_for_without_end_are_paced_and_do_not_wear_the_flash(tmp_path: Path) -> None:
    """Each one is a durable write, and whoever is on the line may ask."""
    door = Door(tmp_path, files := CountingFiles())
    for _ in range(5):
        door.keeper.challenge("look")
    assert 0 < door.wait_s() <= 1
    written = files.syncs
    for _ in range(100):
        assert door.refusal().code == "unlock_wait"
    assert files.syncs == written
    given = 0
    for _ in range(600):
        door.time.let_pass(0.1)
        try:
            door.keeper.challenge("look")
            given += 1
        except PosagentError:
            continue
    assert given == pytest.approx(60, abs=2)


def test_a_success_forgets_the_failures(door: Door) -> None:
    for _ in range(2):
        door.fail()
        door.time.let_pass(4)
    door.keeper.challenge("update")
    door.keeper.take()
    door.keeper.succeeded()
    assert door.keeper.challenge("update"), "at once"
    door.restart()
    door.fail()
    assert door.wait_s() == 2


def test_an_answer_counts_before_it_is_looked_at(door: Door) -> None:
    """Whoever cuts the power before the verdict has used up the try."""
    door.keeper.challenge("update")
    door.keeper.take()
    door.restart()
    assert door.wait_s() == 2


def test_an_answer_that_nobody_could_look_at_does_not_count(door: Door) -> None:
    door.keeper.challenge("update")
    door.keeper.take()
    assert door.wait_s() == 2
    door.keeper.untried()
    assert door.keeper.challenge("update")
    door.restart()
    assert door.keeper.challenge("update")


def test_a_challenge_may_name_one_action(door: Door) -> None:
    line = door.keeper.challenge("rollback", "rollback b 1.0.0")
    assert line.startswith("posagent-console-v1 pos-0001 boot 1 ") and line.endswith(" rollback rollback b 1.0.0")
    assert door.keeper.take() == Challenge(line, "rollback", "rollback b 1.0.0")


@pytest.mark.parametrize("action", ["rollback b 1.0.0\nroot", "x" * 201, "\x1b[2J"])
def test_an_action_is_one_short_line(door: Door, action: str) -> None:
    with pytest.raises(PosagentError, match="bad_request"):
        door.keeper.challenge("rollback", action)


@pytest.mark.parametrize(
    "kept", [b"", b"{", b"[]", b"null", b'{"counter":-1,"failures":"9"}', b"\xff", b'{"failures":1e400}', b"[" * 9999]
)
def test_a_damaged_file_counts_as_none(door: Door, kept: bytes) -> None:
    door.path.write_bytes(kept)
    door.restart()
    assert door.keeper.challenge("update").split()[3] == "1"


class CountingFiles(LinuxFiles):
    """Counts what wears the flash."""

    def __init__(self) -> None:
        self.syncs = 0

    def sync(self, path: str) -> None:
        self.syncs += 1
        super().sync(path)


class FullDisk(LinuxFiles):
    """A data partition without a free byte."""

    def write(self, path: str, offset: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_locks_nobody_out_and_the_delay_still_counts(tmp_path: Path) -> None:
    door = Door(tmp_path, FullDisk())
    door.fail()
    assert door.wait_s() == 2
    door.time.let_pass(2)
    assert door.keeper.challenge("update")


def test_an_unreadable_file_does_not_keep_the_agent_from_starting(tmp_path: Path) -> None:
    (tmp_path / "console.json").mkdir()
    assert Door(tmp_path).keeper.challenge("update")
