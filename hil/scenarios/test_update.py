"""What an update must do on every terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hil.laptop import Laptop, Program
from hil.terminal import Terminal
from posagent.core.errors import PosagentError

UPDATE_S = 2700
"""Three trials of a version that never answers take their time on a slow machine."""
STATE_S = 900
"""A whole image is fetched, checked and written in QEMU on a busy machine."""
HELD_S = 8
"""Longer than any rig's `gate_recheck_s`: whatever waits for a gate has asked it again meanwhile."""


def update(terminal: Terminal) -> str:
    """Ask for what is offered; the update's id."""
    name: str = terminal.ask("update")["id"]
    return name


def committed(terminal: Terminal, name: str) -> None:
    """Wait until that update has ended as it should."""
    outcome = terminal.wait_outcome(name, UPDATE_S)
    assert outcome["outcome"] == "committed", outcome


def held(terminal: Terminal, state: str) -> None:
    """It waits in that state for power, cannot say how long, and goes on waiting."""

    def waits(status: Mapping[str, Any]) -> bool:
        closed = [gate["gate"] for gate in status["gates"] if not gate["open"]]
        return (status["state"], status["expected_s"], closed) == (state, None, ["power_install"])

    terminal.wait_state(state, STATE_S)
    update = terminal.wait(waits, STATE_S)["update"]
    with pytest.raises(TimeoutError):
        terminal.wait(lambda status: not waits(status) or status["update"] != update, HELD_S)
    status = terminal.ask("status")
    assert waits(status) and status["update"] == update, status


@pytest.mark.short
def test_a_good_version_commits_on_the_other_slot(terminal: Terminal) -> None:
    terminal.wait_state("idle", STATE_S)
    before = terminal.slot_booted()
    terminal.publish("2.0.0")
    committed(terminal, update(terminal))
    assert terminal.slot_booted() not in (before, None)


@pytest.mark.parametrize(
    ("fault", "code", "cause", "said"),
    [
        pytest.param("panic", "boot_failed", "panic", "", marks=pytest.mark.short, id="panic"),
        pytest.param("hang", "boot_failed", "watchdog", "", id="hang"),
        # the trial timer's restart counts as a watchdog's; what it says itself is among the new system's last lines
        pytest.param("agent-dead", "boot_failed", "watchdog", "was not confirmed in time", id="agent-dead"),
        pytest.param("test-fails", "selftest_failed", None, "", id="test-fails"),
        pytest.param("test-hangs", "selftest_failed", None, "", id="test-hangs"),
    ],
)
def test_a_broken_version_leaves_the_old_one_running_and_says_why(
    terminal: Terminal, fault: str, code: str, cause: str | None, said: str
) -> None:
    terminal.wait_state("idle", STATE_S)
    before = terminal.slot_booted()
    terminal.publish("3.0.0", fault)
    outcome = terminal.wait_outcome(update(terminal), UPDATE_S)
    assert (outcome["outcome"], outcome["code"]) == ("rolled_back", code)
    assert outcome.get("cause") == cause
    assert said in "\n".join(outcome.get("log", ()))
    assert terminal.slot_booted() == before
    assert terminal.ask("why")["why"][0]["code"] == code


def test_there_and_back_again(terminal: Terminal) -> None:
    terminal.wait_state("idle", STATE_S)
    before = terminal.slot_booted()
    for version in ("2.0.0", "2.1.0"):
        terminal.publish(version)
        committed(terminal, update(terminal))
    assert terminal.slot_booted() == before
    assert [one["version"] for one in terminal.ask("history")["history"]] == ["2.0.0", "2.1.0"]


@pytest.mark.parametrize("cut_in", [None, "activate", "selftest"])
def test_an_engineer_goes_back_to_the_version_before_and_payments_keep_working(
    terminal: Terminal, cut_in: str | None
) -> None:
    terminal.wait_state("idle", STATE_S)
    before = terminal.slot_booted()
    terminal.publish("2.0.0")
    committed(terminal, update(terminal))
    newer = terminal.slot_booted()
    assert terminal.ask("slots")["rollback"]["possible"]
    name = terminal.ask("rollback")["id"]
    if cut_in is not None:
        terminal.wait_state(cut_in, STATE_S)
        terminal.power_cut(0.5)
    outcome = terminal.wait_outcome(name, UPDATE_S)
    assert (outcome["outcome"], outcome["kind"], outcome["from_version"]) == ("committed", "rollback", "2.0.0")
    assert terminal.slot_booted() == before != newer
    terminal.wait_state("idle", STATE_S)
    assert terminal.ask("selftest")["passed"], "the payment program answers"
    slots = terminal.ask("slots")
    assert (slots["slots"][newer]["state"], slots["order"]) == ("good", [before, newer])


