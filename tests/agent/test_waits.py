"""For how long gates were closed: counted while work waits for them, and told in the record of the update."""

from __future__ import annotations

from collections.abc import Callable

from posagent.agent.waits import Waits
from posagent.core.model import Decision, Facts, Gate, Situation, State, Update
from posagent.core.update_record import shown
from posagent.evidence_texts import GATES
from posagent.sim.inprocess import InProcessTerminal
from posagent.sim.layout import set_power
from posagent.sim.virtual import VirtualTime
from tests.conftest import Desk
from tests.planted import CARDS, card_numbers

UPDATE = Update(id="u", source="s", spool="s", target="b", previous="a")
READY = Situation(state=State.READY, update=UPDATE)


def facts(*names: str, reason: str = "r") -> Facts:
    gates = (Gate(name=name, needed_for=State.INSTALL, open=False, reason=reason, reason_zh="r") for name in names)
    return Facts(gates=tuple(gates))


def seconds(told: Facts) -> dict[str, float]:
    return {name: one["s"] for name, one in told.waited.items()}


def test_a_gate_counts_from_one_look_to_the_next_until_a_record_has_it() -> None:
    time = VirtualTime()
    waits = Waits(time)
    assert seconds(waits.added(facts("window", "payment"), READY, False)) == {}
    time.let_pass(30)
    assert seconds(waits.added(facts("window"), READY, False)) == {"window": 30, "payment": 30}
    waits.settled(Decision(situation=READY), False)
    time.let_pass(12)
    assert seconds(waits.added(facts(), READY, False)) == {"window": 42, "payment": 30}
    waits.settled(Decision(situation=READY, record={}), False)
    time.let_pass(5)
    assert seconds(waits.added(facts(), READY, False)) == {}


def test_every_gate_that_there_is_has_words(in_process: Callable[[], InProcessTerminal], desk: Desk) -> None:
    terminal = in_process()
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    seen: set[str] = set()
    while terminal.state is not State.IDLE:
        seen |= {gate["gate"] for gate in terminal.ask("status")["gates"]}
        terminal.step()
    assert {"power_install", "power_restart"} < seen <= GATES.keys()


def test_work_that_has_begun_and_idleness_wait_for_nothing() -> None:
    time = VirtualTime()
    waits = Waits(time)
    for situation, working in ((READY, True), (Situation(), False)):
        waits.added(facts("window"), situation, working)
        waits.settled(Decision(situation=situation), working)
        time.let_pass(30)
        assert seconds(waits.added(facts("window"), situation, working)) == {}


def test_a_reason_is_kept_without_card_numbers() -> None:
    time = VirtualTime()
    for number in CARDS:
        waits = Waits(time)
        waits.added(facts("payment", reason=f"acme-pay: {number} in the reader"), READY, False)
        time.let_pass(1)
        (kept,) = waits.added(facts(), READY, False).waited.values()
        assert card_numbers(kept["why"]) == [] and kept["why"].startswith("acme-pay: [card]")


def test_an_update_that_waited_for_its_charger_says_for_how_long(
    in_process: Callable[[], InProcessTerminal], desk: Desk
) -> None:
    terminal = in_process()
    set_power(terminal.layout, battery=20, mains=False)
    update = terminal.ask("update", source=str(desk.bundles["2.0.0"]))["id"]
    terminal.run_until(lambda one: one.state is State.READY)
    began = terminal.time.monotonic()
    terminal.run_until(lambda one: one.time.monotonic() > began + 100)
    terminal.ask("defer", hours=1)
    terminal.ask("update", now=True)
    terminal.ask("confirm")
    set_power(terminal.layout, battery=80, mains=True)
    assert terminal.run_to_idle()["outcome"] == "committed"
    (outcome,) = terminal.ask("history")["history"]
    told = shown(outcome, "t")
    waited = {gate["gate"]: gate["seconds"] for gate in told["gates"]}
    assert 90 <= waited["power_install"] <= told["phases"]["ready"]
    assert told["gates"][0]["why"].startswith("battery"), told["gates"]
    assert (told["id"], told["by"], told["result"]) == (update, "test", "SUCC")
    assert (told["consent"]["by"], told["deferrals"], told["deferred_by"]) == ("test", 1, "test")
    assert {"download", "verify", "install", "activate", "selftest", "commit"} <= told["phases"].keys()
    assert told["digests"]["image"] == told["digests"]["slot"] != ""


def test_the_line_in_the_audit_log_has_the_record(in_process: Callable[[], InProcessTerminal], desk: Desk) -> None:
    terminal = in_process()
    terminal.ask("update", source=str(desk.bundles["3.0.0"]))
    terminal.run_to_idle()
    ended = next(one for one in terminal.ask("audit")["records"] if one["event"] == "update_ended")
    assert (ended["result"], ended["by"]) == ("INVC", "test")
    assert {"install", "activate", "selftest", "rollback"} <= ended["phases"].keys() and "image" in ended["digests"]
