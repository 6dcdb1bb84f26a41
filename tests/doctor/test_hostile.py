"""Whatever lies in the files of a board, and whatever is missing on it, every check comes to its own end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from posagent.doctor import service
from posagent.doctor.findings import DETAIL_CHARS_MAX, CannotTell, Verdict
from posagent.doctor.site import Site
from posagent.platform.board import TEXT_BYTES_MAX
from tests.doctor.board import CHECKS, Bench

GARBAGE = {
    "empty": b"",
    "binary": bytes(range(256)) * 64,
    "zeros": bytes(4096),
    "a-huge-number": b"9" * 5000 + b"\n",
    "odd-digits": "²³\n".encode(),
    "an-endless-line": b"x" * (2 * TEXT_BYTES_MAX),
    "nested": b"[" * 100_000,
    "words-with-nul": b"/dev/\0x 0x0 0x2000\n\0 0 0\n",
    "terminal-controls": b"\x1b[2J\x1b]0;owned\x07 - - - 1 2 3 4 5 6\n",
}
"""By name, what may stand in any file."""

KEPT = {"posagent.toml", "a.img", "b.img"}


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
def test_garbage_in_every_file_is_no_crash_and_is_told_in_one_line(bench: Bench, content: bytes) -> None:
    for path in bench.base.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.name not in KEPT:
            path.write_bytes(content)
    for unit in bench.board.texts:
        bench.board.texts[unit] = content.decode("utf-8", "replace")
    bench.board.log = content.decode("utf-8", "replace")
    bench.write("data/installer/doctor.json", content)
    bench.write("data/installer/slots.json", content)
    found = bench.examine()
    assert "internal" not in found, found["internal"].detail
    assert found["config.root"].level == found["boot.readable"].level == found["boot.booted"].level == "fault"
    for one in found.values():
        assert one.detail.isprintable() and len(one.detail) <= DETAIL_CHARS_MAX, one.check
        json.dumps(one.as_dict())


@pytest.mark.parametrize(
    "line",
    [
        "/dev/mmcblk0 0x100000",
        "/dev/mmcblk0 zero 0x4000",
        "/dev/mmcblk0 0x0 0x99999999",
        "/dev/mmcblk0 0x0 4",
        "/dev/mmcblk0 1000000000000000000000 0x4000",
    ],
)
def test_places_that_are_not_understood_are_skipped_and_not_guessed(bench: Bench, line: str) -> None:
    bench.write("fw_env.config", f"{line}\n{line}\n")
    assert bench.look("boot.places").level == bench.look("boot.copies").level == "skipped"


def test_a_place_may_be_counted_from_the_end_as_the_tools_do(bench: Bench) -> None:
    env = bench.base / "uboot.env"
    bench.write("fw_env.config", f"{env} -0x4000 0x2000\n{env} -0x2000 0x2000 # the second\n")
    assert bench.look("boot.copies").detail == "2 whole copies"
    assert f"{env} 0x0+0x2000, {env} 0x2000+0x2000" in bench.look("boot.places").detail


def test_a_damaged_copy_on_nand_may_lie_elsewhere(bench: Bench) -> None:
    bench.write("uboot.env", bytes(0x4000))
    assert bench.look("boot.copies").level == "fault"
    bench.write("root/sys/class/mtd/uboot.env/type", "nand\n")
    assert bench.look("boot.copies").level == "skipped"


def test_a_board_without_systemd_is_skipped_where_systemd_would_tell(bench: Bench) -> None:
    (bench.base / "root/run/systemd/system").rmdir()
    found = bench.examine()
    assert "internal" not in found
    for name in ("units.installed", "units.programs", "units.paths", "units.timers", "inhibitor.works"):
        assert (found[name].level, found[name].detail) == ("skipped", "systemd does not run here")
    assert found["boot.writable"].level == found["units.sockets"].level == "ok"


def test_a_missing_tool_is_named_and_the_other_checks_still_run(bench: Bench) -> None:
    bench.board.missing |= {"systemctl", "setpriv", "journalctl"}
    found = bench.examine()
    assert "internal" not in found and found.keys() == {"config.loads", "root", *CHECKS}
    assert "systemctl show" in found["units.installed"].detail and found["units.installed"].level == "skipped"
    assert found["boot.writable"].level == "ok"

    bench.configure((bench.site().config.boot.fw_printenv, "/none/fw_printenv"))
    found = bench.examine()
    assert "/none/fw_printenv" in found["config.programs"].detail
    assert "/none/fw_printenv" in found["boot.readable"].detail
    assert found["boot.writable"].level == found["boot.order"].level == "skipped"
    assert found["boot.copies"].level == "ok"


def test_who_is_not_root_is_told_so_and_nothing_is_claimed_that_only_root_sees(bench: Bench) -> None:
    bench.board.root = False
    found = bench.examine()
    assert found["root"].level == "fault" and "internal" not in found
    assert found["inhibitor.works"].level == "skipped"
    assert found["console.free"].level == "warning"
    assert "only shown to root" in found["watchdog.owner"].detail


def test_one_broken_check_is_a_fault_of_posagent_and_the_others_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(site: Site) -> Verdict:
        raise ZeroDivisionError("the check is wrong")

    def cannot_read(site: Site) -> Verdict:
        raise PermissionError(13, "Permission denied", "/dev/x")

    def cannot_tell(site: Site) -> Verdict:
        raise CannotTell("it is dark")

    spoiled = {**CHECKS, "boot.order": breaks, "boot.tries": cannot_read, "slots.size": cannot_tell}
    monkeypatch.setattr(service, "FAMILIES", (spoiled,))
    found = bench.examine()
    assert found["internal"].detail == "boot.order: ZeroDivisionError: the check is wrong"
    assert found["internal"].level == "fault"
    assert (found["boot.tries"].level, found["boot.tries"].detail) == (
        "skipped",
        "/dev/x cannot be looked at: Permission denied",
    )
    assert (found["slots.size"].level, found["slots.size"].detail) == ("skipped", "it is dark")
    assert found["console.free"].level == "ok"


def test_a_configuration_that_cannot_be_used_is_the_only_finding(bench: Bench) -> None:
    for content in (b"", b"\xff\xfe", b"[terminal]\nid = 5\n", bytes(1 << 20)):
        bench.config.write_bytes(content)
        found = bench.examine()
        assert [(name, one.level) for name, one in found.items()] == [("config.loads", "fault")]
    bench.config.unlink()
    assert bench.examine()["config.loads"].level == "fault"


def test_looking_leaves_every_file_as_it_was_but_for_the_environments_counters(bench: Bench) -> None:
    def contents() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in bench.base.rglob("*") if path.is_file() and not path.is_symlink()}

    before = contents()
    bench.examine()
    after = contents()
    env = bench.base / "uboot.env"
    old, new = before.pop(env), after.pop(env)
    assert before == after
    assert len(old) == len(new) and old[4] != new[4] and old[0x2004] != new[0x2004], "both copies were written"
    assert [old[start + 5 :].split(b"\0\0")[0] for start in (0, 0x2000)] == [
        new[start + 5 :].split(b"\0\0")[0] for start in (0, 0x2000)
    ]
    assert bench.board.events == []
