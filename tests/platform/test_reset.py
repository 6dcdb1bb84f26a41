"""Why the system started: every source, the order of belief, and that nothing is believed for two starts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.core import durable
from posagent.core.ports import Files, ResetCause, ResetReport
from posagent.crash.medium import ALL, Medium, PowerCut
from posagent.platform import pstore, reset
from posagent.platform.reset import LinuxResets
from posagent.platform.storage import LinuxFiles

PANIC = b"Panic#1 Part1\n<6>[    1.100000] mmc0: new card\n<0>[    1.200000] Kernel panic - not syncing: no init\n"
OOPS = b"Oops#1 Part1\n<4>[    9.000000] BUG: unable to handle page fault\n"
UNITS = Path(__file__).parents[2] / "systemd"


def boot_id(number: int) -> str:
    return f"{number:08x}-1111-4222-8333-444444444444"


class NoRoom(LinuxFiles):
    """A data partition that takes nothing any more."""

    def write(self, path: str, offset: int, data: bytes) -> None:
        raise OSError(28, "No space left on device")


class Terminal:
    """The places that LinuxResets looks at, under one directory."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.pstore, self.archive, self.state = base / "pstore", base / "archive", base / "state"
        for directory in (self.pstore, self.archive, self.state):
            directory.mkdir()
        self.boots = 0

    def start(self, words: str = "", bootstatus: str | None = None) -> None:
        """The kernel starts."""
        self.boots += 1
        (self.base / "boot_id").write_text(boot_id(self.boots) + "\n")
        (self.base / "cmdline").write_text(f"console=ttyS0 {words} quiet\n")
        (self.base / "bootstatus").unlink(missing_ok=True)
        if bootstatus is not None:
            (self.base / "bootstatus").write_text(bootstatus)

    def read(self, files: Files | None = None, state_dir: str = "") -> ResetReport:
        """What a new process of the installer finds."""
        return LinuxResets(
            files=files or LinuxFiles(),
            cmdline_file=str(self.base / "cmdline"),
            pstore_dirs=(str(self.pstore), str(self.archive)),
            bootstatus=str(self.base / "bootstatus"),
            state_dir=state_dir or str(self.state),
            boot_id_file=str(self.base / "boot_id"),
        ).read()

    def cause(self) -> ResetCause:
        return self.read().cause

    def panics(self, name: str = "dmesg-ramoops-0", text: bytes = PANIC) -> None:
        (self.pstore / name).write_bytes(text)

    def shuts_down(self) -> None:
        (self.state / "shutdown").write_text(boot_id(self.boots) + "\n")

    def trial_ends(self, lines: str = "[ 600.1] agent: cannot start\n") -> None:
        (self.state / "trial-log").write_text(boot_id(self.boots) + "\n" + lines)
        self.shuts_down()

    def archived(self, subdirectory: str = "1712345678") -> None:
        """systemd-pstore.service moves everything."""
        for record in list(self.pstore.iterdir()):
            (self.archive / subdirectory).mkdir(exist_ok=True)
            shutil.copyfile(record, self.archive / subdirectory / record.name)
            record.unlink()


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    """A terminal in its second start; the first one was looked at."""
    made = Terminal(tmp_path)
    made.start("posagent.reset=power")
    made.read()
    return made


# each source


@pytest.mark.parametrize("word", ["power", "brown_out", "watchdog", "panic", "reboot"])
def test_the_word_of_the_boot_script_is_the_cause(terminal: Terminal, word: str) -> None:
    terminal.start(f"posagent.reset={word}", bootstatus="48")
    assert terminal.read() == ResetReport(cause=ResetCause(word), boot_id=boot_id(2))


@pytest.mark.parametrize("word", ["unknown", "", "POWER", "magic", "power,reboot"])
def test_a_word_that_is_no_cause_counts_as_not_there(terminal: Terminal, word: str) -> None:
    terminal.start(f"posagent.reset={word}", bootstatus="32")
    assert terminal.cause() is ResetCause.WATCHDOG


