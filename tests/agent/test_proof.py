"""A new version is held against the old one and against its signature, and goes back with the measure in the reason."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from posagent import texts
from posagent.core.errors import PosagentError
from posagent.core.model import State
from posagent.core.ports import Message
from posagent.sim.inprocess import InProcessTerminal
from tests.agent.conftest import Lies
from tests.agent.test_inspection import Caller
from tests.conftest import Desk

Make = Callable[[], InProcessTerminal]


def to_trial(terminal: InProcessTerminal, desk: Desk) -> None:
    """Armed with 2.0.0, and about to restart into it."""
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    terminal.run_until(lambda one: one.state is State.ACTIVATE)


def test_the_old_versions_figures_are_journalled_before_it_is_replaced(in_process: Make, desk: Desk) -> None:
    terminal = in_process()
    to_trial(terminal, desk)
    update = terminal.situation.update
    assert update is not None and update.baseline["speed of payments"] == 1.0
    terminal.start_agent()
    update = terminal.situation.update
    assert update is not None and update.baseline["speed of payments"] == 1.0, "and they outlive a restart"
    assert terminal.run_to_idle()["outcome"] == "committed"


def test_an_interrupted_installation_measures_only_what_it_has_not_yet(in_process: Make, desk: Desk) -> None:
    terminal = in_process()
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    terminal.silent.add("write")
    terminal.run_until(lambda one: bool(one.situation.update and one.situation.update.baseline))
    terminal.silent = {"baseline"}
    terminal.boot()
    terminal.silent.discard("write")
    assert terminal.run_to_idle()["outcome"] == "committed", "nobody waited for a second measurement"


@pytest.mark.parametrize(
    "lie",
    [
        {"error": PosagentError("worker_lost").as_dict()},
        {"result": {"figures": {"x": "fast"}}},
        {"result": {"figures": {"x": float("nan")}}},
        {"result": {"figures": {str(n): 1 for n in range(65)}}},
        {"result": {}},
    ],
)
def test_without_figures_the_update_goes_on_and_makes_none_up(
    in_process: Make, desk: Desk, lies: Lies, lie: Message
) -> None:
    lies["baseline"] = lie
    terminal = in_process()
    to_trial(terminal, desk)
    update = terminal.situation.update
    assert update is not None and update.baseline == {}
    assert terminal.run_to_idle()["outcome"] == "committed"


def test_a_measurement_that_hangs_does_not_hold_up_the_update(in_process: Make, desk: Desk) -> None:
    terminal = in_process()
    terminal.silent.add("baseline")
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    assert terminal.run_to_idle()["outcome"] == "committed"


def test_a_slot_that_changed_after_it_was_written_is_found_on_its_trial(in_process: Make, desk: Desk) -> None:
    terminal = in_process()
    to_trial(terminal, desk)
    slot = terminal.layout.slot("b")
    data = bytearray(slot.read_bytes())
    data[-1] ^= 1
    slot.write_bytes(data)
    outcome = terminal.run_to_idle()
    assert (outcome["outcome"], outcome["code"]) == ("rolled_back", "selftest_failed")
    assert outcome["detail"].startswith("running slot: ")


def test_an_installer_in_trouble_is_the_trouble_of_the_tests(in_process: Make, desk: Desk, lies: Lies) -> None:
    terminal = in_process()
    to_trial(terminal, desk)
    lies["prove_slot"] = {"error": PosagentError("slot_io", "slot b at byte 0: bad block").as_dict()}
    outcome = terminal.run_to_idle()
    assert outcome["outcome"] == "rolled_back" and "bad block" in outcome["detail"]


def test_a_person_who_hangs_up_while_the_slot_is_proved_hears_no_more(in_process: Make) -> None:
    terminal = in_process()
    terminal.settle()
    terminal.silent.add("prove_slot")
    caller = Caller(terminal, "selftest")
    caller.hang_up()
    terminal.silent.clear()
    assert Caller(terminal, "selftest", suite="security").wait()["passed"] and caller.told == []


def test_the_reason_names_measure_limit_and_evidence_in_both_languages(
    in_process: Make, desk: Desk, lies: Lies
) -> None:
    slow = {
        "name": "speed of payments",
        "kind": "transaction_time",
        "suite": "performance",
        "passed": False,
        "seconds": 1.0,
        "detail": "transaction_p95_ms 60, at most 45 allowed, the old version had 40",
        "measure": "transaction_p95_ms",
        "value": 60.0,
        "limit": 45.0,
    }
    terminal = in_process()
    to_trial(terminal, desk)
    lies["run"] = {"result": {"passed": False, "deadline": False, "checks": [slow]}}
    outcome = terminal.run_to_idle()
    assert outcome["checks"] == [slow], "the journal keeps the figures"
    english, chinese = ("\n".join(texts.evidence_lines(outcome, lang)) for lang in ("en", "zh"))
    assert "speed of payments: p95 of dummy transactions, ms: 60.0 (limit 45.0): transaction_p95_ms 60" in english
    assert "模拟交易 p95 时间（毫秒）：60.0（限值 45.0）" in chinese
