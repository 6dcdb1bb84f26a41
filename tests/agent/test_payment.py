"""Payment applications on the API: nothing that one says wrongly drops a hold, whoever is silent is missed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.agent import payment_line
from posagent.agent.api import AgentApi
from posagent.agent.errand import Deadlines, Workers
from posagent.agent.inspection import Inspection
from posagent.agent.payment import SESSIONS_MAX, Answer, PaymentRules, Payments
from posagent.core.errors import CATALOGUE, PosagentError
from posagent.core.holds import Outlook, Question
from posagent.core.model import State
from posagent.core.ports import Message
from posagent.sim.virtual import LocalWorker, VirtualTime

LINE = {"name": "acme", "lease_s": 60, "holds": []}


class Agent:
    """Payments in virtual time, and what they told the rest of the agent."""

    def __init__(self, *, required: bool = False) -> None:
        self.time = VirtualTime()
        self.outlook = Outlook()
        self.changes: list[bool] = []
        """Whether the gate was open after each change."""
        self.noted: list[int] = []
        self.answers: list[Answer] = []
        self.payments = Payments(
            clock=self.time,
            timers=self.time,
            rules=PaymentRules(required=required),
            outlook=lambda: self.outlook,
            on_change=lambda: self.changes.append(self.is_open()),
            on_noted=self.noted.append,
            on_answer=self.answers.append,
        )

    def is_open(self) -> bool:
        return self.payments.gate(State.INSTALL).open

    @property
    def problems(self) -> list[str]:
        return [problem.code for problem in self.payments.problems()]

    def pass_s(self, seconds: float) -> None:
        """Let time pass, and whatever is due in it happen."""
        done: list[bool] = []
        self.time.call_later(seconds, lambda: done.append(True))
        while not done:
            self.time.step()


class Application:
    """One connection, as the API server passes its lines on."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.told: list[Message] = []
        self._reply = self.told.append
        self._hang_up: Callable[[], None] = lambda: None

    def say(self, *reasons: str, **args: Any) -> Message:
        """A line, and what comes back."""
        self.hang_up()
        line = {**LINE, "holds": [{"reason": reason} for reason in reasons], **args}
        self._hang_up = self.agent.payments.line(line, self._reply, "uid 7")
        last: Message = self.told[-1]["progress"]
        return last

    def hang_up(self) -> None:
        self._hang_up()

    def close(self) -> None:
        self._hang_up()
        self.agent.pass_s(0)


def test_a_hold_closes_the_gate_until_it_is_released() -> None:
    agent = Agent()
    application = Application(agent)
    assert application.say() == {"state": "idle", "may_hold": True, "expected_s": None, "question": None}
    application.say("transaction")
    assert not agent.is_open()
    application.say()
    assert agent.is_open() and agent.changes == [True, False, True]


def test_the_next_line_of_a_connection_never_lets_go_for_an_instant() -> None:
    agent = Agent()
    application = Application(agent)
    for reasons in (["transaction"], ["transaction", "card_in_reader"], ["printing"]):
        application.say(*reasons)
        agent.pass_s(1)
    assert agent.changes == [False, False, False]


def test_the_end_of_the_connection_releases() -> None:
    agent = Agent()
    application = Application(agent)
    application.say("transaction")
    application.hang_up()
    assert not agent.is_open(), "another line may still follow in this turn"
    agent.pass_s(0)
    assert agent.is_open() and agent.payments.sessions == ()


def test_a_renewed_lease_holds_on_and_tells_nobody() -> None:
    agent = Agent()
    application = Application(agent)
    for _ in range(10):
        application.say("transaction")
        agent.pass_s(59)
    assert agent.changes == [False] and agent.problems == []


def test_who_is_silent_closes_the_gate_and_raises_the_alarm_until_he_is_back() -> None:
    agent = Agent()
    application = Application(agent)
    application.say()
    agent.pass_s(59.9)
    assert agent.is_open() and agent.changes == [True]
    agent.pass_s(0.1)
    assert not agent.is_open() and agent.problems == ["payment_silent"] and agent.changes == [True, False]
    agent.pass_s(86400)
    assert not agent.is_open() and agent.changes == [True, False], "for ever, and told once"
    application.say()
    assert agent.is_open() and agent.problems == [] and agent.changes == [True, False, True]


def test_the_alarm_says_what_was_held() -> None:
    agent = Agent()
    Application(agent).say("card_in_reader", "transaction")
    agent.pass_s(75)
    [problem] = agent.payments.problems()
    assert problem.detail == "acme: silent for 75 s; it held: card_in_reader, transaction"
    assert problem.as_dict()["remedy"] and problem.facts["detail_zh"]