def test_the_last_good_word_counts_and_only_that_of_our_key(terminal: Terminal) -> None:
    terminal.start("posagent.reset=reboot posagent.reset=brown_out posagent.reset=? xposagent.reset=power")
    assert terminal.cause() is ResetCause.BROWN_OUT


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        ("32\n", ResetCause.WATCHDOG),
        ("16\n", ResetCause.BROWN_OUT),
        ("48\n", ResetCause.WATCHDOG),
        ("33\n", ResetCause.WATCHDOG),
        ("0\n", ResetCause.POWER),
        ("1\n", ResetCause.UNKNOWN),  # overheated: something else than the power
        ("-1\n", ResetCause.POWER),  # no number: as if it was not there, and the empty crash store decides
        ("", ResetCause.POWER),
    ],
)
def test_the_status_of_the_watchdog(terminal: Terminal, status: str, cause: ResetCause) -> None:
    terminal.start(bootstatus=status)
    assert terminal.cause() is cause


@pytest.mark.parametrize(
    "text", [PANIC, b"Panic#2 Part3\nnothing else", b"====1.2-D\n[1.2] Kernel panic - not syncing"]
)
@pytest.mark.parametrize("name", ["dmesg-ramoops-0", "dmesg-efi-171234567801001", "dmesg-erst-7000000000000001"])
def test_a_dump_that_says_panic_is_one(terminal: Terminal, name: str, text: bytes) -> None:
    terminal.panics(name, text)
    terminal.start(bootstatus="0")
    assert terminal.cause() is ResetCause.PANIC


def test_a_panic_is_told_with_the_end_of_its_dump(terminal: Terminal) -> None:
    terminal.panics(text=b"Panic#1 Part1\n" + b"".join(b"<6>[%5d.0] line\r\n" % number for number in range(5000)))
    terminal.panics("console-ramoops-0", b"console\n")
    terminal.start()
    log = terminal.read().log
    assert (log[0], log[-1], len(log)) == ("[ 4980.0] line", "[ 4999.0] line", 20)


def test_of_a_dump_in_parts_the_first_part_has_the_end(terminal: Terminal) -> None:
    for part in (3, 1, 2):
        terminal.panics(f"dmesg-efi-17123456780{part}001", b"Panic#1 Part%d\npart %d\n" % (part, part))
    terminal.start()
    assert terminal.read().log == ("Panic#1 Part1", "part 1")


def test_a_compressed_dump_is_a_panic_without_lines(terminal: Terminal) -> None:
    terminal.panics("dmesg-ramoops-0.enc.z", os.urandom(3000))
    terminal.start()
    assert terminal.read() == ResetReport(cause=ResetCause.PANIC, boot_id=boot_id(2))


def test_other_dumps_and_the_console_are_no_panic_but_something_was_left(terminal: Terminal) -> None:
    terminal.panics(text=OOPS)
    terminal.panics("console-ramoops-0", b"[ 77.0] Kernel panic is what the tests talk about\n")
    terminal.start()
    assert terminal.read() == ResetReport(
        cause=ResetCause.UNKNOWN, boot_id=boot_id(2), log=("[ 77.0] Kernel panic is what the tests talk about",)
    )


def test_a_console_that_was_moved_before_the_first_look_was_left_behind_too(terminal: Terminal) -> None:
    terminal.panics("console-ramoops-0", b"last words\n")
    terminal.start()
    terminal.archived()
    assert terminal.read() == ResetReport(boot_id=boot_id(2), log=("last words",))


def test_an_orderly_shutdown_is_a_reboot_and_its_mark_is_removed(terminal: Terminal) -> None:
    terminal.shuts_down()
    terminal.start(bootstatus="0")
    assert terminal.cause() is ResetCause.REBOOT
    assert [path.name for path in terminal.state.iterdir()] == ["reset.json"]


def test_an_orderly_restart_of_the_last_start_that_looked_may_be_older_than_starts_that_did_not(
    terminal: Terminal,
) -> None:
    terminal.shuts_down()
    terminal.start(bootstatus="0")  # cut off before anybody looked
    terminal.start(bootstatus="0")
    report = ResetReport(cause=ResetCause.REBOOT, traceless=True, boot_id=boot_id(terminal.boots))
    assert terminal.read() == report, "nobody can tell it from the start that the restart was for"
    assert terminal.read() == report