def test_a_power_cut_while_nothing_is_done_changes_nothing(terminal: Terminal) -> None:
    terminal.wait_state("idle", STATE_S)
    before = terminal.slot_booted()
    terminal.pay()
    terminal.power_cut(0.5)
    terminal.wait_state("idle", STATE_S)
    assert terminal.slot_booted() == before
    assert terminal.payments() == 1
    terminal.publish("2.0.0")
    committed(terminal, update(terminal))


@pytest.mark.parametrize("state", ["download", "verify", "install", "activate", "selftest", "commit"])
def test_a_power_cut_loses_nothing(terminal: Terminal, state: str) -> None:
    terminal.wait_state("idle", STATE_S)
    terminal.publish("2.0.0")
    name = update(terminal)
    terminal.wait_state(state, STATE_S)
    terminal.power_cut(0.5)
    committed(terminal, name)


def test_a_power_cut_on_the_way_back_still_leads_back(terminal: Terminal) -> None:
    terminal.wait_state("idle", STATE_S)
    before = terminal.slot_booted()
    terminal.publish("3.0.0", "test-fails")
    name = update(terminal)
    terminal.wait_state("rollback", STATE_S)
    terminal.power_cut(0.5)
    outcome = terminal.wait_outcome(name, UPDATE_S)
    assert (outcome["outcome"], outcome["code"]) == ("rolled_back", "selftest_failed")
    assert terminal.slot_booted() == before


def test_a_merchant_who_switches_off_three_times_during_the_trial_gets_the_new_version(terminal: Terminal) -> None:
    terminal.wait_state("idle", STATE_S)
    terminal.publish("2.0.0")
    name = update(terminal)
    terminal.wait_state("activate", STATE_S)
    for _ in range(3):
        terminal.wait_state("selftest", STATE_S)
        terminal.power_cut(0.5)
    committed(terminal, name)


def test_cancelling_is_refused_while_the_slot_is_written(terminal: Terminal) -> None:
    terminal.wait_state("idle", STATE_S)
    terminal.publish("2.0.0")
    name = update(terminal)
    terminal.wait_state("install", STATE_S)
    with pytest.raises(PosagentError, match="critical_section"):
        terminal.ask("cancel")
    committed(terminal, name)


def test_an_engineer_updates_over_the_field_line_alone(terminal: Terminal, tmp_path: Path) -> None:
    terminal.wait_state("idle", STATE_S)
    before = terminal.slot_booted()
    terminal.publish("2.0.0")
    laptop = Laptop(terminal.field_line(), terminal.engineer_ca(), tmp_path)
    try:
        assert "locked" in " ".join(laptop.ask("update"))
        assert "unlocked" in " ".join(laptop.unlock())
        name = laptop.ask_json("update")["id"]
        laptop.wait(lambda status: status["state"] == "install", STATE_S)
        assert laptop.ask_json("cancel")["code"] == "critical_section"
        status = laptop.wait(lambda status: (status["last_outcome"] or {}).get("id") == name, UPDATE_S)
    finally:
        laptop.close()
    assert status["last_outcome"]["outcome"] == "committed"
    assert status["booted"] not in (before, None)


def test_an_engineer_brings_the_bundle_over_the_field_line(terminal: Terminal, tmp_path: Path) -> None:
    terminal.wait_state("idle", STATE_S)
    before = terminal.slot_booted()
    program = Program(terminal.field_line(), terminal.engineer_ca(), tmp_path)
    try:
        outcome = program.bring(terminal.bundle("2.0.0"))
        status = program.terminal.call("status")
    finally:
        program.close()
    assert (outcome["outcome"], outcome["version"]) == ("committed", "2.0.0")
    assert status["booted"] == terminal.slot_booted() not in (before, None)


