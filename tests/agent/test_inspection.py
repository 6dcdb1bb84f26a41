"""What people have looked at beside the update: self-tests and the network give way to it, and leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from posagent.agent import answers
from posagent.agent.errand import Deadlines
from posagent.core.errors import PosagentError
from posagent.core.model import State
from posagent.core.ports import Message
from posagent.sim.inprocess import InProcessTerminal
from posagent.sim.layout import set_power
from tests.agent.conftest import Lies
from tests.conftest import Desk

Make = Callable[[], InProcessTerminal]


@pytest.fixture
def terminal(in_process: Make) -> InProcessTerminal:
    made = in_process()
    made.settle()
    return made


class Caller:
    def __init__(self, terminal: InProcessTerminal, verb: str, **args: Any) -> None:
        self._terminal = terminal
        self.told: list[Message] = []
        self.hang_up = terminal.api.call(verb, args, self.told.append, "somebody")

    @property
    def ended(self) -> bool:
        return bool(self.told) and "progress" not in self.told[-1]

    @property
    def code(self) -> str:
        """Of the error that it ended with."""
        return str(self.told[-1]["error"]["code"])

    def wait(self) -> dict[str, Any]:
        self._terminal.run_until(lambda _: self.ended)
        result: dict[str, Any] = self.told[-1]["result"]
        return result


# self-tests


def test_the_self_tests_run_on_the_version_that_runs_and_change_nothing(terminal: InProcessTerminal) -> None:
    before = terminal.situation, terminal._parts.files.read(terminal._parts.config.journal_path)
    caller = Caller(terminal, "selftest")
    result = caller.wait()
    assert result["passed"] and result["checks"][0]["name"] == "payment program answers"
    suites = [check["suite"] for check in result["checks"]]
    assert list(dict.fromkeys(suites)) == ["functional", "performance", "security"] and suites == sorted(suites)
    steps = [message["progress"] for message in caller.told[:-1]]
    assert [(step["done"], step["check"]) for step in steps] == [
        (number, check["name"]) for number, check in enumerate(result["checks"], 1)
    ]
    assert {(step["total"], step["passed"]) for step in steps} == {(len(suites), True)}
    assert before == (terminal.situation, terminal._parts.files.read(terminal._parts.config.journal_path))


def test_a_self_test_that_fails_condemns_nothing(terminal: InProcessTerminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal._parts.probes, "tcp", lambda *_: "Connection refused")
    result = Caller(terminal, "selftest").wait()
    assert not result["passed"] and result["checks"][0]["detail"] == "Connection refused"
    status = terminal.ask("status")
    assert (status["state"], status["slots"]["a"]["state"], status["last_outcome"]) == ("idle", "booted", None)


def test_the_self_tests_are_refused_in_a_critical_section(terminal: InProcessTerminal, desk: Desk) -> None:
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    terminal.run_until(lambda one: one.state is State.INSTALL)
    caller = Caller(terminal, "selftest")
    assert caller.code == "critical_section" and caller.told[-1]["error"]["expected_s"]
    assert terminal.run_to_idle()["outcome"] == "committed", "and nothing was disturbed"


def test_self_tests_under_way_end_when_a_critical_section_begins(terminal: InProcessTerminal, desk: Desk) -> None:
    set_power(terminal.layout, battery=20, mains=False)
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    terminal.run_until(lambda one: one.state is State.READY)
    terminal.silent.add("run")
    caller = Caller(terminal, "selftest")
    set_power(terminal.layout, battery=80, mains=True)
    terminal.run_until(lambda one: one.state is State.INSTALL)
    assert caller.code == "critical_section"
    terminal.silent.clear()
    assert terminal.run_to_idle()["outcome"] == "committed"


def test_one_at_a_time_asks_for_the_self_tests(terminal: InProcessTerminal) -> None:
    first, second = Caller(terminal, "selftest"), Caller(terminal, "selftest")
    assert second.code == "busy"
    assert first.wait()["passed"]
    assert Caller(terminal, "selftest").wait()["passed"]


def test_who_hangs_up_makes_room_for_the_next(terminal: InProcessTerminal) -> None:
    terminal.silent.add("run")
    first = Caller(terminal, "selftest")
    first.hang_up()
    terminal.silent.clear()
    assert Caller(terminal, "selftest").wait()["passed"]
    assert first.told == []
    first.hang_up()


def test_a_worker_that_hangs_is_left_after_its_time(terminal: InProcessTerminal) -> None:
    terminal.silent.add("run")
    began, caller = terminal.time.monotonic(), Caller(terminal, "selftest")
    terminal.run_until(lambda _: caller.ended)
    assert caller.code == "worker_stalled" and terminal.time.monotonic() - began == Deadlines().selftest_s


NONSENSE: tuple[Message, ...] = (
    {"result": {}},
    {"result": {"passed": "yes", "deadline": False, "checks": []}},
    {"result": {"passed": True, "deadline": False, "checks": [{"name": 1}]}},
    {"result": {"passed": True, "deadline": False, "checks": 7}},
    {"progress": {"check": "x", "passed": True, "done": -1, "total": 2}},
    {"progress": []},
)


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_a_worker_that_talks_nonsense_is_in_trouble_and_the_agent_is_not(
    terminal: InProcessTerminal, lies: Lies, nonsense: Message
) -> None:
    lies["run"] = nonsense
    caller = Caller(terminal, "selftest")
    terminal.run_until(lambda _: caller.ended)
    assert caller.code == "internal"


# the network


def test_a_look_at_the_network_is_told_step_by_step_with_the_remedy(terminal: InProcessTerminal) -> None:
    caller = Caller(terminal, "network")
    result = caller.wait()
    assert not result["ok"] and result["bytes_per_s"] is None
    assert [message["progress"] for message in caller.told[:-1]] == result["steps"]
    link, dns = result["steps"]
    assert (link["step"], dns["step"], dns["ok"], dns["code"]) == ("link", "dns", False, "fetch_pointer")
    assert "repository_url" in dns["detail"] and dns["remedy"] and dns["remedy_zh"]


def test_the_network_is_not_looked_at_while_the_fetcher_downloads(terminal: InProcessTerminal, desk: Desk) -> None:
    terminal.silent.add("fetch")
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    assert Caller(terminal, "network").code == "busy"


def test_a_look_at_the_network_is_possible_while_the_download_waits_and_gives_way_when_it_goes_on(
    terminal: InProcessTerminal, lies: Lies
) -> None:
    lies["fetch"] = {"error": PosagentError("fetch_network", "no route").as_dict()}
    terminal.ask("update", source="https://updates.test/x")
    terminal.run_until(lambda one: one.state is State.DOWNLOAD and one.situation.failure is not None)
    assert not Caller(terminal, "network").wait()["ok"]
    terminal.silent.add("probe")
    caller = Caller(terminal, "network")
    terminal.run_until(lambda one: one.situation.attempts["fetch"] > 1)
    assert caller.code == "busy"


def test_a_step_of_a_code_that_is_not_known_is_nonsense() -> None:
    step = {"step": "dns", "ok": False, "code": "no_such_code", "detail": "", "ms": 1}
    for message in ({"progress": step}, {"result": {"ok": False, "steps": [step], "bytes_per_s": None}}):
        with pytest.raises(PosagentError, match="internal"):
            answers.probed(message)


# the log and the version


@pytest.mark.parametrize("count", [0, 201, "5", None, True])
def test_a_log_of_a_senseless_length_is_a_bad_request(terminal: InProcessTerminal, count: object) -> None:
    assert Caller(terminal, "log", count=count).code == "bad_request"


def test_the_version_says_what_runs(terminal: InProcessTerminal) -> None:
    assert terminal.ask("version")["running"] == "1.0.0"