def test_a_required_application_is_waited_for_and_missed_after_the_grace() -> None:
    agent = Agent(required=True)
    assert not agent.is_open() and agent.problems == []
    agent.pass_s(60)
    assert agent.problems == ["payment_absent"] and agent.changes == [False]
    application = Application(agent)
    application.say()
    assert agent.is_open() and agent.problems == []
    application.close()
    assert not agent.is_open() and agent.problems == [], "it may be starting again"
    agent.pass_s(60)
    assert agent.problems == ["payment_absent"]


def test_an_application_that_started_again_takes_the_place_of_its_silent_self() -> None:
    """The old connection is still open: a child process has inherited it."""
    agent = Agent()
    Application(agent).say("transaction")
    agent.pass_s(60)
    Application(agent).say()
    assert agent.is_open() and len(agent.payments.sessions) == 1


def test_one_that_is_heard_of_is_not_replaced_by_another_of_its_name() -> None:
    agent = Agent()
    Application(agent).say("transaction")
    Application(agent).say()
    assert not agent.is_open() and len(agent.payments.sessions) == 2


def test_sessions_are_bounded_and_the_one_too_many_changes_nothing() -> None:
    agent = Agent()
    applications = [Application(agent) for _ in range(SESSIONS_MAX)]
    for application in applications:
        application.say("transaction")
    with pytest.raises(PosagentError, match="payment_full"):
        Application(agent).say()
    applications[0].close()
    Application(agent).say()
    assert len(agent.payments.sessions) == SESSIONS_MAX


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("name", "", "name"),
        ("name", "other", "acme"),
        ("name", "a b", "name"),
        ("lease_s", 4, "lease_s"),
        ("lease_s", 301, "lease_s"),
        ("lease_s", 60.0, "lease_s"),
        ("lease_s", True, "lease_s"),
        ("holds", None, "holds"),
        ("holds", {}, "holds"),
        ("holds", [{"reason": "printing"}] * 17, "holds"),
        ("holds", ["transaction"], "hold"),
        ("holds", [{"reason": "lunch"}], "transaction, card_in_reader"),
        ("holds", [{"reason": "printing", "since": 3}], "since_s"),
        ("holds", [{"reason": "printing", "since_s": -1}], "since_s"),
        ("holds", [{"reason": "printing", "since_s": float("nan")}], "since_s"),
        ("holds", [{"reason": "printing", "since_s": 10**400}], "since_s"),
        ("holds", [{"reason": "printing", "since_s": True}], "since_s"),
        ("hold", [], "'hold'"),
        ("payments", -1, "payments"),
        ("payments", 10_001, "payments"),
        ("answer", {"question": "q"}, "answer"),
        ("answer", {"question": "q", "answer": "no"}, "yes, later"),
        ("answer", {"question": "", "answer": "yes"}, "question"),
        ("seq", -1, "seq"),
        ("seq", 2**53, "seq"),
    ],
)
def test_a_line_that_is_not_understood_is_refused_and_drops_no_hold(key: str, value: Any, named: str) -> None:
    agent = Agent()
    application = Application(agent)
    application.say("transaction")
    agent.pass_s(50)
    refused = application.say(**{key: value})
    assert refused["error"]["code"] == "bad_request" and named in refused["error"]["detail"]
    agent.pass_s(9)
    assert agent.problems == [] and not agent.is_open()
    agent.pass_s(1)
    assert agent.problems == ["payment_silent"], "it renewed nothing"
    application.close()
    assert agent.is_open(), "the connection is still the one that holds"


@given(
    st.dictionaries(
        st.sampled_from([*payment_line.KEYS, "hold"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("transaction"),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["reason", "since_s", "question", "answer"]), inner, max_size=3)
            ),
            max_leaves=8,
        ),
    )
)
def test_whatever_is_said_is_understood_or_refused_with_a_code(args: dict[str, Any]) -> None:
    try:
        said = payment_line.read({**LINE, **args}, 300)
    except PosagentError as error:
        assert error.code == "bad_request" and error.detail
    else:
        assert 5 <= said.lease_s <= 300 and len(said.holds) <= payment_line.HOLDS_MAX


def test_since_when_is_what_the_application_says_or_when_it_was_first_heard_of() -> None:
    agent = Agent()
    application = Application(agent)
    application.say("printing")
    agent.pass_s(10)
    application.say("printing", "transaction")
    assert [hold.since_s for hold in agent.payments.sessions[0].holds] == [0.0, 10.0]
    application.say(holds=[{"reason": "printing", "since_s": 3}])
    assert [hold.since_s for hold in agent.payments.sessions[0].holds] == [7.0]


def test_payments_are_noted_and_answers_passed_on() -> None:
    agent = Agent()
    application = Application(agent)
    application.say(payments=3)
    application.say()
    application.say(payments=1, answer={"question": "q1", "answer": "later"})
    application.say(answer={"question": "q1", "answer": "yes"})
    assert agent.noted == [3, 1]
    assert agent.answers == [
        Answer(question="q1", yes=False, by="acme (uid 7)"),
        Answer(question="q1", yes=True, by="acme (uid 7)"),
    ]