def test_a_low_battery_keeps_the_installation_waiting(terminal: Terminal) -> None:
    terminal.wait_state("idle", STATE_S)
    terminal.set_power(battery_percent=20, charger=False)
    terminal.publish("2.0.0")
    name = update(terminal)
    held(terminal, "ready")
    assert terminal.ask("cancel") == {"cancelled": True}
    assert terminal.wait_outcome(name, 60)["outcome"] == "cancelled"
    with pytest.raises(PosagentError, match="nothing_to_cancel"):
        terminal.ask("cancel")


def test_a_power_cut_while_it_waits_for_the_charger_leaves_it_waiting(terminal: Terminal) -> None:
    terminal.wait_state("idle", STATE_S)
    terminal.set_power(battery_percent=20, charger=False)
    terminal.publish("2.0.0")
    name = update(terminal)
    terminal.wait_state("ready", STATE_S)
    terminal.power_cut(0.5)
    held(terminal, "ready")
    terminal.set_power(battery_percent=90, charger=True)
    committed(terminal, name)


def test_a_battery_that_sinks_during_the_installation_does_not_spoil_it(terminal: Terminal) -> None:
    terminal.wait_state("idle", STATE_S)
    terminal.publish("2.0.0")
    name = update(terminal)
    terminal.wait_state("install", STATE_S)
    terminal.set_power(battery_percent=20, charger=False)
    terminal.power_cut(0.5)  # from now on the installation has to wait
    held(terminal, "install")
    terminal.set_power(battery_percent=90, charger=True)
    committed(terminal, name)


def test_a_terminal_whose_clock_is_years_behind_is_not_locked_out(terminal: Terminal) -> None:
    terminal.wait_state("idle", STATE_S)
    terminal.set_clock_offset(-20 * 365 * 86400)
    terminal.power_cut(0.2)
    terminal.wait_state("idle", STATE_S)
    terminal.publish("2.0.0")
    committed(terminal, update(terminal))


# the merchant's money


@pytest.mark.short
def test_payments_are_taken_over_by_a_version_that_keeps_them_in_another_form(terminal: Terminal) -> None:
    terminal.wait_state("idle", STATE_S)
    for _ in range(3):
        terminal.pay()
    terminal.publish("2.0.0", "migrates")
    name = update(terminal)
    committed(terminal, name)
    assert terminal.ask("status")["last_outcome"]["migrated"] == "1>2"
    assert terminal.payments() == 3
    terminal.pay()
    assert terminal.payments() == 4


def test_a_version_that_fails_after_it_took_payments_over_leaves_them_as_they_were(terminal: Terminal) -> None:
    terminal.wait_state("idle", STATE_S)
    for _ in range(3):
        terminal.pay()
    terminal.publish("3.0.0", "migrates-test-fails")
    outcome = terminal.wait_outcome(update(terminal), UPDATE_S)
    assert (outcome["outcome"], outcome["code"]) == ("rolled_back", "selftest_failed")
    assert terminal.payments() == 3
    terminal.pay()
    assert terminal.payments() == 4


def test_parameters_alone_reach_the_payment_program_and_those_that_fail_are_withdrawn(terminal: Terminal) -> None:
    terminal.wait_state("idle", STATE_S)
    terminal.pay()
    before, good = terminal.slot_booted(), {"currencies": ["EUR", "CHF"], "limit": 5000}
    terminal.publish_parameters("emv-7", good)
    outcome = terminal.wait_outcome(update(terminal), STATE_S)
    assert (outcome["outcome"], outcome["kind"], outcome["version"]) == ("committed", "parameters", "emv-7")
    assert terminal.parameters() == good
    terminal.publish_parameters("emv-8", {"currencies": ["USD"]})
    outcome = terminal.wait_outcome(update(terminal), STATE_S)
    assert (outcome["outcome"], outcome["code"], outcome["from_version"]) == ("rolled_back", "selftest_failed", "emv-7")
    assert terminal.parameters() == good
    terminal.power_cut(0.5)
    terminal.wait_state("idle", STATE_S)
    assert terminal.parameters() == good
    assert terminal.slot_booted() == before
    terminal.pay()
    assert terminal.payments() == 2
