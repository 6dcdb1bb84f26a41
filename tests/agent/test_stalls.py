"""A worker that hangs is given up after its deadline; only an agent that cannot even do that stops petting."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from posagent.core.model import State
from posagent.sim.inprocess import InProcessTerminal
from tests.conftest import Desk

Make = Callable[[], InProcessTerminal]


@pytest.mark.parametrize(
    ("state", "verb"), [(State.DOWNLOAD, "fetch"), (State.VERIFY, "check"), (State.INSTALL, "write")]
)
def test_work_without_progress_is_begun_again(state: State, verb: str, in_process: Make, desk: Desk) -> None:
    terminal = in_process()
    terminal.silent.add(verb)
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    terminal.run_until(lambda one: one.state is state and one.situation.failure is not None)
    assert terminal.situation.failure is not None
    assert terminal.situation.failure["code"] == "worker_stalled"
    assert terminal.healthy, "the agent itself did what it should"
    terminal.silent.clear()
    assert terminal.run_to_idle()["outcome"] == "committed"


def test_a_self_test_without_end_is_a_failed_one(in_process: Make, desk: Desk) -> None:
    terminal = in_process()
    terminal.silent.add("run")
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    outcome = terminal.run_to_idle()
    assert (outcome["outcome"], outcome["code"]) == ("rolled_back", "selftest_deadline")
    assert terminal.ask("status")["booted"] == "a"