def test_news_are_told_and_time_that_passes_is_not() -> None:
    agent = Agent()
    application = Application(agent)
    application.say("transaction", seq=7)
    agent.payments.tell()
    assert len(application.told) == 1
    agent.outlook = Outlook(state=State.ACTIVATE, may_hold=False, expected_s=90.0)
    agent.payments.tell()
    assert application.told[-1]["progress"] == {
        "state": "activate",
        "may_hold": False,
        "expected_s": 90.0,
        "question": None,
        "seq": 7,
    }
    agent.pass_s(10)
    for expected_s, lines in ((80.0, 2), (79.0, 2), (70.0, 3), (40.0, 3)):
        agent.outlook = Outlook(state=State.ACTIVATE, may_hold=False, expected_s=expected_s)
        agent.payments.tell()
        assert len(application.told) == lines, expected_s


def test_a_question_is_told_with_the_seconds_it_stays() -> None:
    agent = Agent()
    application = Application(agent)
    application.say()
    question = Question(id="q1", text="Install now?", text_zh="现在安装吗？", expires_at_s=600.0)
    agent.outlook = Outlook(state=State.READY, question=question)
    agent.pass_s(30)
    agent.payments.tell()
    assert application.told[-1]["progress"]["question"] == {
        "id": "q1",
        "text": "Install now?",
        "text_zh": "现在安装吗？",
        "expires_s": 570.0,
    }
    agent.outlook = Outlook(state=State.READY)
    agent.payments.tell()
    assert application.told[-1]["progress"]["question"] is None


def test_what_goes_wrong_in_the_agent_neither_loses_the_hold_nor_keeps_it_for_ever() -> None:
    agent = Agent()
    trouble = PosagentError("journal_io")

    def fail() -> None:
        raise trouble

    application = Application(agent)
    agent.payments._on_change = fail
    assert application.say("transaction")["error"]["code"] == "journal_io"
    assert not agent.is_open()
    agent.payments._on_change = lambda: None
    application.close()
    assert agent.is_open()


def test_lines_that_put_the_lease_off_leave_one_timer() -> None:
    agent = Agent()
    application = Application(agent)
    application.say()
    for _ in range(1000):
        application.say()
        agent.pass_s(0.001)
    assert len(agent.time._timers) == 1


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["line", "bad", "close"]), st.floats(0, 40), st.booleans()),
        max_size=30,
    )
)
def test_a_hold_is_in_force_from_its_line_to_its_release_whatever_happens_between(
    events: list[tuple[int, str, float, bool]],
) -> None:
    """Against a model: what each connection said last, and when."""
    agent = Agent()
    applications = [Application(agent) for _ in range(3)]
    said: dict[int, tuple[float, bool]] = {}
    for who, what, wait_s, holds in events:
        application = applications[who]
        if what == "line":
            application.say(*(["transaction"] if holds else []), name=f"a{who}")
            said[who] = (agent.time.monotonic(), holds)
        elif what == "bad" and who in said:
            application.say(name=f"a{who}", lease_s=0)
        elif what == "close" and who in said:
            application.close()
            del said[who]
            applications[who] = Application(agent)
        agent.pass_s(wait_s)
        now_s = agent.time.monotonic()
        silent = [who for who, (heard_s, _) in said.items() if now_s >= heard_s + 60]
        assert agent.is_open() is (not silent and not any(holds for _, holds in said.values()))
        assert len(agent.problems) == len(silent)


def test_the_codes_are_in_the_catalogue() -> None:
    assert {"payment_silent", "payment_absent", "payment_full"} <= CATALOGUE.keys()


def test_the_api_passes_lines_on_and_has_no_such_verb_where_nobody_listens(in_process: Callable[[], Any]) -> None:
    agent, terminal = Agent(), in_process()
    with pytest.raises(PosagentError, match="unknown_verb"):
        terminal.ask("payment", **LINE)
    worker = LocalWorker({}, agent.time)
    workers = Workers(installer=worker, fetcher=worker, selftest=worker, support=worker)
    api = AgentApi(
        engine=terminal._engine,
        fetcher=worker,
        terminal="t",
        payments=agent.payments,
        inspection=Inspection(workers=workers, timers=agent.time, clock=agent.time, deadlines=Deadlines()),
    )
    told: list[Message] = []
    api.call("payment", {**LINE, "lease_s": 1}, told.append, "uid 7")
    assert told.pop()["error"]["code"] == "bad_request" and agent.payments.sessions == ()
    hang_up = api.call("payment", {**LINE, "holds": [{"reason": "transaction"}]}, told.append, "uid 7")
    assert told.pop()["progress"]["may_hold"] and not agent.is_open()
    api.call("payment", {"holds": 3}, told.append, "uid 7")
    assert told.pop()["progress"]["error"]["code"] == "bad_request" and not agent.is_open()
    hang_up()
    agent.pass_s(0)
    assert not agent.is_open(), "only the last line's hang-up counts"
