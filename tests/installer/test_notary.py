"""The installer's seals: what it signs, what it remembers, and that nobody talks it out of what it has seen."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from posagent.agent.audit import AuditLog
from posagent.core import notes
from posagent.core.audit import FILE, Sealed, Verdict
from posagent.core.errors import PosagentError
from posagent.crash.medium import Medium, PowerCut
from posagent.crash.units import PROFILES
from posagent.installer import notary
from posagent.installer.notary import Notary
from posagent.platform.storage import LinuxFiles
from posagent.sim.virtual import VirtualTime


class InMemory(LinuxFiles):
    """Thousands of records, sooner."""

    def sync(self, path: str) -> None:
        return None


class Terminal:
    """An agent's log and the installer's directory."""

    def __init__(self, root: Path) -> None:
        self.path = root / FILE
        self.installer = root / "installer"
        self.noted = 0
        self.restart()

    def restart(self) -> None:
        self.log = AuditLog(LinuxFiles(), str(self.path), VirtualTime())

    @property
    def notary(self) -> Notary:
        """A fresh process each time."""
        return Notary(LinuxFiles(), str(self.installer), "pos-0001")

    def note(self, count: int = 1) -> None:
        for _ in range(count):
            self.noted += 1
            self.log.note("command", number=self.noted)

    def seal(self) -> bool:
        """Whether the log goes on from the last seal."""
        result = self.notary.seal(self.path.read_bytes)
        self.log.checkpoint(result["note"], result["key"])
        return bool(result["whole"])

    @property
    def key(self) -> str:
        return (self.installer / notary.KEY_FILE).read_text().strip()

    def verdict(self) -> Verdict:
        memory = self.notary.memory()
        return notary.verify(self.path.read_bytes(), key=self.key, known=(memory.sealed,))

    def cut(self, records: int) -> None:
        """Somebody cuts the log off behind so many records, while the agent does not run."""
        self.path.write_bytes(self.path.read_bytes()[: records * 4096])
        self.restart()


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


def test_a_note_of_the_reference_implementation_is_genuine() -> None:
    """Key and note of golang.org/x/mod/sumdb/note's documentation."""
    key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    text = (
        "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\u2014 "
        "PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
    )
    note = notes.parse_note(text)
    assert note is not None and notary.genuine(key, note)
    changed = notes.parse_note(text.replace("answer", "problem"))
    assert changed is not None and not notary.genuine(key, changed)
    assert not notary.genuine("", note) and not notary.genuine(key.replace("Peter", "Xeter"), note)


def test_a_log_that_goes_on_is_sealed_in_silence_again_and_again(terminal: Terminal) -> None:
    for _ in range(5):
        terminal.note(7)
        assert terminal.seal()
    verdict = terminal.verdict()
    assert verdict.breaks == [] and verdict.sealed == 39 and verdict.records == 40
    assert terminal.notary.memory().sealed.size == 39


def test_the_key_is_made_once_and_other_tools_can_read_it(terminal: Terminal) -> None:
    terminal.seal()
    first = terminal.key
    terminal.seal()
    assert terminal.key == first
    (terminal.installer / notary.KEY_FILE).unlink()
    terminal.seal()
    assert terminal.key == first, "the public half comes again from the private one"
    shown = subprocess.run(
        ["openssl", "pkey", "-in", str(terminal.installer / "audit-key.pem"), "-noout", "-text"],
        capture_output=True,
        check=True,
    )
    assert b"ED25519" in shown.stdout.upper()
    assert (terminal.installer / "audit-key.pem").stat().st_mode & 0o007 == 0


@pytest.mark.parametrize("left", range(8))
def test_a_log_that_was_cut_off_is_sealed_with_the_loss_in_it(terminal: Terminal, left: int) -> None:
    terminal.note(7)
    assert terminal.seal()
    terminal.cut(left)
    terminal.note(20)  # more than there were: the number alone does not show it
    whole = terminal.seal()
    assert whole is (left == 7)
    assert any("did not go on from the 7" in what for _, what in terminal.verdict().breaks) is (left < 7)
    assert [one.size for one in terminal.notary.memory().lost] == [7] * (left < 7)
    assert terminal.seal(), "from here on it goes on"


def test_a_log_that_was_written_anew_with_a_chain_that_fits_is_found(terminal: Terminal) -> None:
    terminal.note(7)
    terminal.seal()
    terminal.path.unlink()
    terminal.restart()
    terminal.note(30)
    assert not terminal.seal()


def test_a_lost_log_is_found(terminal: Terminal) -> None:
    terminal.note(7)
    terminal.seal()
    terminal.path.unlink()
    result = terminal.notary.seal(terminal.path.read_bytes)
    assert (result["whole"], result["size"]) == (False, 0)


def test_a_rotated_log_goes_on_as_long_as_nothing_unsealed_was_dropped(terminal: Terminal) -> None:
    time = VirtualTime()
    terminal.log = AuditLog(InMemory(), str(terminal.path), time)
    sealed = 0
    for number in range(2000):
        time.let_pass(10)
        terminal.log.note("command", number=number)
        if number % 100 == 0:
            assert terminal.seal()
            sealed = terminal.log.size
    verdict = terminal.verdict()
    assert verdict.breaks == [] and verdict.first > 0 and verdict.sealed == sealed - 1


def test_a_damaged_key_or_memory_is_replaced_and_the_log_shows_it(terminal: Terminal) -> None:
    terminal.note()
    terminal.seal()
    old = terminal.key
    (terminal.installer / "audit-key.pem").write_bytes(b"not a key")
    assert terminal.seal()
    assert terminal.key != old
    assert "another key" in notary.verify(terminal.path.read_bytes()).breaks[0][1]
    for damage in (
        b"{",
        b'{"sealed":[1],"lost":[]}',
        b'{"sealed":["1","x"],"lost":[]}',
        b'{"sealed":[1,"zz"],"lost":[]}',
    ):
        (terminal.installer / "audit.json").write_bytes(damage)
        assert terminal.notary.memory().sealed == Sealed()


def test_only_the_newest_losses_are_remembered(terminal: Terminal) -> None:
    for number in range(12):
        terminal.note(3 + number)
        terminal.seal()
        terminal.cut(1)
    assert len(terminal.notary.memory().lost) == notary.LOST_MAX


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "installer").write_text("a file where the directory should be")
    with pytest.raises(PosagentError, match="audit_unreadable"):
        Terminal(tmp_path).seal()


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_no_power_cut_makes_a_whole_log_look_cut_off_or_hides_that_it_was(profile: object) -> None:
    log = [b"", b""]
    time = VirtualTime()
    base = Medium()
    base.files.make_dir("/state")
    written = AuditLog(base.files, "/state/audit.log", time)
    for number in range(2):
        written.note("command", number=number)
        log[number] = base.files.read("/state/audit.log")

    def seals(medium: Medium, *logs: bytes) -> list[bool]:
        made = Notary(medium.files, "/installer", "pos-0001")
        return [bool(made.seal(lambda data=one: data)["whole"]) for one in logs]  # type: ignore[misc]

    clean = Medium(profile=profile)  # type: ignore[arg-type]
    assert seals(clean, *log) == [True, True]
    for cut_at in range(1, len(clean.done) + 1):
        medium = Medium(profile=profile)  # type: ignore[arg-type]
        medium.cut_at = cut_at
        with pytest.raises(PowerCut):
            seals(medium, *log)
        medium.power_on()
        remembered = Notary(medium.files, "/installer", "pos-0001").memory().sealed.size
        assert seals(medium, log[1], log[1]) == [True, True]
        if remembered:
            assert seals(medium, log[0]) == [False]