def test_an_orderly_restart_of_a_start_that_never_looked_is_its_own(terminal: Terminal) -> None:
    terminal.start(bootstatus="0")
    terminal.shuts_down()
    terminal.start(bootstatus="0")
    assert terminal.read() == ResetReport(cause=ResetCause.REBOOT, boot_id=boot_id(terminal.boots))


def test_a_word_or_last_words_in_the_crash_store_tell_that_the_restart_was_the_last_thing(terminal: Terminal) -> None:
    terminal.shuts_down()
    terminal.start("posagent.reset=reboot")
    assert not terminal.read().traceless
    terminal.shuts_down()
    terminal.panics("console-ramoops-0", b"reboot: Restarting system\n")  # power would have wiped it out
    terminal.start(bootstatus="0")
    assert terminal.read().cause is ResetCause.REBOOT and not terminal.read().traceless


def test_what_else_the_watchdog_tells_is_a_trace(terminal: Terminal) -> None:
    terminal.shuts_down()
    terminal.start(bootstatus="1")
    assert terminal.read().cause is ResetCause.REBOOT and not terminal.read().traceless


@pytest.mark.parametrize("words", ["", "posagent.reset=reboot", "posagent.reset=watchdog"])
def test_a_restart_by_the_trial_timer_is_nobodys_wish(terminal: Terminal, words: str) -> None:
    terminal.panics("console-ramoops-0", b"reboot: Restarting system\n")
    terminal.trial_ends()
    terminal.start(words, bootstatus="0")
    assert terminal.read() == ResetReport(
        cause=ResetCause.WATCHDOG, boot_id=boot_id(2), log=("[ 600.1] agent: cannot start",)
    )
    assert [path.name for path in terminal.state.iterdir()] == ["reset.json"]


def test_a_trial_that_could_not_save_its_lines_is_one_too(terminal: Terminal) -> None:
    terminal.panics("console-ramoops-0", b"last words\n")
    terminal.trial_ends(lines="")
    terminal.start()
    assert terminal.read() == ResetReport(cause=ResetCause.WATCHDOG, boot_id=boot_id(2), log=("last words",))


def test_nothing_left_behind_is_a_power_cut(terminal: Terminal) -> None:
    terminal.start()
    assert terminal.cause() is ResetCause.POWER


def test_a_platform_that_tells_nothing_is_unknown(terminal: Terminal) -> None:
    terminal.pstore.rmdir()
    terminal.start()
    assert terminal.cause() is ResetCause.UNKNOWN


# the order of belief


@pytest.mark.parametrize(
    ("word", "cause"),
    [
        ("power", ResetCause.POWER),
        ("brown_out", ResetCause.BROWN_OUT),
        ("watchdog", ResetCause.PANIC),
        ("reboot", ResetCause.PANIC),
        ("panic", ResetCause.PANIC),
    ],
)
def test_a_panic_beats_only_the_words_for_what_follows_a_panic(
    terminal: Terminal, word: str, cause: ResetCause
) -> None:
    terminal.panics()
    terminal.trial_ends()
    terminal.start(f"posagent.reset={word}", bootstatus="16")
    assert terminal.cause() is cause


def test_the_crash_store_comes_before_the_watchdog_and_that_before_the_marks(terminal: Terminal) -> None:
    terminal.shuts_down()
    terminal.panics()
    terminal.start(bootstatus="32")
    assert terminal.cause() is ResetCause.PANIC
    terminal.shuts_down()
    terminal.start(bootstatus="16")
    assert terminal.cause() is ResetCause.BROWN_OUT


# once only


def test_every_look_of_one_start_finds_the_same(terminal: Terminal) -> None:
    terminal.panics()
    terminal.start(bootstatus="0")
    first = terminal.read()
    terminal.archived()
    terminal.panics(text=PANIC + b"another\n")
    terminal.shuts_down()
    (terminal.base / "bootstatus").write_text("32")
    assert first.cause is ResetCause.PANIC
    assert [terminal.read() for _ in range(3)] == [first] * 3


