"""The answer to `power`: what the battery has, what an update needs, and how long to charge."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from posagent.core.model import State
from posagent.sim.inprocess import InProcessTerminal
from posagent.sim.layout import set_power
from tests.conftest import Desk


@pytest.fixture
def terminal(in_process: Callable[[], InProcessTerminal]) -> InProcessTerminal:
    return in_process()


def test_the_answer_is_plain_json_and_agrees_with_the_gate(terminal: InProcessTerminal) -> None:
    set_power(terminal.layout, battery=10, mains=True, full_wh=8.0, design_wh=10.0, temperature_c=22.5, cycles=10)
    answer = terminal.ask("power")
    assert json.loads(json.dumps(answer)) == answer
    assert (answer["gate"]["gate"], answer["gate"]["open"]) == ("power_install", False)
    assert (answer["battery"]["health_percent"], answer["battery"]["temperature_c"]) == (80, 22.5)
    assert answer["needs"]["percent"] > answer["battery"]["percent"] and answer["charge_min"] == 12
    set_power(terminal.layout, battery=80, mains=True)
    answer = terminal.ask("power")
    assert (answer["gate"]["open"], answer["charge_min"], answer["charger"]["supply"]) == (True, 0, "charger")


def test_the_trend_comes_from_what_was_seen(terminal: InProcessTerminal) -> None:
    for percent in range(40, 46):
        set_power(terminal.layout, battery=percent, mains=True)
        terminal.ask("status")
        terminal.time.let_pass(300)
    trend = terminal.ask("power")["trend"]
    assert trend["direction"] == "rising" and trend["percent_per_h"] == pytest.approx(12, abs=2)


def test_while_an_update_waits_the_need_is_that_of_the_update(terminal: InProcessTerminal, desk: Desk) -> None:
    before = terminal.ask("power")["needs"]["seconds"]
    set_power(terminal.layout, battery=20, mains=False)
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    terminal.run_until(lambda one: one.state is State.READY)
    assert 0 < terminal.ask("power")["needs"]["seconds"] < before, "this image is smaller than most"


def test_a_terminal_without_a_battery_says_so(terminal: InProcessTerminal) -> None:
    for path in sorted(terminal.layout.battery.iterdir()):
        path.unlink()
    terminal.layout.battery.rmdir()
    answer = terminal.ask("power")
    assert (answer["battery"]["percent"], answer["needs"], answer["charge_min"]) == (None, None, None)
    assert answer["gate"]["remedy"]
