"""What commands do with workers: one that answers nonsense is in trouble, not the agent; problems end when solved."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from posagent.core.errors import PosagentError
from posagent.core.model import Command, Event, State
from posagent.core.ports import Message
from posagent.sim.inprocess import InProcessTerminal
from tests.agent.conftest import Lies
from tests.conftest import Desk

Make = Callable[[], InProcessTerminal]
NONSENSE: tuple[Message, ...] = (
    {},
    {"result": {}},
    {"result": None},
    {"result": [1]},
    {"error": None},
    {"error": ["code"]},
    {"error": {"self": 1}},
    {"progress": None},
    {"progress": {"bytes_done": "many"}},
    {"progress": {"bytes_done": 1, "bytes_total": 2.5}},
    {"progress": {"bytes_done": -1}},
    {"progress": {"bytes_done": 10**400}},
)


@pytest.mark.parametrize("message", NONSENSE, ids=str)
def test_a_download_that_ends_in_nonsense_is_tried_again(
    message: Message, lies: Lies, in_process: Make, desk: Desk
) -> None:
    terminal = in_process()
    lies["fetch"] = message
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    terminal.run_until(lambda one: one.situation.failure is not None)
    assert terminal.situation.failure is not None and terminal.situation.failure["code"] == "internal"
    lies.clear()
    assert terminal.run_to_idle()["outcome"] == "committed"


@pytest.mark.parametrize(
    ("verb", "state", "message"),
    [
        ("check", State.VERIFY, {"result": {"version": "2", "digest": "d", "image_size": "big"}}),
        ("check", State.VERIFY, {"result": {"version": 2, "digest": "d", "image_size": 1}}),
        ("write", State.INSTALL, {"progress": {"bytes_done": None}}),
        ("run", State.SELFTEST, {"result": {"passed": False}}),
        ("run", State.SELFTEST, {"result": {"passed": False, "checks": ["payment"]}}),
        ("run", State.SELFTEST, {"result": {"passed": False, "checks": [{"passed": False, "name": 1}]}}),
    ],
    ids=str,
)
def test_nonsense_is_trouble_of_that_verb_and_it_is_tried_again(
    verb: str, state: State, message: Message, lies: Lies, in_process: Make, desk: Desk
) -> None:
    terminal = in_process()
    lies[verb] = message
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    terminal.run_until(lambda one: one.situation.failure is not None)
    assert terminal.situation.failure is not None and terminal.situation.failure["code"] == "internal"
    assert terminal.state is state
    lies.clear()
    assert terminal.run_to_idle()["outcome"] == "committed"


def test_slots_that_are_not_understood_after_a_write_are_trouble_of_the_write(
    lies: Lies, in_process: Make, desk: Desk
) -> None:
    terminal = in_process()
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    terminal.run_until(lambda one: one.state is State.INSTALL)
    lies["observe"] = {"result": {"slots": {}}}
    terminal.run_until(lambda one: one.situation.failure is not None)
    assert terminal.situation.failure is not None and terminal.situation.failure["code"] == "internal"
    lies.clear()
    assert terminal.run_to_idle()["outcome"] == "committed"


@pytest.mark.parametrize("wait", ["soon", [5], {}, None, 1e400])
def test_a_waiting_time_that_is_no_number_of_seconds_is_not_waited_for(
    wait: object, lies: Lies, in_process: Make, desk: Desk
) -> None:
    terminal = in_process()
    lies["fetch"] = {"error": {"code": "fetch_status", "detail": "503", "retry_after_s": wait}}
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    terminal.run_until(lambda one: one.situation.failure is not None)
    assert terminal.situation.failure == {"code": "fetch_status", "detail": "503", "step": "network"}
    lies.clear()
    assert terminal.run_to_idle()["outcome"] == "committed"


@pytest.mark.parametrize("offer", [{}, [], "2.0.0", {"version": "2"}, {"version": 2, "url": "/x", "sha256": 5}])
@pytest.mark.parametrize("verb", ["check", "update"])
def test_an_offer_that_is_none_is_answered_with_a_code(verb: str, offer: object, lies: Lies, in_process: Make) -> None:
    terminal, told = in_process(), list[Message]()
    lies["look"] = {"result": {"offer": offer}}
    terminal.api.call(verb, {}, told.append, "somebody")
    terminal.run_until(lambda _: bool(told))
    assert told[0]["error"]["code"] == "internal" and terminal.state is State.IDLE


# the first look


def test_no_command_hangs_up_on_the_look_with_which_the_agent_starts(in_process: Make) -> None:
    terminal = in_process()
    step, stopped = terminal.step, list[bool]()

    def stop_first() -> None:
        if not stopped:
            stopped.append(True)
            terminal._actors.do(Command.STOP, Event.CANCEL_REQUESTED, terminal.situation)
        step()

    terminal.step = stop_first  # type: ignore[method-assign]
    terminal.start_agent()
    assert stopped and terminal.ask("status")["booted"] == "a"


def test_a_first_look_that_hangs_is_given_up_and_the_agent_is_well(in_process: Make) -> None:
    terminal = in_process()
    terminal.silent.add("observe")
    terminal.start_agent()
    assert terminal.healthy and "worker_stalled" in terminal._engine.problems


# problems


def test_the_problem_of_a_refresh_goes_when_the_next_one_works(lies: Lies, in_process: Make) -> None:
    terminal = in_process()
    terminal.settle()
    terminal._engine.report_problem(PosagentError("journal_damaged"))
    for code in ("boot_env_write", "slot_io"):
        lies["refresh"] = {"error": {"code": code}}
        terminal._actors.do(Command.REFRESH, Event.SETTLED, terminal.situation)
        terminal.settle()
        assert list(terminal._engine.problems) == ["journal_damaged", code], "one refresh has one problem"
    lies.clear()
    terminal._actors.do(Command.REFRESH, Event.SETTLED, terminal.situation)
    terminal.settle()
    assert list(terminal._engine.problems) == ["journal_damaged"]


# restarting


def test_who_waits_for_the_restart_is_told_when_it_was_accepted(lies: Lies, in_process: Make, desk: Desk) -> None:
    terminal, told = in_process(), list[str]()
    terminal._actors._on_restart = lambda: told.append(terminal.state.value)
    lies["reboot"] = {"error": {"code": "reboot_failed"}}
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    terminal.run_until(lambda one: one.state is State.ACTIVATE and one.situation.failure is not None)
    assert told == [] and not terminal._actors.restarting
    lies.clear()
    terminal.run_until(lambda one: bool(told))
    assert told == ["activate"] and terminal._actors.restarting


# marks that can never be made


NOT_GOOD: Message = {"error": {"code": "slot_not_complete", "detail": "slot a is bad; b must stay"}}


def test_a_version_that_can_never_be_confirmed_is_left(lies: Lies, in_process: Make, desk: Desk) -> None:
    terminal = in_process()
    lies["mark_good"] = {"error": {"code": "slot_not_complete", "detail": "slot b was not completely written"}}
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    outcome = terminal.run_to_idle()
    assert (outcome["outcome"], outcome["code"]) == ("rolled_back", "slot_not_complete")
    assert outcome["detail"] == "slot b was not completely written"
    assert terminal.ask("status")["booted"] == "a"


def test_with_nothing_to_go_back_to_the_running_slot_stays_startable(lies: Lies, in_process: Make, desk: Desk) -> None:
    terminal = in_process()
    terminal.ask("update", source=str(desk.bundles["3.0.0"]))
    terminal.run_until(lambda one: one.state is State.SELFTEST)
    lies["mark_bad"] = NOT_GOOD
    outcome = terminal.run_to_idle()
    assert (outcome["outcome"], outcome["code"]) == ("failed", "no_way_back")
    assert outcome["detail"].endswith("Connection refused; slot a is bad; b must stay") and outcome["checks"]
    assert terminal._engine.problems["slot_not_complete"].detail == "slot a is bad; b must stay"
    terminal.settle()
    for _ in range(5):
        terminal.boot()
        terminal.settle()
        status = terminal.ask("status")
        assert (terminal.state, status["booted"], status["slots"]["b"]["tries_left"]) == (State.IDLE, "b", 3)
    lies.clear()
    terminal.ask("update", source=str(desk.bundles["3.0.0"]))
    assert terminal.run_to_idle()["outcome"] == "rolled_back", "the other slot can be written again"
    assert terminal.ask("status")["booted"] == "b"


def test_back_in_the_old_version_a_mark_that_can_never_be_made_ends_the_rollback(
    lies: Lies, in_process: Make, desk: Desk
) -> None:
    terminal = in_process()
    terminal.ask("update", source=str(desk.bundles["4.0.0"]))
    terminal.run_until(lambda one: one.state is State.ACTIVATE)
    lies["mark_bad"] = NOT_GOOD
    outcome = terminal.run_to_idle()
    assert (outcome["outcome"], outcome["code"]) == ("rolled_back", "boot_failed")
    assert outcome["detail"].endswith("; slot a is bad; b must stay")
    assert "slot_not_complete" in terminal._engine.problems
    terminal.settle()
    status = terminal.ask("status")
    assert (terminal.state, status["booted"], status["slots"]["a"]["tries_left"]) == (State.IDLE, "a", 3)


# a link that stays dead


def test_a_download_that_was_given_up_says_truly_that_the_next_request_resumes_it(
    lies: Lies, in_process: Make, desk: Desk
) -> None:
    terminal = in_process()
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    terminal.run_until(lambda one: one.situation.update is not None and one.situation.update.bytes_done > 0)
    terminal._actors.ask.stop()
    lies["fetch"] = {"error": {"code": "fetch_network", "detail": "no route to host"}}
    terminal.start_agent()
    terminal.run_until(lambda one: one.situation.failure is not None)
    trying = terminal.ask("why")["why"][0]
    assert terminal.run_to_idle()["code"] == "fetch_network"
    given_up = terminal.ask("why")["why"][0]
    for told in (trying, given_up):
        assert told["code"] == "fetch_network"
        assert (
            "the next try or request resumes what was fetched" in told["remedy"] and "by itself" not in told["remedy"]
        )
        assert "重新请求" in told["remedy_zh"]
    assert spooled(terminal)["pieces"]
    lies.clear()
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    terminal.run_until(lambda one: one.state is State.VERIFY)
    assert (spooled(terminal)["bytes_refetched"], spooled(terminal)["restarts"]) == (0, 0)
    assert terminal.run_to_idle()["outcome"] == "committed"


def spooled(terminal: InProcessTerminal) -> dict[str, int]:
    """What the spool knows of its one download."""
    (record,) = terminal.layout.spool.glob("*.json")
    found: dict[str, int] = json.loads(record.read_text())
    return found