@pytest.mark.parametrize("early", [True, False])
def test_a_record_that_was_moved_is_not_new(terminal: Terminal, early: bool) -> None:
    terminal.panics()
    terminal.start()
    if early:
        terminal.archived()
    assert terminal.cause() is ResetCause.PANIC
    terminal.archived()
    (terminal.archive / "1712345678" / "dmesg.txt").write_bytes(PANIC.replace(b"Part1", b""))  # put together of parts
    (terminal.archive / "1712345678" / "dmesg-ramoops-0").rename(terminal.archive / "dmesg-ramoops-0")
    for _ in range(2):
        terminal.start()
        assert terminal.read() == ResetReport(cause=ResetCause.POWER, boot_id=boot_id(terminal.boots))


def test_a_record_that_stays_is_believed_once_but_tells_that_the_memory_kept_its_content(terminal: Terminal) -> None:
    terminal.panics()
    terminal.start()
    assert terminal.cause() is ResetCause.PANIC
    terminal.start()
    assert terminal.read() == ResetReport(cause=ResetCause.UNKNOWN, boot_id=boot_id(3))
    terminal.start(bootstatus="0")
    assert terminal.cause() is ResetCause.POWER


def test_the_next_panic_under_the_same_name_is_new(terminal: Terminal) -> None:
    terminal.panics()
    terminal.start()
    terminal.read()
    terminal.panics(text=PANIC.replace(b"1.2", b"1.3"))
    terminal.start()
    assert terminal.read().log[-1] == "[    1.300000] Kernel panic - not syncing: no init"


def test_records_that_were_out_of_sight_for_a_start_are_not_new(terminal: Terminal) -> None:
    """The other slot has its own archive."""
    terminal.panics()
    terminal.start()
    terminal.archived()
    assert terminal.cause() is ResetCause.PANIC
    terminal.archive.rename(terminal.base / "other")
    terminal.start()
    assert terminal.cause() is ResetCause.POWER
    (terminal.base / "other").rename(terminal.archive)
    terminal.start()
    assert terminal.cause() is ResetCause.POWER


def test_marks_that_could_not_be_removed_are_believed_once(terminal: Terminal) -> None:
    class Stuck(LinuxFiles):
        def unlink(self, path: str) -> None:
            if not path.endswith(".new"):
                raise OSError(5, "Input/output error")

    terminal.trial_ends()
    terminal.start()
    assert (terminal.read(Stuck()).cause, terminal.cause()) == (ResetCause.WATCHDOG, ResetCause.WATCHDOG)
    assert (terminal.state / "trial-log").exists()
    terminal.start()
    assert terminal.read() == ResetReport(cause=ResetCause.POWER, boot_id=boot_id(3))
    assert not (terminal.state / "trial-log").exists()


def test_a_mark_of_this_start_is_for_the_next_one(terminal: Terminal) -> None:
    terminal.start()
    terminal.trial_ends()  # the installer is asked for the first time while the system goes down
    assert terminal.cause() is ResetCause.POWER
    terminal.start()
    assert terminal.cause() is ResetCause.WATCHDOG


def test_without_an_earlier_look_nobody_knows_how_old_things_are(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    terminal.boots = 7
    terminal.panics()
    terminal.trial_ends()
    terminal.start(bootstatus="0")
    assert terminal.read() == ResetReport(cause=ResetCause.UNKNOWN, boot_id=boot_id(8))
    terminal.shuts_down()
    terminal.start(bootstatus="0")
    assert terminal.cause() is ResetCause.REBOOT
    terminal.panics(text=PANIC + b"2")
    terminal.start(bootstatus="0")
    assert terminal.cause() is ResetCause.PANIC


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"\xff" * 50,
        b"9" * 6000,
        b"[" * 60000,
        b'{"boot_id":1}',
        b'{"boot_id":"x","cause":"power","log":[],"seen":[1]}',
        b'{"boot_id":"x","cause":[],"log":[],"seen":[]}',
        b" " * (reset.FINDING_BYTES_MAX + 1),
    ],
)
def test_a_damaged_finding_is_none(terminal: Terminal, damage: bytes) -> None:
    terminal.panics()
    terminal.start()
    (terminal.state / "reset.json").write_bytes(damage)
    assert terminal.cause() is ResetCause.UNKNOWN
    terminal.start("posagent.reset=watchdog")
    assert terminal.cause() is ResetCause.WATCHDOG


