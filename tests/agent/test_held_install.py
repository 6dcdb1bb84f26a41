"""A write that waits for the battery says so, holds nobody up, and is not measured as slow."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from posagent import texts
from posagent.core.errors import PosagentError
from posagent.core.model import State
from posagent.sim.inprocess import InProcessTerminal
from posagent.sim.layout import set_power
from tests.agent.conftest import Lies
from tests.conftest import Desk

Make = Callable[[], InProcessTerminal]


@pytest.fixture(params=["a write failed", "the power went away"])
def held(request: pytest.FixtureRequest, in_process: Make, desk: Desk, lies: Lies) -> InProcessTerminal:
    """A terminal whose write has begun and cannot go on, because the battery is low."""
    terminal = in_process()
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    terminal.run_until(lambda one: one._engine.progress.step == "write")
    set_power(terminal.layout, battery=20, mains=False)
    if request.param == "the power went away":
        terminal.boot()
    else:
        lies["write"] = {"error": {"code": "slot_io", "detail": "EIO"}}
        terminal._actors._install(terminal.situation.update)
        terminal.run_until(lambda one: one.situation.failure is not None)
        lies.clear()
    terminal.run_until(lambda one: bool(one._engine.waits_for))
    assert terminal.state is State.INSTALL
    return terminal


def refusal(terminal: InProcessTerminal) -> PosagentError:
    with pytest.raises(PosagentError) as caught:
        terminal.ask("cancel")
    return caught.value


def may_not_end(terminal: InProcessTerminal) -> bool:
    return terminal._engine.uninterruptible


def test_a_refused_cancel_names_the_gate_and_no_time(held: InProcessTerminal) -> None:
    error = refusal(held).as_dict()
    assert (error["code"], error["expected_s"], error["state"]) == ("critical_section", None, "install")
    assert texts.error_lines(error, "en") == [
        "writing the spare slot: waiting for: battery 20 %, needs 30 % [critical_section]",
        "  next step: Put the terminal on its charger.",
    ]
    assert texts.error_lines(error, "zh") == [
        "正在安装，等待条件：电量 20 %，需要 30 % [critical_section]",
        "  下一步: 请将终端接上充电器。",
    ]


def test_status_and_why_say_the_same(held: InProcessTerminal) -> None:
    status = held.ask("status")
    assert status["critical"] and status["expected_s"] is None
    assert texts.progress_line(status, "en") == "2.0.0 install - waiting for: battery 20 %, needs 30 %"
    why = held.ask("why")["why"]
    assert why[0]["code"] == "critical_section" and "waiting for: battery" in why[0]["detail"]
    assert why[0]["remedy"] == "Put the terminal on its charger." and "gate_closed" not in [one["code"] for one in why]


def test_a_shutdown_need_not_wait_for_a_write_that_waits(held: InProcessTerminal) -> None:
    refusal(held)
    assert not may_not_end(held), "a refusal begins nothing"
    set_power(held.layout, battery=90, mains=True)
    held.run_until(lambda one: one._engine.uninterruptible)
    assert held.state is State.INSTALL and held._engine.waits_for == ()
    assert re.search(r"about \d+ s to go", refusal(held).detail)


def test_a_battery_that_sinks_while_the_write_goes_on_is_waited_for_by_nobody(in_process: Make, desk: Desk) -> None:
    terminal = in_process()
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    terminal.run_until(lambda one: one._engine.progress.step == "write")
    set_power(terminal.layout, battery=20, mains=False)
    assert terminal._engine.uninterruptible and refusal(terminal).facts["expected_s"] > 0
    assert "waiting" not in texts.progress_line(terminal.ask("status"), "en")


def test_waiting_is_not_measured_as_installing(in_process: Make, desk: Desk, lies: Lies) -> None:
    terminal = in_process()
    lies["write"] = {"error": {"code": "slot_io", "detail": "EIO"}}
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    terminal.run_until(lambda one: one.state is State.INSTALL and one.situation.failure is not None)
    set_power(terminal.layout, battery=20, mains=False)
    lies.clear()
    began = terminal.time.monotonic()
    terminal.run_until(lambda one: one.time.monotonic() - began > 3600)
    set_power(terminal.layout, battery=90, mains=True)
    terminal.run_until(lambda one: one.state is State.ACTIVATE)
    assert 0 < terminal.situation.measured["install"]["seconds"] < 60


def test_a_held_write_goes_on_to_its_end(held: InProcessTerminal) -> None:
    set_power(held.layout, battery=90, mains=True)
    assert held.run_to_idle()["outcome"] == "committed"
