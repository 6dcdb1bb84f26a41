"""What an update must do on every terminal."""

from __future__ import annotations

import pytest

from hil.terminal import Terminal
from posagent.core.errors import PosagentError


def test_a_good_version_commits_on_the_other_slot(terminal: Terminal) -> None:
    before = terminal.slot_booted()
    terminal.publish("2.0.0")
    outcome = terminal.wait_outcome(terminal.ask("update")["id"], 300)
    assert outcome["outcome"] == "committed"
    assert terminal.slot_booted() not in (before, None)


def test_a_version_that_fails_its_self_test_leaves_the_old_one_running(terminal: Terminal) -> None:
    before = terminal.slot_booted()
    terminal.publish("3.0.0", broken="missing parameters")
    outcome = terminal.wait_outcome(terminal.ask("update")["id"], 300)
    assert (outcome["outcome"], outcome["code"]) == ("rolled_back", "selftest_failed")
    assert terminal.slot_booted() == before


def test_a_power_cut_during_the_trial_boot_loses_nothing(terminal: Terminal) -> None:
    terminal.publish("2.0.0")
    update = terminal.ask("update")["id"]
    terminal.wait_state("activate", 120)
    terminal.power_cut(0.5)
    assert terminal.wait_outcome(update, 300)["outcome"] == "committed"


def test_a_low_battery_keeps_the_installation_waiting(terminal: Terminal) -> None:
    terminal.set_power(battery_percent=20, charger=False)
    terminal.publish("2.0.0")
    update = terminal.ask("update")["id"]
    terminal.wait_state("ready", 120)
    assert terminal.ask("cancel") == {"cancelled": True}
    assert terminal.wait_outcome(update, 60)["outcome"] == "cancelled"
    with pytest.raises(PosagentError, match="nothing_to_cancel"):
        terminal.ask("cancel")


def test_a_terminal_whose_clock_is_years_behind_is_not_locked_out(terminal: Terminal) -> None:
    terminal.set_clock_offset(-20 * 365 * 86400)
    terminal.power_cut(0.2)
    terminal.wait_state("idle", 60)
    terminal.publish("2.0.0")
    assert terminal.wait_outcome(terminal.ask("update")["id"], 300)["outcome"] == "committed"