def test_the_finding_says_what_was_seen(terminal: Terminal) -> None:
    terminal.panics()
    terminal.shuts_down()
    terminal.start()
    terminal.read()
    kept = json.loads((terminal.state / "reset.json").read_bytes())
    assert (kept["boot_id"], kept["cause"], len(kept["log"])) == (boot_id(2), "panic", 3)
    assert len(kept["seen"]) == 2 and boot_id(1) in kept["seen"]


# what cannot be read or written


def test_errors_of_writing_are_survived(terminal: Terminal) -> None:
    terminal.shuts_down()
    terminal.start()
    for _ in range(2):
        assert terminal.read(NoRoom()).cause is ResetCause.REBOOT
    assert (terminal.state / "shutdown").exists()
    assert terminal.cause() is ResetCause.REBOOT
    terminal.start()
    assert terminal.cause() is ResetCause.POWER


def test_without_a_boot_id_nothing_is_told_and_nothing_is_used_up(terminal: Terminal) -> None:
    terminal.shuts_down()
    terminal.start("posagent.reset=power")
    for text in ("", "no boot id\n", "../../x\n"):
        (terminal.base / "boot_id").write_text(text)
        assert terminal.read() == ResetReport()
    (terminal.base / "boot_id").unlink()
    assert terminal.read() == ResetReport()
    assert (terminal.state / "shutdown").exists()


def test_nothing_at_all_is_there(tmp_path: Path) -> None:
    missing = str(tmp_path / "x/y")
    (tmp_path / "boot_id").write_text(boot_id(1))
    resets = LinuxResets(
        files=LinuxFiles(),
        cmdline_file=missing,
        pstore_dirs=(),
        bootstatus=missing,
        state_dir=missing,
        boot_id_file=str(tmp_path / "boot_id"),
    )
    assert resets.read() == ResetReport(boot_id=boot_id(1))
    assert (tmp_path / "x/y/reset.json").exists()


def test_the_real_places_can_be_looked_at_by_anybody(tmp_path: Path) -> None:
    report = LinuxResets(files=LinuxFiles(), state_dir=str(tmp_path)).read()
    assert report.boot_id and LinuxResets(files=LinuxFiles(), state_dir=str(tmp_path)).read() == report


def test_links_pipes_and_directories_are_no_records(terminal: Terminal) -> None:
    outside = terminal.base / "outside"
    outside.mkdir()
    (outside / "dmesg-ramoops-0").write_bytes(PANIC)
    (terminal.archive / "dmesg-link-0").symlink_to(outside / "dmesg-ramoops-0")
    (terminal.archive / "linked").symlink_to(outside)
    (terminal.archive / "dmesg-directory-0").mkdir()
    os.mkfifo(terminal.archive / "dmesg-pipe-0")
    terminal.start()
    assert terminal.cause() is ResetCause.POWER
    (terminal.pstore / "dmesg-ramoops-0").write_bytes(PANIC)
    terminal.start()
    assert terminal.cause() is ResetCause.PANIC


def test_a_linked_mark_is_not_followed(terminal: Terminal) -> None:
    (terminal.base / "victim").write_text(boot_id(1))
    (terminal.state / "shutdown").symlink_to(terminal.base / "victim")
    terminal.start()
    assert terminal.cause() is ResetCause.POWER
    assert (terminal.base / "victim").exists()


@pytest.mark.parametrize("text", ["", "\n", "garbage\n", "\0" * 36, "x" * (1 << 20)])
def test_a_mark_without_a_boot_id_is_not_believed(terminal: Terminal, text: str) -> None:
    (terminal.state / "shutdown").write_text(text)
    (terminal.state / "trial-log").write_text(text)
    terminal.start()
    assert terminal.read() == ResetReport(cause=ResetCause.POWER, boot_id=boot_id(2))


