"""What the agent tells the audit log by itself, and when it has the installer seal it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from posagent.agent.audit import AuditLog
from posagent.agent.evidence import AGAIN_S, ANSWER_S, TRIES, Evidence
from posagent.core.errors import PosagentError
from posagent.core.model import State
from posagent.core.ports import Message
from posagent.installer import notary
from posagent.installer.notary import Notary
from posagent.platform.storage import LinuxFiles
from posagent.sim.inprocess import InProcessTerminal
from posagent.sim.virtual import LocalWorker, VirtualTime
from tests.conftest import Desk


class Agent:
    """Evidence with a real log and a real notary, whose answers a test may replace."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "audit.log"
        self.time = VirtualTime()
        self.free = True
        self.asked: list[float] = []
        self.answer: Message | None = None
        self.silent: set[str] = set()
        self.troubles: list[str] = []
        self._notary = Notary(LinuxFiles(), str(folder / "installer"), "t")
        self.evidence = Evidence(
            log=AuditLog(LinuxFiles(), str(self.path), self.time),
            notary=LocalWorker({"seal_audit": self._seal}, self.time, self.silent),
            timers=self.time,
            clock=self.time,
            may_seal=lambda: self.free,
            on_trouble=lambda trouble: self.troubles.append(trouble.code),
        )

    def _seal(self, _: Mapping[str, Any]) -> Iterator[Message]:
        self.asked.append(self.time.monotonic())
        yield {"progress": {}}
        if self.answer is not None:
            yield self.answer
            return
        yield {"result": self._notary.seal(self.path.read_bytes)}

    def settle(self) -> None:
        while self.time.step():
            pass

    @property
    def events(self) -> list[str]:
        return [record["event"] for record in self.evidence.log.last(200)]


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(tmp_path)


def test_the_end_of_a_session_is_sealed_and_nothing_else_on_the_line(agent: Agent) -> None:
    agent.evidence.hear("unlock", name="Li Wei")
    agent.settle()
    assert agent.asked == []
    agent.evidence.hear("session_end", name="Li Wei")
    agent.evidence.hear("command", verb="status", stranger=True)
    agent.settle()
    assert agent.events == ["unlock", "session_end", "command", "checkpoint"]
    found = notary.verify(agent.path.read_bytes())
    assert (found.breaks, found.sealed) == ([], 3)
    assert agent.evidence.answer(1)["key"] == found.key and agent.troubles == []


def test_several_ends_at_once_are_sealed_once_and_one_that_comes_meanwhile_is_not_forgotten(agent: Agent) -> None:
    for _ in range(5):
        agent.evidence.hear("session_end")
    agent.time.step()
    assert agent.asked == []
    agent.evidence.hear("session_end")
    agent.settle()
    assert len(agent.asked) == 2
    assert notary.verify(agent.path.read_bytes()).sealed >= 6


def test_the_installer_is_left_alone_in_a_critical_section_and_asked_after_it(agent: Agent) -> None:
    agent.free = False
    agent.evidence.hear("session_end")
    agent.settle()
    assert agent.asked == []
    agent.free = True
    agent.evidence.seal()
    agent.settle()
    assert agent.events[-1] == "checkpoint"


@pytest.mark.parametrize(
    "answer",
    [
        {"error": PosagentError("worker_lost").as_dict()},
        {"result": {}},
        {"result": None},
        {"result": []},
        {"error": None},
        {},
    ],
    ids=str,
)
def test_whoever_cannot_seal_tries_again_and_then_leaves_it_for_the_next_time(agent: Agent, answer: Message) -> None:
    agent.answer = answer
    agent.evidence.hear("session_end")
    agent.settle()
    assert len(agent.asked) == TRIES and agent.time.monotonic() < TRIES * (AGAIN_S + 5)
    assert agent.events == ["session_end"]
    agent.answer = None
    agent.evidence.hear("session_end")
    agent.settle()
    assert agent.events[-1] == "checkpoint"


def test_a_notary_that_does_not_answer_is_given_up(agent: Agent) -> None:
    agent.silent.add("seal_audit")
    agent.evidence.hear("session_end")
    agent.settle()
    assert agent.time.monotonic() == pytest.approx(TRIES * ANSWER_S + (TRIES - 1) * AGAIN_S + 1, abs=1)
    agent.silent.clear()
    agent.evidence.hear("session_end")
    agent.settle()
    assert agent.events[-1] == "checkpoint"


def test_a_log_that_was_tampered_with_is_a_problem_that_people_see(agent: Agent) -> None:
    agent.evidence.hear("session_end")
    agent.settle()
    data = agent.path.read_bytes()
    agent.evidence.hear("session_end")
    agent.path.write_bytes(agent.path.read_bytes().replace(b"checkpoint", b"checkpaint"))
    assert agent.path.stat().st_size > len(data)
    agent.settle()
    assert agent.troubles == ["audit_broken"]


def test_an_update_stands_in_the_log_with_its_beginning_and_its_end_and_is_sealed(
    in_process: Callable[[], InProcessTerminal], desk: Desk
) -> None:
    terminal = in_process()
    update = terminal.ask("update", source=str(desk.bundles["2.0.0"]))["id"]
    terminal.run_until(lambda one: one.state is State.SELFTEST)
    assert terminal.run_to_idle()["outcome"] == "committed"
    terminal.settle()
    begun, ended, sealed = terminal.ask("audit")["records"]
    assert (begun["event"], begun["id"], begun["by"]) == ("update_begun", update, "test")
    assert begun["source"].startswith("/")
    told = {"event": "update_ended", "id": update, "version": "2.0.0", "outcome": "committed", "code": "ok"}
    assert ended.items() >= told.items()
    assert sealed["event"] == "checkpoint"


def test_a_rollback_stands_in_the_log_and_is_sealed(in_process: Callable[[], InProcessTerminal], desk: Desk) -> None:
    terminal = in_process()
    terminal.ask("update", source=str(desk.bundles["3.0.0"]))
    assert terminal.run_to_idle()["outcome"] == "rolled_back"
    terminal.settle()
    records = terminal.ask("audit")["records"]
    assert [(one["event"], one.get("code")) for one in records] == [
        ("update_begun", None),
        ("update_ended", "selftest_failed"),
        ("checkpoint", None),
    ]


@pytest.mark.parametrize("count", [0, 201, "5", None, True])
def test_only_a_sensible_number_of_records_is_told(in_process: Callable[[], InProcessTerminal], count: Any) -> None:
    with pytest.raises(PosagentError, match="bad_request"):
        in_process().ask("audit", count=count)


def test_a_log_that_cannot_be_read_is_told(agent: Agent) -> None:
    agent.evidence.hear("unlock")
    agent.path.unlink()
    agent.path.mkdir()
    with pytest.raises(PosagentError, match="audit_unreadable"):
        agent.evidence.answer(5)
