"""The two tests that restart the board: what they leave behind, how they are answered, what they take and give back."""

from __future__ import annotations

import json
import os
import tty
from pathlib import Path

import pytest

from posagent.core.errors import PosagentError, Refusal
from posagent.doctor import trials
from posagent.doctor.findings import Finding
from posagent.platform.board import OpenWatchdog
from tests.doctor.board import Bench


def start_again(bench: Bench, tries: int) -> None:
    """The board after a restart, with what the boot script left."""
    bench.write("boot_id", "99999999-2222-3333-4444-555555555555\n")
    bench.environment(f"BOOT_ORDER=a\nBOOT_a_LEFT={tries}\nBOOT_b_LEFT=0\n")


def after_boot_test(bench: Bench, tries: int, log: str = "") -> Finding:
    trials.begin_boot_test(bench.site())
    start_again(bench, tries)
    bench.board.log = log
    return bench.look("boot.counts_down")


def started(tries: object) -> str:
    """The log of a start, as journalctl shows it."""
    lines = ["not JSON", '{"event": "other"}', json.dumps({"event": "started", "tries": tries}), "[" * 9000]
    return "\n".join([*lines, json.dumps({"event": "started", "tries": 3})])


# the boot script


def test_a_script_that_counts_down_is_seen_in_the_counter(bench: Bench) -> None:
    found = after_boot_test(bench, 2)
    assert (found.level, found.detail) == ("ok", "slot a: 3 tries before the restart, 2 now")


def test_a_counter_that_the_agent_has_refilled_is_seen_in_its_log(bench: Bench) -> None:
    found = after_boot_test(bench, 3, started(2))
    assert (found.level, "2 when the agent looked" in found.detail) == ("ok", True)


def test_a_script_that_never_counts_is_a_fault(bench: Bench) -> None:
    found = after_boot_test(bench, 3, started(3))
    assert (found.level, "still 3 when the agent first looked" in found.detail) == ("fault", True)


@pytest.mark.parametrize("log", ["", started("x").split("\n[")[0], "\0\ufffd\n{"])
def test_without_a_log_a_full_counter_says_nothing(bench: Bench, log: str) -> None:
    found = after_boot_test(bench, 3, log)
    assert (found.level, "test again with posagentd disabled" in found.detail) == ("skipped", True)


def test_the_answer_is_given_once(bench: Bench) -> None:
    assert after_boot_test(bench, 2).level == "ok"
    assert not (bench.installer / "doctor.json").exists()
    assert "not tested now" in bench.look("boot.counts_down").detail


def test_before_the_restart_there_is_no_answer(bench: Bench) -> None:
    trials.begin_boot_test(bench.site())
    found = bench.look("boot.counts_down")
    assert (found.level, "still to come" in found.detail) == ("skipped", True)
    assert (bench.installer / "doctor.json").exists()
    assert "not tested now" in bench.look("watchdog.bites").detail


def test_another_slot_than_the_tested_one_gives_no_answer(bench: Bench) -> None:
    trials.begin_boot_test(bench.site())
    start_again(bench, 2)
    bench.write("cmdline", "posagent.slot=b\n")
    assert bench.look("boot.counts_down").level == "skipped"


def test_the_counter_must_be_full_before_the_test(bench: Bench) -> None:
    bench.environment("BOOT_ORDER=a\nBOOT_a_LEFT=1\nBOOT_b_LEFT=0\n")
    with pytest.raises(Refusal, match="1 of 3 tries; start posagentd once"):
        trials.begin_boot_test(bench.site())


def test_a_terminal_that_does_not_restart_is_told_and_nothing_is_left_behind(bench: Bench) -> None:
    bench.configure(("/bin/true", "/bin/false"))
    with pytest.raises(PosagentError) as failed:
        trials.begin_boot_test(bench.site())
    assert failed.value.code == "reboot_failed"
    assert not (bench.installer / "doctor.json").exists()


def test_only_root_restarts_the_board(bench: Bench) -> None:
    bench.board.root = False
    for test in (trials.begin_boot_test, lambda site: trials.watchdog_test(site, print)):
        with pytest.raises(Refusal, match="only root"):
            test(bench.site())


def test_a_start_that_has_no_name_is_not_tested(bench: Bench) -> None:
    bench.write("boot_id", "")
    with pytest.raises(Refusal, match="has no boot id"):
        trials.begin_boot_test(bench.site())


def test_a_record_that_cannot_be_written_restarts_nothing(bench: Bench) -> None:
    bench.configure(("/data/installer", "/data/none"))
    for test in (trials.begin_boot_test, lambda site: trials.watchdog_test(site, print)):
        with pytest.raises(Refusal, match=r"doctor.json: No such file"):
            test(bench.site())
    assert bench.board.events == []


# the watchdog


def told(seconds: int) -> None:
    assert seconds in (30, 60)


LET_GO = "reloaded [Manager] RuntimeWatchdogSec=0"
TAKEN = [LET_GO, "opened", "time-out 30", "synced"]
GIVEN_BACK = ["disarmed", "reloaded"]