def test_a_record_that_cannot_be_read_is_no_panic_and_not_new_when_it_can(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path.startswith("dmesg-"):
            raise PermissionError(13, "Permission denied", path)
        return opened(path, flags, mode, dir_fd=dir_fd)

    opened = os.open
    terminal.panics()
    terminal.start()
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuses)
        assert terminal.cause() is ResetCause.UNKNOWN
    terminal.start()
    assert terminal.cause() is ResetCause.UNKNOWN
    terminal.panics(text=PANIC + b"another\n")
    terminal.start()
    assert terminal.cause() is ResetCause.PANIC


def test_a_crash_store_that_cannot_be_listed_leaves_the_age_of_records_unknown(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == str(terminal.pstore):
            raise PermissionError(13, "Permission denied", path)
        return opened(path, flags, mode, dir_fd=dir_fd)

    opened = os.open
    terminal.panics()
    terminal.shuts_down()
    terminal.start()
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuses)
        assert terminal.cause() is ResetCause.REBOOT
    terminal.start(bootstatus="0")
    assert terminal.cause() is ResetCause.UNKNOWN


def test_too_many_records_and_names_are_not_all_looked_at(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pstore, "RECORDS_MAX", 3)
    for number in range(5):
        terminal.panics(f"dmesg-efi-{number}", PANIC + b"%d" % number)
    terminal.start()
    assert terminal.cause() is ResetCause.PANIC
    for number in range(4):
        (terminal.pstore / f"dmesg-efi-{number}").unlink()
    terminal.start()
    assert terminal.cause() is ResetCause.UNKNOWN  # the fifth was there before but nobody had looked at it
    terminal.panics("dmesg-efi-0", PANIC + b"new")
    terminal.start()
    assert terminal.cause() is ResetCause.PANIC


def test_huge_and_binary_files_are_bounded(terminal: Terminal) -> None:
    with (terminal.pstore / "dmesg-ramoops-0").open("wb") as stream:
        stream.write(PANIC)
        stream.truncate(1 << 33)
    terminal.panics("console-ramoops-0", bytes(range(256)) * 4000)
    terminal.start()
    report = terminal.read()
    assert (report.cause, len(report.log)) == (ResetCause.PANIC, 1)
    assert report.log == ("?" * 160,)


@pytest.mark.parametrize("text", ['"' * 5000, "\\\n" * 500, ("中文" * 100 + "\n") * 30, "\x1b[31m\t\0\n" * 40])
def test_lines_are_printable_and_fit(terminal: Terminal, text: str) -> None:
    terminal.panics("console-ramoops-0", text.encode())
    terminal.start()
    first = terminal.read()
    assert first.log and all(line.isprintable() and line.isascii() and len(line) <= 160 for line in first.log)
    assert len(first.log) <= 20 and len(json.dumps(first.log)) <= 3584
    assert terminal.read() == first


@given(st.binary(max_size=500))
def test_clean_lines_stay_as_they_are(data: bytes) -> None:
    lines = reset._lines(b"<6>" + data)
    assert reset._lines("\n".join(lines).encode()) == lines


# power cuts


STATE = "/var/lib/posagent-installer"


def crashing_start(
    terminal: Terminal, cut_at: int | None, lost: Collection[str], *, panics: bool = False
) -> tuple[Medium, ResetReport | None]:
    """The second start finds the marks of the first (and a panic), and loses the power before operation cut_at."""
    (terminal.pstore / "dmesg-ramoops-0").unlink(missing_ok=True)
    medium = Medium()
    files = medium.files
    files.make_dir(STATE)
    terminal.boots = 0
    terminal.start("posagent.reset=power")
    terminal.read(files, STATE)
    for name in ("shutdown", "trial-log"):
        durable.replace(files, f"{STATE}/{name}", f"{boot_id(1)}\nlast line\n".encode())
    if panics:
        terminal.panics()
    terminal.start()
    medium.cut_at = None if cut_at is None else len(medium.done) + cut_at
    try:
        return medium, terminal.read(files, STATE)
    except PowerCut:
        medium.power_on(lost)
        return medium, None


def operations(terminal: Terminal) -> int:
    """Of everything up to the answer, so more than enough."""
    medium, _ = crashing_start(terminal, None, ALL)
    return len(medium.done)


