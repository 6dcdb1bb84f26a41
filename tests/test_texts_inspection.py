"""What engineers look at is shown in both languages, short enough for a line of 80 columns at 9600 baud."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from posagent import texts, texts_inspection, texts_selftest
from posagent.config_selftest import PAYMENT_TESTS
from posagent.core.errors import CATALOGUE
from posagent.core.model import State
from posagent.selftest import performance
from posagent.sim.inprocess import InProcessTerminal
from posagent.sim.layout import set_power
from tests.conftest import Desk
from tests.test_texts import CHINESE, LANGUAGES, is_text

ROOT = Path(__file__).parent.parent
MEASURE = re.compile(r'measure="(\w+)"')
Make = Callable[[], InProcessTerminal]


def shown(lines: Callable[[dict[str, Any], str], list[str]], answer: dict[str, Any]) -> str:
    """In English; the Chinese is looked at as well."""
    for lang in LANGUAGES:
        told = lines(answer, lang)
        assert told and all(map(is_text, told)), told
        assert lang == "en" or CHINESE.search("".join(told))
    return "\n".join(lines(answer, "en"))


def test_the_slots_say_what_is_there_and_whether_there_is_a_way_back(in_process: Make, desk: Desk) -> None:
    terminal = in_process()
    text = shown(texts_inspection.slots_lines, terminal.ask("slots"))
    assert "slot a: 1.0.0, running" in text and "cannot go back: slot b is bad [rollback_no_version]" in text
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    terminal.run_to_idle()
    terminal.settle()
    text = shown(texts_inspection.slots_lines, terminal.ask("slots"))
    assert "can go back to 1.0.0 (slot a)" in text and "no payments for about" in text and "boot order: b a" in text
    terminal.ask("rollback")
    assert any(
        "back to the version in the other slot" in line for line in texts.status_lines(terminal.ask("status"), "en")
    )
    while terminal.state is not State.SELFTEST:
        terminal.step()
    assert "slot a: 1.0.0, running on trial" in shown(texts_inspection.slots_lines, terminal.ask("slots"))
    outcome = terminal.run_to_idle()
    assert texts.outcome_line(outcome, "en").startswith("going back to 1.0.0: committed")
    assert texts.outcome_line(outcome, "zh").startswith("恢复至 1.0.0：")


POWERS: tuple[tuple[dict[str, Any], tuple[str, ...]], ...] = (
    ({"battery": 80, "mains": True}, ("battery: 80 %", "charger: connected, charging", "that is enough")),
    (
        {"battery": 20, "mains": False},
        ("charger: not connected", "needs 30 %", "next step: Put the terminal on its charger."),
    ),
    (
        {"battery": 10, "mains": True},
        ("charger: connected, charging", "next step: Leave the terminal on its charger: charge about 12 min"),
    ),
    ({"battery": 10, "mains": True, "status": "Not charging"}, ("connected, but the battery is not charged",)),
    ({"battery": 80, "mains": True, "status": "Discharging", "draw_w": 3.0}, ("connected, but too weak",)),
    (
        {"battery": 90, "mains": False, "voltage_v": 3.3, "temperature_c": -3},
        ("battery: shows 90 %, but can only have", "-3 °C", "needs 0 °C", "Bring the terminal to a warmer place"),
    ),
)


@pytest.mark.parametrize(("power", "told"), POWERS)
def test_power_is_told_in_words(in_process: Make, power: dict[str, Any], told: tuple[str, ...]) -> None:
    terminal = in_process()
    set_power(terminal.layout, **power)
    text = shown(texts_inspection.power_lines, terminal.ask("power"))
    for words in told:
        assert words in text, text


def test_a_battery_that_is_not_there_or_says_nothing_is_told_as_such(in_process: Make) -> None:
    answer = in_process().ask("power")
    unknown = {**answer, "battery": {**answer["battery"], "percent": None, "believed_percent": None}, "needs": None}
    assert "its level is not known" in shown(texts_inspection.power_lines, unknown)
    none = {**unknown, "battery": {**unknown["battery"], "present": False}}
    assert "battery: none" in shown(texts_inspection.power_lines, none)


@pytest.mark.parametrize(
    ("direction", "rate", "words"),
    [("rising", 22.4, "rising 22 % an hour"), ("falling", -7.6, "falling 8 % an hour"), ("steady", 0.0, "stays where")],
)
def test_where_the_level_goes_is_told(in_process: Make, direction: str, rate: float, words: str) -> None:
    answer = {**in_process().ask("power"), "trend": {"direction": direction, "percent_per_h": rate}}
    assert words in shown(texts_inspection.power_lines, answer)


@pytest.mark.parametrize("step", ["link", "dns", "connect", "tls", "repository", "rate"])
def test_each_step_of_the_network_is_shown_and_a_failing_one_with_its_remedy(step: str) -> None:
    good = {"step": step, "ok": True, "detail": "192.0.2.1", "ms": 12}
    assert shown(lambda one, lang: texts_inspection.network_step_lines(one, lang), good).endswith("192.0.2.1 (12 ms)")
    spec = CATALOGUE["net_dns"]
    bad = {**good, "ok": False, "ms": None, "code": spec.code, "remedy": spec.remedy, "remedy_zh": spec.remedy_zh}
    text = shown(texts_inspection.network_step_lines, bad)
    assert "FAULT" in text and "[net_dns]" in text and spec.remedy in text
    assert "cannot be reached" in shown(texts_inspection.network_lines, {"ok": False, "steps": [good, bad]})
    assert "can be reached" in shown(texts_inspection.network_lines, {"ok": True, "steps": [good]})


def test_self_tests_are_summed_up_with_what_failed() -> None:
    checks = [{"name": "payment", "passed": False, "detail": "refused"}, {"name": "room", "passed": True, "detail": ""}]
    text = shown(texts_selftest.lines, {"passed": False, "checks": checks})
    assert text == "FAILED: payment: refused\n1 of 2 self-tests failed"
    assert shown(texts_selftest.lines, {"passed": True, "checks": checks[1:]}) == "all 1 self-tests passed"
    step = {"check": "payment", "passed": True, "done": 1, "total": 2}
    assert texts_selftest.step_line(step, "en") == "1/2 payment: passed"


def test_every_measure_of_the_self_tests_has_its_words_in_both_languages() -> None:
    named = {measure.name for measure in performance.MEASURES.values()} | {
        name for source in (ROOT / "posagent/selftest").glob("*.py") for name in MEASURE.findall(source.read_text())
    }
    assert named and named <= texts_selftest.MEASURES.keys()
    assert {f"{test}_outcome" for test in PAYMENT_TESTS} <= texts_selftest.MEASURES.keys()
    assert all(CHINESE.search(chinese) for _, chinese in texts_selftest.MEASURES.values())


def test_a_failure_names_suite_measure_value_and_limit_and_what_passed_with_a_note_is_noted() -> None:
    failed = {
        "name": "open ports",
        "suite": "security",
        "passed": False,
        "measure": "open_ports",
        "value": 1,
        "limit": 0,
        "detail": "open and not allowed: 0.0.0.0:5555",
    }
    noted = {"name": "memory", "suite": "performance", "passed": True, "detail": "no figure of the old version"}
    assert shown(texts_selftest.lines, {"checks": [failed, noted]}).splitlines() == [
        "FAILED: open ports [security]: open ports that are not allowed: 1 (limit 0)",
        "  open and not allowed: 0.0.0.0:5555",
        "note: memory: no figure of the old version",
        "1 of 2 self-tests failed",
    ]
    for value, limit, said in (("", 5, "(limit 5)"), ("x", "", "open ports that are not allowed: x"), ("", "", "d")):
        text = shown(texts_selftest.lines, {"checks": [{**failed, "value": value, "limit": limit, "detail": "d"}]})
        assert said in text
    unknown = {**failed, "measure": "emv_sha256"}
    assert "emv sha256: 1 (limit 0)" in shown(texts_selftest.lines, {"checks": [unknown]})


def test_log_lines_have_their_time_first() -> None:
    lines = [{"at": 1_800_000_000.5, "level": "info", "event": "decided", "state": "idle", "code": None}]
    assert texts_inspection.log_lines({"lines": lines}, "en") == ["2027-01-15 08:00:00 info decided state=idle"]
    assert shown(texts_inspection.log_lines, {"lines": []}) == "nothing was noted yet"


def test_the_version_says_which_agent_and_which_system(in_process: Make) -> None:
    assert "running version 1.0.0" in shown(texts_inspection.version_lines, in_process().ask("version"))
