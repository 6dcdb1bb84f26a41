"""Figures for monitoring: a parser of Prometheus' text format reads them, whatever the agent says of itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from posagent.core import metrics
from posagent.sim.inprocess import InProcessTerminal
from tests.conftest import Desk

SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (-?[0-9.e+-]+)')


def read(text: str) -> dict[str, float]:
    """Series and values, as a scraper reads them."""
    found: dict[str, float] = {}
    typed = ""
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            typed = line.split()[2]
        elif not line.startswith("#"):
            matched = SAMPLE.fullmatch(line)
            assert matched is not None and matched[1] == typed, line
            series = f"{matched[1]}{{{matched[2]}}}" if matched[2] else matched[1]
            assert series not in found, series
            found[series] = float(matched[3])
    assert text.endswith("\n")
    return found


def test_a_terminal_tells_what_runs_how_the_last_update_ended_and_how_long_it_took(
    in_process: Callable[..., InProcessTerminal], desk: Desk
) -> None:
    terminal = in_process()
    terminal.ask("update", source=str(desk.bundles["3.0.0"]))
    while not terminal.situation.outcomes:
        terminal.step()
    status = terminal.ask("status")
    found = read(metrics.text(status, status["last_outcome"]["at"] + 60))
    slot = status["booted"]
    agent = status["agent_version"]
    assert found[f'posagent_info{{version="1.0.0",agent="{agent}",slot="{slot}"}}'] == 1
    assert found['posagent_state{state="idle"}'] == 1 and found['posagent_state{state="install"}'] == 0
    series = 'outcome="rolled_back",code="selftest_failed",version="3.0.0",from_version="1.0.0"'
    assert found[f"posagent_last_update_info{{{series}}}"] == 1
    assert found["posagent_last_update_age_seconds"] == 60
    assert found['posagent_last_update_phase_seconds{phase="install"}'] >= 0
    assert found["posagent_battery_percent"] == status["power"]["battery_percent"]


def test_what_is_unknown_is_left_out() -> None:
    found = read(metrics.text({"booted": None, "power": {"battery_percent": None}, "expected_s": None}, 0.0))
    assert not any(name.startswith(("posagent_battery", "posagent_expected", "posagent_last")) for name in found)


def test_an_age_that_a_clock_made_nonsense_of_is_left_out() -> None:
    status = {"last_outcome": {"outcome": "committed", "at": 5000.0}}
    assert "posagent_last_update_age_seconds" not in read(metrics.text(status, 1000.0))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@given(code=st.text(), version=st.text(), percent=VALUES, expected=VALUES)
def test_whatever_it_says_can_be_read(code: str, version: str, percent: Any, expected: Any) -> None:
    status = {
        "state": "idle",
        "booted": "a",
        "slots": {"a": {"version": version, "tries_left": percent}},
        "power": {"battery_percent": percent},
        "expected_s": expected,
        "problems": [{"code": code}],
    }
    read(metrics.text(status, 0.0))
