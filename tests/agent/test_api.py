"""The one API of the agent: the shape of its answers, what it refuses, who follows what."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posagent.agent.verbs import LOOK_VERBS, VERBS
from posagent.core.errors import PosagentError
from posagent.core.model import State
from posagent.core.ports import Message
from posagent.sim.inprocess import InProcessTerminal
from posagent.sim.layout import set_power
from tests.conftest import Desk

Make = Callable[[], InProcessTerminal]


@pytest.fixture
def terminal(in_process: Make) -> InProcessTerminal:
    return in_process()


def refusal(terminal: InProcessTerminal, verb: str, **args: Any) -> str:
    with pytest.raises(PosagentError) as caught:
        terminal.ask(verb, **args)
    return caught.value.code


class Caller:
    """Somebody who asked and keeps listening."""

    def __init__(self, terminal: InProcessTerminal, verb: str, **args: Any) -> None:
        self.told: list[Message] = []
        self.hang_up = terminal.api.call(verb, args, self.told.append, "somebody")

    @property
    def states(self) -> list[str]:
        """The states that progress showed, each once."""
        return list(dict.fromkeys(message["progress"]["state"] for message in self.told if "progress" in message))


def wait_in_ready(terminal: InProcessTerminal, desk: Desk) -> str:
    set_power(terminal.layout, battery=20, mains=False)
    update: str = terminal.ask("update", source=str(desk.bundles["2.0.0"]))["id"]
    terminal.run_until(lambda one: one.state is State.READY)
    return update


# looking


def test_the_status_of_a_terminal_that_does_nothing(terminal: InProcessTerminal) -> None:
    terminal.settle()
    status = terminal.ask("status")
    assert (status["terminal"], status["state"], status["critical"], status["expected_s"]) == ("t", "idle", False, None)
    assert (status["booted"], status["update"], status["last_outcome"], status["problems"]) == ("a", None, None, [])
    assert status["slots"]["a"] == {"version": "1.0.0", "digest": "", "state": "booted", "tries_left": 3}
    assert status["slots"]["b"]["state"] == "bad"
    assert status["power"] == {"battery_percent": 80, "charging": True, "mains": True}
    assert {gate["gate"] for gate in status["gates"]} == {"power_download", "power_install", "boot_control"}


def test_every_status_of_an_update_is_plain_json(terminal: InProcessTerminal, desk: Desk) -> None:
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    while terminal.state is not State.IDLE:
        status = terminal.ask("status")
        assert json.loads(json.dumps(status)) == status
        assert status["critical"] == (status["expected_s"] is not None)
        assert status["update"]["target"] == "b" and status["update"]["phase"] == status["state"]
        terminal.step()


def test_help_lists_every_verb_and_every_verb_answers(terminal: InProcessTerminal) -> None:
    assert terminal.ask("help")["verbs"] == dict(VERBS)
    assert set(LOOK_VERBS) < VERBS.keys()
    for verb in VERBS:
        caller = Caller(terminal, verb)
        terminal.run_until(lambda _, caller=caller: caller.told != [])  # type: ignore[misc]
        caller.hang_up()


def test_what_is_no_verb_is_refused(terminal: InProcessTerminal) -> None:
    for verb in ("", "reboot", "_status", "__init__", "call", "status ", "STATUS", "x" * 10_000):
        assert refusal(terminal, verb) == "unknown_verb", verb


def test_a_history_of_a_senseless_length_is_a_bad_request(terminal: InProcessTerminal) -> None:
    senseless: tuple[object, ...] = (0, -1, 1001, "5", 1.5, True, None, [])
    for count in senseless:
        assert refusal(terminal, "history", count=count) == "bad_request", count


def test_history_is_newest_last_and_as_long_as_asked_for(terminal: InProcessTerminal, desk: Desk) -> None:
    for version in ("2.0.0", "3.0.0"):
        terminal.ask("update", source=str(desk.bundles[version]))
        terminal.run_to_idle()
    assert [one["version"] for one in terminal.ask("history")["history"]] == ["2.0.0", "3.0.0"]
    assert [one["version"] for one in terminal.ask("history", count=1)["history"]] == ["3.0.0"]


def test_why_tells_the_most_pressing_thing(terminal: InProcessTerminal, desk: Desk) -> None:
    assert terminal.ask("why")["why"] == []
    wait_in_ready(terminal, desk)
    (gate,) = terminal.ask("why")["why"]
    assert gate["code"] == "gate_closed" and gate["remedy"] and gate["detail_zh"]
    set_power(terminal.layout, battery=80, mains=True)
    terminal.run_until(lambda one: one.state is State.INSTALL)
    assert terminal.ask("why")["why"][0]["code"] == "critical_section"
    assert terminal.run_to_idle()["outcome"] == "committed"
    assert terminal.ask("why")["why"] == []
    terminal.ask("update", source=str(desk.bundles["3.0.0"]))
    terminal.run_to_idle()
    assert terminal.ask("why")["why"][0]["code"] == "selftest_failed"


# asking for an update


NO_SOURCES: tuple[object, ...] = (
    *("x.bundle", "../x", "ftp://x/y", "file:///etc/passwd", "/a\nb", "/\x1b[2J", "/" + "x" * 2048),
    *(7, None, ["/x"], {}),
)


def test_a_source_that_is_no_url_or_absolute_path_is_a_bad_request(terminal: InProcessTerminal) -> None:
    for source in NO_SOURCES:
        assert refusal(terminal, "update", source=source) == "bad_request", source
    assert terminal.state is State.IDLE


def test_one_update_at_a_time(terminal: InProcessTerminal, desk: Desk) -> None:
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    assert refusal(terminal, "update", source=str(desk.bundles["3.0.0"])) == "busy"
    assert refusal(terminal, "update") == "busy", "known before the repository is asked"


def test_the_journal_keeps_who_asked(terminal: InProcessTerminal, desk: Desk) -> None:
    Caller(terminal, "update", source=str(desk.bundles["2.0.0"]))
    update = terminal.situation.update
    assert update is not None and update.requested_by == "somebody"


def test_a_missing_file_ends_the_update_as_failed_and_says_so(terminal: InProcessTerminal) -> None:
    terminal.ask("update", source="/media/usb/none.bundle")
    outcome = terminal.run_to_idle()
    assert outcome["outcome"] == "failed" and "/media/usb/none.bundle" in outcome["detail"]


def test_nothing_is_decided_before_the_hardware_was_looked_at(terminal: InProcessTerminal, desk: Desk) -> None:
    """A cancel would hang up on that look, and nothing would ever be decided again."""
    wait_in_ready(terminal, desk)
    step, codes = terminal.step, list[str]()

    def ask_first() -> None:
        if not codes:
            codes.append(refusal(terminal, "cancel"))
            codes.append(refusal(terminal, "update"))
            codes.append(refusal(terminal, "update", source=str(desk.bundles["3.0.0"])))
            assert terminal.ask("status")["booted"] is None
        step()

    terminal.step = ask_first  # type: ignore[method-assign]
    terminal.start_agent()
    terminal.step = step  # type: ignore[method-assign]
    assert codes == ["busy"] * 3
    assert terminal.ask("status")["booted"] == "a"
    assert terminal.ask("cancel") == {"cancelled": True}


# following


def test_a_follower_whose_update_gives_way_to_another_is_told(terminal: InProcessTerminal, desk: Desk) -> None:
    follower = Caller(terminal, "follow", id=wait_in_ready(terminal, desk))
    newer = terminal.ask("update", source=str(desk.bundles["3.0.0"]))["id"]
    outcome = follower.told[-1]["result"]["outcome"]
    assert (outcome["outcome"], outcome["code"], outcome["version"]) == ("cancelled", "superseded", "2.0.0")
    assert Caller(terminal, "follow", id=newer).told[-1]["progress"]["update"]["id"] == newer != outcome["id"]
    terminal.start_agent()
    assert terminal.situation.update is not None and terminal.situation.update.id == newer
    assert terminal.ask("history")["history"] == [outcome]


def test_a_follower_hears_every_state_and_then_how_it_ended(terminal: InProcessTerminal, desk: Desk) -> None:
    set_power(terminal.layout, battery=20, mains=False)
    follower = Caller(terminal, "follow", id=terminal.ask("update", source=str(desk.bundles["2.0.0"]))["id"])
    terminal.run_until(lambda one: one.state is State.READY)
    terminal.ask("cancel")
    assert follower.states == ["download", "verify", "ready"]
    (end,) = [message["result"] for message in follower.told if "result" in message]
    assert follower.told[-1] == {"result": end}
    assert end["outcome"]["outcome"] == "cancelled" and end["id"] == end["outcome"]["id"]
    terminal.ask("update", source=str(desk.bundles["3.0.0"]))
    assert follower.told[-1] == {"result": end}, "the next update is not his"


def test_who_follows_an_update_that_has_ended_is_told_at_once(terminal: InProcessTerminal, desk: Desk) -> None:
    update = terminal.ask("update", source=str(desk.bundles["2.0.0"]))["id"]
    terminal.run_to_idle()
    (answer,) = Caller(terminal, "follow", id=update).told
    assert answer["result"]["outcome"]["outcome"] == "committed"


def test_following_goes_on_after_the_agent_started_again(terminal: InProcessTerminal, desk: Desk) -> None:
    update = terminal.ask("update", source=str(desk.bundles["2.0.0"]))["id"]
    terminal.run_until(lambda one: one.state is State.SELFTEST)
    follower = Caller(terminal, "follow", id=update)
    terminal.run_to_idle()
    assert follower.told[-1]["result"]["outcome"]["outcome"] == "committed"


def test_an_update_nobody_knows_can_not_be_followed(terminal: InProcessTerminal) -> None:
    unknown: tuple[object, ...] = ("", "none", None, 7, [], {})
    for update_id in unknown:
        assert refusal(terminal, "follow", id=update_id) == "bad_request", update_id


def test_who_hung_up_hears_nothing_more_and_the_others_do(terminal: InProcessTerminal, desk: Desk) -> None:
    update = wait_in_ready(terminal, desk)
    gone, stays, watcher = (
        Caller(terminal, "follow", id=update),
        Caller(terminal, "follow", id=update),
        Caller(terminal, "watch"),
    )
    gone.hang_up()
    gone.hang_up()
    terminal.ask("cancel")
    assert len(gone.told) == 1
    assert "result" in stays.told[-1]
    assert watcher.states == ["ready", "idle"], "who watches goes on watching"


def test_a_caller_who_hangs_up_while_the_others_are_told_disturbs_nobody(
    terminal: InProcessTerminal, desk: Desk
) -> None:
    wait_in_ready(terminal, desk)
    callers: list[Caller] = []

    def reply(message: Message) -> None:
        for caller in callers:
            caller.hang_up()

    terminal.api.call("watch", {}, reply, "somebody")
    callers += [Caller(terminal, "watch") for _ in range(3)]
    terminal.ask("cancel")
    assert terminal.state is State.IDLE


# whatever is asked

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
ARGS = st.dictionaries(st.sampled_from(["source", "id", "count"]) | st.text(), JSON, max_size=4)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(verb=st.sampled_from(sorted(VERBS)) | st.text(), args=ARGS)
def test_whatever_is_asked_is_answered_with_a_result_or_a_coded_error(
    terminal: InProcessTerminal, verb: str, args: dict[str, Any]
) -> None:
    told: list[Message] = []
    hang_up = terminal.api.call(verb, args, told.append, "somebody")
    while not told:
        terminal.step()
    hang_up()
    assert told[0].keys() <= {"progress", "result", "error"}
    json.dumps(told)
