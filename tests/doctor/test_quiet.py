"""A terminal that is busy is left alone: nothing is written, nothing restarted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from posagent.core.errors import Refusal
from posagent.doctor import trials
from tests.doctor.board import Bench


def agent_gone(bench: Bench) -> None:
    bench.status = None
    (bench.base / "root/proc/200/fd/3").unlink()
    bench.board.units["posagentd.service"]["ActiveState"] = "inactive"


def busy(state: str) -> Callable[[Bench], None]:
    return lambda bench: bench.status.update(state=state) if bench.status else None


def just_started(bench: Bench) -> None:
    bench.status = {"booted": None, "state": "idle"}


def silent(bench: Bench) -> None:
    bench.status = None


def started_and_not_listening(bench: Bench) -> None:
    agent_gone(bench)
    bench.board.units["posagentd.service"]["ActiveState"] = "activating"


def on_trial(bench: Bench) -> None:
    agent_gone(bench)
    bench.write("data/installer/trial-a", "{}")


def half_written(bench: Bench) -> None:
    agent_gone(bench)
    bench.record(b="writing")


def armed(bench: Bench) -> None:
    agent_gone(bench)
    bench.environment("BOOT_ORDER=b a\nBOOT_a_LEFT=3\nBOOT_b_LEFT=3\n")


UNREST = [
    (busy("downloading"), "the agent's state is downloading"),
    (busy("installing"), "the agent's state is installing"),
    (just_started, "the agent's state is looking"),
    (silent, "the agent runs and does not answer"),
    (started_and_not_listening, "the agent runs and does not answer"),
    (on_trial, "slot a is on trial"),
    (half_written, "slot b is half written"),
    (armed, "another slot than the running one is first"),
]


@pytest.mark.parametrize(("spoil", "why"), UNREST, ids=[why.replace(" ", "-") for _, why in UNREST])
def test_a_busy_terminal_is_neither_written_nor_tested(bench: Bench, spoil: Callable[[Bench], None], why: str) -> None:
    spoil(bench)
    before = (bench.base / "uboot.env").read_bytes()
    found = bench.look("boot.writable")
    assert found.level == "skipped" and why in found.detail
    for test in (trials.begin_boot_test, lambda site: trials.watchdog_test(site, print)):
        with pytest.raises(Refusal, match=why) as refused:
            test(bench.site())
        assert refused.value.code == "test_refused"
    assert (bench.base / "uboot.env").read_bytes() == before
    assert bench.board.events == [] and not (bench.installer / "doctor.json").exists()


def test_without_an_agent_a_quiet_terminal_is_tested(bench: Bench) -> None:
    agent_gone(bench)
    assert bench.look("boot.writable").level == "ok"
    trials.begin_boot_test(bench.site())
    assert (bench.installer / "doctor.json").exists()


def test_an_update_under_way_keeps_the_spare_slot_from_being_opened(bench: Bench) -> None:
    busy("installing")(bench)
    assert bench.look("slots.spare").level == "skipped"


@pytest.mark.parametrize(
    "environment",
    [
        "BOOT_ORDER=a\nBOOT_a_LEFT=three\nBOOT_b_LEFT=0\n",
        "BOOT_ORDER=a\n",
        "BOOT_ORDER=a b\nBOOT_a_LEFT=3\nBOOT_b_LEFT=0\n",
        "BOOT_a_LEFT=3\n",
    ],
)
def test_what_would_not_come_out_as_it_was_is_not_written_back(bench: Bench, environment: str) -> None:
    bench.environment(environment, copies=1)
    before = (bench.base / "uboot.env").read_bytes()
    assert bench.look("boot.writable").level == "skipped"
    assert (bench.base / "uboot.env").read_bytes() == before


def test_an_environment_that_cannot_be_written_is_a_fault(bench: Bench) -> None:
    bench.configure((bench.site().config.boot.fw_setenv, "/bin/false"))
    found = bench.look("boot.writable")
    assert found.level == "fault" and "[boot_env_write]" in found.detail
