"""Going back to the version in the other slot, on request: the whole way, and all that may come between."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from posagent.core.errors import PosagentError
from posagent.core.model import State
from posagent.core.ports import Message
from posagent.sim.inprocess import InProcessTerminal
from posagent.sim.layout import set_power
from tests.agent.conftest import Lies
from tests.conftest import Desk

Make = Callable[[], InProcessTerminal]


@pytest.fixture
def terminal(in_process: Make, desk: Desk) -> InProcessTerminal:
    """It was updated from 1.0.0, in slot a, to 2.0.0, in slot b."""
    made = in_process()
    made.ask("update", source=str(desk.bundles["2.0.0"]))
    assert made.run_to_idle()["outcome"] == "committed"
    made.settle()
    return made


def refusal(terminal: InProcessTerminal, verb: str, **args: Any) -> PosagentError:
    with pytest.raises(PosagentError) as caught:
        terminal.ask(verb, **args)
    return caught.value


def states(terminal: InProcessTerminal) -> tuple[Any, ...]:
    """What runs, and the states of both slots."""
    seen = terminal.ask("slots")
    return seen["booted"], seen["slots"]["a"]["state"], seen["slots"]["b"]["state"]


def back(terminal: InProcessTerminal) -> Mapping[str, Any]:
    terminal.ask("rollback")
    return terminal.run_to_idle()


def test_the_other_version_is_tried_tested_and_kept_and_the_newer_stays_good(terminal: InProcessTerminal) -> None:
    asked = terminal.ask("rollback")
    assert asked["version"] == "1.0.0"
    told: list[Message] = []
    terminal.api.call("follow", {"id": asked["id"]}, told.append, "somebody")
    outcome = terminal.run_to_idle()
    assert (outcome["id"], outcome["outcome"], outcome["code"]) == (asked["id"], "committed", "ok")
    assert (outcome["kind"], outcome["version"], outcome["from_version"]) == ("rollback", "1.0.0", "2.0.0")
    assert told[0]["progress"]["update"]["kind"] == "rollback", "told until the restart, which ends the agent"
    terminal.settle()
    assert states(terminal) == ("a", "good", "good")
    assert terminal.ask("slots")["order"] == ["a", "b"], "the newer one is now the fall-back"
    assert {"activate", "selftest", "commit", "outage"} == outcome["estimates"].keys(), "nothing was written"


def test_there_and_back_as_often_as_wanted(terminal: InProcessTerminal) -> None:
    for version in ("1.0.0", "2.0.0", "1.0.0"):
        outcome = back(terminal)
        assert (outcome["outcome"], outcome["version"]) == ("committed", version)
        terminal.settle()


def test_the_newer_version_can_be_installed_again_afterwards(terminal: InProcessTerminal, desk: Desk) -> None:
    back(terminal)
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    assert terminal.run_to_idle()["outcome"] == "committed"
    terminal.settle()
    assert states(terminal) == ("b", "good", "good")


def test_what_the_slots_say_is_what_the_request_meets(in_process: Make, desk: Desk) -> None:
    terminal = in_process()
    told = terminal.ask("slots")["rollback"]
    assert (told["possible"], told["slot"], told["refusal"]) == (False, "b", "rollback_no_version")
    assert told["remedy"] and told["remedy_zh"] and told["detail_zh"]
    assert refusal(terminal, "rollback").code == "rollback_no_version"
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    assert terminal.ask("slots")["rollback"]["refusal"] == "busy" == refusal(terminal, "rollback").code
    terminal.run_until(lambda one: one.state is State.INSTALL)
    assert terminal.ask("slots")["rollback"]["refusal"] == "critical_section"
    refused = refusal(terminal, "rollback")
    assert (refused.code, refused.facts["state"]) == ("critical_section", "install") and refused.facts["expected_s"]
    terminal.run_to_idle()
    terminal.settle()
    told = terminal.ask("slots")["rollback"]
    assert (told["possible"], told["slot"], told["version"]) == (True, "a", "1.0.0")
    assert 0 <= told["estimate"]["outage"]["p50"] <= told["estimate"]["total"]["p90"]
    assert "install" not in told["estimate"]["phases"]


def test_a_version_that_was_rolled_back_is_nothing_to_go_back_to(terminal: InProcessTerminal, desk: Desk) -> None:
    terminal.ask("update", source=str(desk.bundles["3.0.0"]))
    assert terminal.run_to_idle()["outcome"] == "rolled_back"
    terminal.settle()
    assert refusal(terminal, "rollback").code == "rollback_no_version"


def test_it_waits_for_the_charger_and_may_be_cancelled(terminal: InProcessTerminal, desk: Desk) -> None:
    set_power(terminal.layout, battery=20, mains=False)
    asked = terminal.ask("rollback")
    terminal.time.let_pass(300)
    for _ in range(5):
        terminal.step()
    assert terminal.state is State.READY and terminal.ask("why")["why"][0]["code"] == "gate_closed"
    assert terminal.ask("status")["critical"] is False
    for args in ({"source": str(desk.bundles["3.0.0"])}, {}, {"now": True}):
        assert refusal(terminal, "update", **args).code == "busy", "it gives way to nothing"
    assert terminal.ask("cancel") == {"cancelled": True}
    outcome = terminal.situation.last_outcome
    assert outcome is not None and (outcome["id"], outcome["outcome"]) == (asked["id"], "cancelled")
    terminal.settle()
    assert states(terminal) == ("b", "good", "good")


def test_it_goes_on_when_the_charger_comes_also_after_power_cuts(terminal: InProcessTerminal) -> None:
    set_power(terminal.layout, battery=20, mains=False)
    terminal.ask("rollback")
    for _ in range(4):  # more often than the bootloader counts tries
        terminal.boot()
        assert terminal.state is State.READY
        for _ in range(20):
            terminal.step()
    set_power(terminal.layout, battery=80, mains=True)
    assert terminal.run_to_idle()["outcome"] == "committed"
    terminal.settle()
    assert states(terminal) == ("a", "good", "good")


@pytest.mark.parametrize("at", list(range(1, 60, 3)))
def test_a_power_cut_after_any_step_does_not_keep_it_from_its_end(terminal: InProcessTerminal, at: int) -> None:
    terminal.ask("rollback")
    for _ in range(at):
        if terminal.state is State.IDLE:
            break
        terminal.step()
    terminal.boot()
    outcome = terminal.run_to_idle()
    assert (outcome["outcome"], outcome["version"]) == ("committed", "1.0.0")
    terminal.settle()
    assert states(terminal) == ("a", "good", "good")


def test_an_older_version_that_fails_its_test_now_is_left_for_the_newer(
    terminal: InProcessTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def payment(*_: object) -> str | None:
        return "Connection refused" if terminal.ask("status")["booted"] == "a" else None

    monkeypatch.setattr(terminal._parts.probes, "tcp", payment)
    outcome = back(terminal)
    assert (outcome["outcome"], outcome["code"], outcome["kind"]) == ("rolled_back", "selftest_failed", "rollback")
    terminal.settle()
    assert states(terminal) == ("b", "bad", "good")
    assert refusal(terminal, "rollback").code == "rollback_no_version"


def test_a_terminal_that_cannot_restart_keeps_both_versions(terminal: InProcessTerminal, lies: Lies) -> None:
    lies["reboot"] = {"error": PosagentError("reboot_failed", "no").as_dict()}
    outcome = back(terminal)
    assert (outcome["outcome"], outcome["code"]) == ("failed", "reboot_failed")
    del lies["reboot"]
    terminal.settle()
    assert states(terminal) == ("b", "good", "good"), "the older one was never started: nothing is wrong with it"
    assert back(terminal)["outcome"] == "committed"


def test_the_journal_keeps_who_asked(terminal: InProcessTerminal) -> None:
    terminal.api.call("rollback", {}, lambda _: None, "console Li Wei")
    update = terminal.situation.update
    assert update is not None and (update.requested_by, update.goes_back) == ("console Li Wei", True)


def test_what_was_signed_for_is_what_it_goes_to(terminal: InProcessTerminal) -> None:
    for other in ({"slot": "b", "version": "1.0.0"}, {"slot": "a", "version": "0.9.0"}):
        assert refusal(terminal, "rollback", **other).code == "bad_request" and terminal.state is State.IDLE
    assert terminal.ask("rollback", slot="a", version="1.0.0")["version"] == "1.0.0"