def test_a_watchdog_that_does_not_bite_is_a_fault_and_is_given_back_to_systemd(bench: Bench) -> None:
    found = trials.watchdog_test(bench.site(), told)
    assert found.level == "fault" and "played watchdog: not petted for 60 s with a time-out of 30 s" in found.detail
    assert bench.board.events == [*TAKEN, *GIVEN_BACK]
    assert not (bench.installer / "doctor.json").exists()


def test_an_interrupted_test_gives_everything_back(bench: Bench) -> None:
    bench.board.interrupt_after = 2
    with pytest.raises(KeyboardInterrupt):
        trials.watchdog_test(bench.site(), told)
    assert bench.board.events == [*TAKEN, *GIVEN_BACK]
    assert not (bench.installer / "doctor.json").exists()


def test_a_device_that_somebody_keeps_is_refused_and_systemd_gets_its_time_out_back(bench: Bench) -> None:
    bench.board.watchdog_error = OSError(16, "Device or resource busy")
    bench.opens(77, "watchdogd", "root/dev/watchdog0")
    with pytest.raises(Refusal, match=r"busy; held by systemd \(1\), watchdogd \(77\)"):
        trials.watchdog_test(bench.site(), told)
    assert bench.board.events == [LET_GO, "reloaded"]
    assert not (bench.installer / "doctor.json").exists()


def agent_pets(bench: Bench) -> None:
    bench.configure(("[console]", f'[watchdog]\ndevice = "{bench.base}/root/dev/watchdog0"\n[console]'))
    bench.board.manager["RuntimeWatchdogUSec"] = "0"


def test_an_agent_that_pets_is_stopped_and_started_again(bench: Bench) -> None:
    agent_pets(bench)
    assert trials.watchdog_test(bench.site(), told).level == "fault"
    assert bench.board.events == [
        "stop posagentd.service",
        *("opened", "time-out 60", "synced", "disarmed"),
        "start posagentd.service",
    ]


def test_an_agent_that_pets_without_systemd_must_be_stopped_by_hand(bench: Bench) -> None:
    agent_pets(bench)
    (bench.base / "root/run/systemd/system").rmdir()
    with pytest.raises(Refusal, match="stop it first"):
        trials.watchdog_test(bench.site(), told)


def test_a_systemd_that_does_not_reload_keeps_its_watchdog(bench: Bench) -> None:
    bench.board.missing.add("systemctl daemon-reload")
    with pytest.raises(Refusal, match="systemctl daemon-reload: No such file"):
        trials.watchdog_test(bench.site(), told)
    assert bench.board.events == [] and not (bench.installer / "doctor.json").exists()
    assert list((bench.base / "root/run/systemd/system.conf.d").iterdir()) == []


def test_a_board_without_a_watchdog_is_not_tested(bench: Bench) -> None:
    (bench.base / "root/dev/watchdog0").unlink()
    with pytest.raises(Refusal, match="there is no /dev/watchdog0"):
        trials.watchdog_test(bench.site(), told)


@pytest.mark.parametrize(
    ("word", "level", "said"),
    [
        ("watchdog", "ok", "knows that it was the watchdog"),
        ("power", "fault", "takes it for lost power"),
        ("reboot", "warning", "takes it for: reboot"),
    ],
)
def test_after_the_reset_it_is_told_what_the_agent_makes_of_it(bench: Bench, word: str, level: str, said: str) -> None:
    record = {"test": "watchdog", "boot_id": "11111111-2222-3333-4444-555555555555"}
    bench.write("data/installer/doctor.json", json.dumps(record))
    start_again(bench, 2)
    bench.write("cmdline", f"posagent.slot=a posagent.reset={word}\n")
    found = bench.look("watchdog.bites")
    assert (found.level, said in found.detail) == (level, True), found.detail
    assert not (bench.installer / "doctor.json").exists()


def test_what_is_no_watchdog_is_closed_again_without_a_byte_written(tmp_path: Path) -> None:
    """A configuration that names a disk, a pipe or a serial line: a byte for the watchdog would damage it."""
    disk, pipe = tmp_path / "disk", tmp_path / "pipe"
    disk.write_bytes(b"master boot record")
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    line, far_end = os.openpty()
    tty.setraw(line)
    os.set_blocking(line, False)
    try:
        for path in (str(disk), str(pipe), os.ttyname(far_end), "/dev/null"):
            with pytest.raises(OSError, match="is no watchdog"):
                OpenWatchdog(path)
        assert disk.read_bytes() == b"master boot record"
        assert os.read(reader, 1) == b""
        with pytest.raises(BlockingIOError):
            os.read(line, 1)
    finally:
        for descriptor in (reader, line, far_end):
            os.close(descriptor)
    with pytest.raises(OSError, match="No such device or address"):
        OpenWatchdog(str(pipe))  # nobody reads it: that does not wait for somebody
