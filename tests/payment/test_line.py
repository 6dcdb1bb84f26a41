"""The client library against the real socket: it tells what is held, and never keeps a customer waiting."""

from __future__ import annotations

import select
import socket
import time
from pathlib import Path

import pytest

from posagent.payment import Holds
from posagent.payment.line import RETRY_S, TIMEOUT_S
from tests.payment.process import AgentProcess

pytestmark = pytest.mark.real


class Clock:
    """The real one, that can be put forward."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


def news(line: Holds) -> None:
    """Wait until the agent says something, and read it."""
    select.select([line], [], [])
    line.tick()


def seconds_of(line: Holds, payments: int) -> float:
    """How long so many payments take that need no time themselves. Bounds on it are wide: the machine may be busy."""
    before = time.monotonic()
    for _ in range(payments):
        with line.hold("transaction") as held:
            assert held.granted
    return time.monotonic() - before


def test_a_payment_is_held_while_it_lasts(agent: AgentProcess) -> None:
    line = Holds(agent.path, "acme")
    with line.hold("transaction") as held:
        assert held.granted and line.outlook["may_hold"] and "error" not in line.outlook
        told = agent.held("transaction")
        assert not told["open"] and told["reason"] == "a payment is under way"
        with line.hold("card_in_reader"):
            agent.held("card_in_reader", "transaction")
        agent.held("transaction")
        line.paid()
    assert agent.held()["open"]
    assert {"noted": 1} in agent.heard


def test_a_payment_that_fails_lets_go_too(agent: AgentProcess) -> None:
    line = Holds(agent.path, "acme")
    with pytest.raises(ZeroDivisionError), line.hold("transaction"):
        agent.held("transaction")
        raise ZeroDivisionError
    assert agent.held()["open"]


def test_a_hold_may_last_longer_than_a_block(agent: AgentProcess) -> None:
    line = Holds(agent.path, "acme")
    batch = line.hold("unsettled_batch")
    assert agent.held("unsettled_batch")["reason"] == "the batch must be settled before this update"
    batch.release()
    batch.release()
    assert agent.held()["open"]


def test_who_dies_lets_go(agent: AgentProcess) -> None:
    line = Holds(agent.path, "acme")
    line.hold("transaction")
    agent.held("transaction")
    line.close()
    assert agent.hear(lambda one: one.get("sessions") == 0)["holds"] == []


def test_when_the_restart_has_begun_no_payment_is_granted(agent: AgentProcess) -> None:
    line = Holds(agent.path, "acme")
    agent.tell(state="activate", may_hold=False, expected_s=80)
    with line.hold("transaction") as held:
        assert not held.granted and line.outlook["expected_s"] == 80
    agent.tell(state="idle")
    assert line.hold("transaction").granted


def test_news_come_without_asking_and_questions_are_answered(agent: AgentProcess) -> None:
    line = Holds(agent.path, "acme")
    agent.tell(state="ready", question="q1")
    while line.question is None:
        news(line)
    assert line.question["text"] == "Now?" and line.outlook["state"] == "ready"
    line.answer("q1", yes=False)
    answered = agent.hear(lambda one: "answer" in one)
    assert answered["yes"] is False and answered["by"].startswith("acme (uid ")


def test_without_an_agent_payments_go_on_at_once(short_path: Path) -> None:
    clock = Clock()
    line = Holds(str(short_path / "none.sock"), "acme", clock=clock)
    for _ in range(20):
        assert seconds_of(line, 1) < 10 * TIMEOUT_S
        assert not line.connected and line.fileno() == -1
        clock.ahead_s += RETRY_S


def test_without_an_agent_nothing_is_paid_on_the_data_of_a_version_on_trial(short_path: Path, tmp_path: Path) -> None:
    trial = tmp_path / "current.trial"
    line = Holds(str(short_path / "none.sock"), "acme", trial=str(trial))
    trial.touch()
    with line.hold("transaction") as held:
        assert not held.granted
    trial.unlink()
    with line.hold("transaction") as held:
        assert held.granted


def test_an_agent_that_hangs_is_waited_for_once_and_heard_again_when_it_wakes(agent: AgentProcess) -> None:
    line = Holds(agent.path, "acme")
    with line.hold("transaction"):
        agent.held("transaction")
    agent.held()
    agent.freeze()
    first = seconds_of(line, 1)
    assert TIMEOUT_S <= first < 10 * TIMEOUT_S
    assert seconds_of(line, 20) < 10 * TIMEOUT_S, "not once more in each of them"
    last = line.hold("card_in_reader")
    agent.thaw()
    agent.held("card_in_reader")
    while line._deaf:
        news(line)
    last.release()
    agent.held()


def test_an_agent_that_reads_nothing_for_hours_stops_no_payment(agent: AgentProcess) -> None:
    """The socket's buffer fills; half a line is thrown away with the connection."""
    line = Holds(agent.path, "acme")
    agent.freeze()
    filled = False
    for _ in range(20_000):
        with line.hold("transaction") as held:
            assert held.granted
        filled = filled or not line.connected
        if filled:
            break
    assert filled
    agent.thaw()


def test_an_agent_that_starts_again_hears_of_the_payment_under_way(agent: AgentProcess) -> None:
    clock = Clock()
    line = Holds(agent.path, "acme", clock=clock)
    with line.hold("transaction"):
        agent.held("transaction")
        agent.down()
        agent.up()
        line.tick()
        agent.held("transaction")
    agent.held()
    agent.down()
    line.tick()
    assert not line.connected
    agent.up()
    clock.ahead_s += RETRY_S
    with line.hold("printing"):
        agent.held("printing")


def test_the_lease_is_renewed_by_ticking(agent: AgentProcess) -> None:
    clock = Clock()
    line = Holds(agent.path, "acme", lease_s=60, clock=clock)
    sent = line._sent
    line.tick()
    assert line._sent == sent
    clock.ahead_s += 20
    line.tick()
    assert line._sent == sent + 1


def test_a_name_that_is_refused_is_told_and_not_tried_all_the_time(agent: AgentProcess) -> None:
    line = Holds(agent.path, "no name")
    assert line.hold("transaction").granted
    assert line.outlook["error"]["code"] == "bad_request" and not line.connected


@pytest.mark.parametrize(
    "nonsense", [b"?\n", b"[]\n", b'{"progress": 3}\n', b"x" * 300_000, b'{"progress": {"seq": {}}}\n']
)
def test_an_agent_that_talks_nonsense_stops_no_payment(short_path: Path, nonsense: bytes) -> None:
    path = str(short_path / "api.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        line = Holds(path, "acme")
        connection, _ = listener.accept()
        connection.setblocking(False)
        try:
            connection.sendall(nonsense)
        except BlockingIOError:
            pass  # more than the buffer takes
        assert seconds_of(line, 1) < 10 * TIMEOUT_S
