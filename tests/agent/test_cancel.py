"""Every cancel answer in every state, before and after a restart of the agent, on a whole terminal."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from posagent.core.errors import PosagentError
from posagent.core.model import State
from posagent.core.ports import Message
from posagent.core.states import SPECS
from posagent.sim.inprocess import InProcessTerminal
from posagent.sim.layout import set_power
from tests.conftest import Desk

Make = Callable[[], InProcessTerminal]


def reach(terminal: InProcessTerminal, state: State, desk: Desk) -> None:
    """Bring the terminal into a state of a real update."""
    if state is State.IDLE:
        return
    if state is State.READY:
        set_power(terminal.layout, battery=20, mains=False)  # enough to download, not to install
    version = "3.0.0" if state is State.ROLLBACK else "2.0.0"
    terminal.ask("update", source=str(desk.bundles[version]))
    terminal.run_until(lambda one: one.state is state)


def refusal(terminal: InProcessTerminal) -> PosagentError:
    with pytest.raises(PosagentError) as caught:
        terminal.ask("cancel")
    return caught.value


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "after a restart"])
@pytest.mark.parametrize("state", list(State))
def test_cancel(state: State, restarted: bool, in_process: Make, desk: Desk) -> None:
    terminal = in_process()
    reach(terminal, state, desk)
    if restarted:
        terminal.start_agent()
        assert terminal.state is state
    before = terminal.layout.slot("b").read_bytes()
    if state is State.IDLE:
        assert refusal(terminal).code == "nothing_to_cancel"
    elif SPECS[state].critical:
        error = refusal(terminal)
        assert error.code == "critical_section" and error.facts["expected_s"] > 0
        assert terminal.state is state
        wanted = "rolled_back" if state is State.ROLLBACK else "committed"
        assert terminal.run_to_idle()["outcome"] == wanted, "a refused cancel stays refused"
    else:
        assert terminal.ask("cancel") == {"cancelled": True}
        assert terminal.run_to_idle()["outcome"] == "cancelled"
        set_power(terminal.layout, battery=90, mains=True)
        terminal.start_agent()
        assert terminal.state is State.IDLE
        assert terminal.layout.slot("b").read_bytes() == before, "an acknowledged cancel never installs"


def test_a_cancelled_download_is_resumed_by_the_next_request(in_process: Make, desk: Desk) -> None:
    terminal = in_process()
    reach(terminal, State.VERIFY, desk)
    terminal.ask("cancel")
    assert list(terminal.layout.spool.glob("*.bundle")), "what was downloaded stays"
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    assert terminal.run_to_idle()["outcome"] == "committed"
    terminal.settle()
    assert list(terminal.layout.spool.iterdir()) == [], "nothing is left after the commit"


def test_a_newer_bundle_takes_the_place_of_one_that_waits(in_process: Make, desk: Desk) -> None:
    terminal = in_process()
    reach(terminal, State.READY, desk)
    terminal.ask("update", source=str(desk.bundles["3.0.0"]))
    assert terminal.state is State.DOWNLOAD and terminal.situation.failure is None
    set_power(terminal.layout, battery=90, mains=True)
    assert terminal.run_to_idle()["version"] == "3.0.0"
    history = terminal.ask("history")["history"]
    assert [(one["version"], one["outcome"], one["code"]) for one in history] == [
        ("2.0.0", "cancelled", "superseded"),
        ("3.0.0", "rolled_back", "selftest_failed"),
    ]
    assert len({one["id"] for one in history}) == 2


def test_the_very_bundle_that_waits_is_not_taken_again(in_process: Make, desk: Desk) -> None:
    """Known by the digest that the repository announced."""
    terminal = in_process()
    set_power(terminal.layout, battery=20, mains=False)
    bundle = desk.bundles["2.0.0"]
    offer = {"version": "2.0.0", "length": bundle.stat().st_size, "sha256": hashlib.sha256(bundle.read_bytes())}
    offer |= {"url": str(bundle), "room": 1 << 30, "sha256": hashlib.sha256(bundle.read_bytes()).hexdigest()}
    offer |= {"payloads": [], "conditions": [], "contents": [], "not_after": 0, "reason": ""}
    terminal._actors._workers.fetcher._verbs["look"] = lambda _: iter([{"result": {"offer": offer}}])  # type: ignore

    def ask() -> list[Message]:
        told: list[Message] = []
        terminal.api.call("update", {}, told.append, "somebody")
        terminal.run_until(lambda _: bool(told))
        return told

    assert "result" in ask()[0]
    terminal.run_until(lambda one: one.state is State.READY)
    assert ask()[0]["error"]["code"] == "same_bundle" and terminal.state is State.READY


@pytest.mark.parametrize("cancelled", [False, True], ids=["while it waits", "after a cancel"])
def test_a_swapped_stick_is_read_again(cancelled: bool, in_process: Make, desk: Desk, short_path: Path) -> None:
    """Same path, another file: what was asked for is what is on the stick now."""
    terminal, stick = in_process(), short_path / "update.bundle"
    set_power(terminal.layout, battery=20, mains=False)
    shutil.copy(desk.bundles["2.0.0"], stick)
    terminal.ask("update", source=str(stick))
    terminal.run_until(lambda one: one.state is State.READY)
    shutil.copy(desk.bundles["3.0.0"], stick)
    if cancelled:
        terminal.ask("cancel")
    terminal.ask("update", source=str(stick))
    set_power(terminal.layout, battery=90, mains=True)
    assert terminal.run_to_idle()["version"] == "3.0.0"


def test_a_committed_update_leaves_the_right_image_in_the_right_slot(in_process: Make, desk: Desk) -> None:
    terminal = in_process()
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    assert terminal.run_to_idle()["outcome"] == "committed"
    image = desk.images["2.0.0"].read_bytes()
    slot = terminal.layout.slot("b").read_bytes()[: len(image)]
    assert hashlib.sha256(slot).digest() == hashlib.sha256(image).digest()
    status = terminal.ask("status")
    assert (status["booted"], status["slots"]["b"]["version"]) == ("b", "2.0.0")


def test_a_version_that_does_not_boot_is_left_by_the_bootloader_and_reported(in_process: Make, desk: Desk) -> None:
    terminal = in_process()
    terminal.ask("update", source=str(desk.bundles["4.0.0"]))
    outcome = terminal.run_to_idle()
    assert (outcome["outcome"], outcome["code"]) == ("rolled_back", "boot_failed")
    status = terminal.ask("status")
    assert status["booted"] == "a" and status["slots"]["b"]["state"] == "bad"
    assert terminal.boots == 1 + 3 + 1


def test_there_and_back_again(in_process: Make, desk: Desk) -> None:
    """A -> B with a good version, then a bad one into A, then still on B."""
    terminal = in_process()
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    assert terminal.run_to_idle()["outcome"] == "committed"
    terminal.ask("update", source=str(desk.bundles["3.0.0"]))
    assert terminal.run_to_idle()["code"] == "selftest_failed"
    assert terminal.ask("status")["booted"] == "b"
    assert [one["version"] for one in terminal.ask("history")["history"]] == ["2.0.0", "3.0.0"]


def test_a_power_cut_after_any_step_of_an_update_ends_committed(in_process: Make, desk: Desk) -> None:
    """One cut a run, after every single step, with everything in memory lost."""
    cut_in: set[State] = set()
    for steps in range(1000):
        terminal = in_process()
        terminal.ask("update", source=str(desk.bundles["2.0.0"]))
        for _ in range(steps):
            terminal.step()
        if terminal.state is State.IDLE:
            break
        cut_in.add(terminal.state)
        terminal.boot()
        outcome = terminal.run_to_idle()
        assert outcome["outcome"] == "committed", (steps, outcome)
        assert terminal.ask("status")["booted"] == "b"
    assert cut_in == {State.DOWNLOAD, State.VERIFY, State.READY, State.INSTALL, State.ACTIVATE, *AFTER_BOOT}


AFTER_BOOT = (State.SELFTEST, State.COMMIT)
