"""A healthy board gets no complaint, whatever of the allowed ways it is built in."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from posagent.doctor.catalogue import CATALOGUE
from tests.doctor.board import CHECKS, Bench


def test_a_healthy_board_has_neither_fault_nor_warning(bench: Bench) -> None:
    found = bench.examine()
    assert {name: (one.level, one.detail) for name, one in found.items() if one.level != "ok"} == {
        name: ("skipped", f"not tested now; `posagent doctor --{test}-test` restarts the terminal for it")
        for name, test in (("boot.counts_down", "boot"), ("watchdog.bites", "watchdog"))
    }
    assert found.keys() == {"config.loads", "root", *CHECKS}


def test_every_check_is_in_the_catalogue_and_every_entry_is_a_check() -> None:
    assert set(CATALOGUE) == {"config.loads", "root", "internal", *CHECKS}
    for name, entry in CATALOGUE.items():
        assert all((entry.title, entry.title_zh, entry.remedy, entry.remedy_zh)), name
        assert not entry.title_zh.isascii() and not entry.remedy_zh.isascii(), name


def a_tested_fallback(bench: Bench) -> None:
    bench.environment("BOOT_ORDER=a b\nBOOT_a_LEFT=3\nBOOT_b_LEFT=3\n")
    bench.record()


def a_driver_that_reports(bench: Bench) -> None:
    bench.write("cmdline", "posagent.slot=a\n")
    bench.write("root/sys/class/watchdog/watchdog0/options", "0x8020\n")


def no_data_to_keep(bench: Bench) -> None:
    bench.configure(("format = 1", "format = 0"))
    for unit in ("posagent-data.socket", "posagent-data-select.service"):
        bench.board.units[unit]["UnitFileState"] = "disabled"
    (bench.base / "run/data.sock").unlink()


def a_verified_root(bench: Bench) -> None:
    """dm-verity over the running slot."""
    bench.write("root/sys/dev/block/254:0/slaves/mmcblk0p1/dev", "179:1\n")
    bench.remount(" 179:1 / / ", " 254:0 / / ")


def an_overlaid_root(bench: Bench) -> None:
    bench.remount("20 1 179:1 / / ", "19 1 179:1 / /media/root ro - ext4 /dev/root ro\n20 1 0:30 / / ")


def the_agent_pets(bench: Bench) -> None:
    bench.board.manager["RuntimeWatchdogUSec"] = "0"
    bench.configure(("[console]", f'[watchdog]\ndevice = "{bench.base}/root/dev/watchdog0"\n[console]'))
    (bench.base / "root/proc/1/fd/3").unlink()
    bench.opens(200, "posagentd", "root/dev/watchdog0")


def the_agent_is_a_python_script(bench: Bench) -> None:
    """Whose process has not the name of the program."""
    bench.opens(200, "python3", "root/dev/ttyS1")


def another_line_is_in_use(bench: Bench) -> None:
    bench.opens(88, "agetty", "root/dev/ttyS10")


def no_console(bench: Bench) -> None:
    bench.configure((f'device = "{bench.base}/root/dev/ttyS1"', 'device = ""'))
    (bench.base / "root/dev/ttyS1").unlink()


def mains_only(bench: Bench) -> None:
    bench.configure(("[power]", '[power]\nbattery = "none"'))
    (bench.base / "power/battery/type").unlink()


def directories_through_one_above_them(bench: Bench) -> None:
    for unit, text in bench.board.texts.items():
        bench.board.texts[unit] = text.replace(f"{bench.base}/data/posagent ", f"{bench.base}/data ")


def a_systemd_that_leaves_the_time_to_the_driver(bench: Bench) -> None:
    bench.board.manager["RuntimeWatchdogUSec"] = "infinity"


@pytest.mark.parametrize(
    "build",
    [
        a_tested_fallback,
        a_driver_that_reports,
        a_verified_root,
        no_data_to_keep,
        an_overlaid_root,
        the_agent_pets,
        the_agent_is_a_python_script,
        another_line_is_in_use,
        no_console,
        mains_only,
        directories_through_one_above_them,
        a_systemd_that_leaves_the_time_to_the_driver,
    ],
)
def test_a_board_may_be_built_so(bench: Bench, build: Callable[[Bench], None]) -> None:
    build(bench)
    found = bench.examine().values()
    assert [(one.check, one.detail) for one in found if one.level in ("fault", "warning")] == []