@pytest.mark.parametrize("lost", [ALL, frozenset[str]()], ids=["all", "nothing"])
@pytest.mark.parametrize("record", [True, False], ids=["panic", "trial"])
def test_a_cut_between_any_two_operations_never_gives_an_old_cause_to_a_start_that_follows(
    terminal: Terminal, record: bool, lost: Collection[str]
) -> None:
    old = ResetCause.PANIC if record else ResetCause.WATCHDOG
    results = []
    for cut_at in range(1, operations(terminal) + 1):
        medium, report = crashing_start(terminal, cut_at, lost, panics=record)
        if report is not None:
            break
        kept = durable.read_json(medium.files, f"{STATE}/reset.json")
        terminal.start()
        found = terminal.read(medium.files, STATE)
        assert terminal.read(medium.files, STATE) == found
        results.append(found.cause)
        if kept["boot_id"] == boot_id(2):
            assert kept["cause"] == old.value
            assert found.cause in (ResetCause.POWER, ResetCause.UNKNOWN) and found.log == ()
        else:  # nothing tells this start from the one that died: what it would have found is found now, and only now
            assert found.cause is old
        terminal.start()
        assert terminal.read(medium.files, STATE).cause in (ResetCause.POWER, ResetCause.UNKNOWN)
    assert len(set(results)) == 2


def test_the_same_start_looks_again_after_a_process_died_at_any_operation(terminal: Terminal) -> None:
    """The installer is killed, the power stays: what is cached stays too."""
    for cut_at in range(1, operations(terminal) + 1):
        medium, report = crashing_start(terminal, cut_at, frozenset())
        if report is not None:
            break
        assert terminal.read(medium.files, STATE) == ResetReport(
            cause=ResetCause.WATCHDOG, boot_id=boot_id(2), log=("last line",)
        )
        assert medium.files.names(STATE) in (
            ["reset.json"],
            ["reset.json", "trial-log"],
            ["reset.json", "shutdown", "trial-log"],
        )


# the units that write the marks


def scripts(unit: str, key: str) -> list[str]:
    lines = (UNITS / unit).read_text().splitlines()
    found = [line.partition("/bin/sh -c ")[2].strip("'") for line in lines if line.startswith(key)]
    return [line for line in found if line]


def run(script: str, state: Path, path: str = "/usr/bin:/bin") -> int:
    replaced = script.replace("/var/lib/posagent-installer", str(state))
    assert replaced != script
    return subprocess.run(["/bin/sh", "-c", replaced], env={"PATH": path}, check=False, timeout=30).returncode


def test_the_shutdown_unit_writes_what_is_read(terminal: Terminal) -> None:
    (script,) = scripts("posagent-shutdown.service", "ExecStop=")
    assert run(script, terminal.state) == 0
    assert (terminal.state / "shutdown").read_text() == Path("/proc/sys/kernel/random/boot_id").read_text()
    assert not (terminal.state / "shutdown.new").exists()
    terminal.start()
    assert terminal.cause() is ResetCause.REBOOT


@pytest.mark.parametrize("journal", ["echo '[1.0] agent: dead'", "exit 1", "exec sleep 100"])
def test_the_trial_unit_writes_what_is_read_whatever_the_journal_does(
    terminal: Terminal, tmp_path: Path, journal: str
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "journalctl").write_text(f"#!/bin/sh\n{journal}\n")
    (tools / "journalctl").chmod(0o755)
    mark, lines = scripts("posagent-trial@.service", "ExecStartPre=-")
    assert run(mark, terminal.state) == 0
    assert run(lines.replace(" 15 ", " 0.2 "), terminal.state, f"{tools}:/usr/bin:/bin") == 0
    assert sorted(path.name for path in terminal.state.iterdir()) == ["reset.json", "trial-log"]
    terminal.start("posagent.reset=reboot")
    report = terminal.read()
    assert (report.cause, report.log) == (ResetCause.WATCHDOG, ("[1.0] agent: dead",) if "echo" in journal else ())


def test_the_trial_unit_restarts_even_where_saving_the_lines_hangs() -> None:
    unit = (UNITS / "posagent-trial@.service").read_text().splitlines()
    assert {"FailureAction=reboot", "ExecStart=/bin/systemctl reboot", "TimeoutStartSec=60s"} <= set(unit)
