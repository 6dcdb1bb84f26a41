"""A terminal and its fleet server in virtual time: every way an action may go, with power and network lost anywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from posagent.agent.api import AgentApi
from posagent.agent.conditions import Conditions
from posagent.agent.engine import Engine
from posagent.agent.fleet import Fleet
from posagent.core.model import State
from posagent.fetcher.ddi import Ddi
from posagent.sim.inprocess import InProcessTerminal
from posagent.sim.layout import set_power
from posagent.sim.virtual import LocalWorker
from tests.conftest import Desk
from tests.fleet.server import BASE, Action, Server

LONG_S = 3600.0


class FleetTerminal(InProcessTerminal):
    """One that asks `server`."""

    server: Server
    distribution = "acme-pos"
    step_s = 0.01
    """How long the server takes for each of its answers."""

    def _fleet_line(self, engine: Engine, conditions: Conditions, api: AgentApi) -> Fleet:
        line = Fleet(
            engine=engine,
            worker=LocalWorker({"exchange": self.ddi().exchange}, self.time, step_s=self.step_s),
            begin=api.begin,
            cancel=api.cancel,
            timers=self.time,
            clock=self.time,
            files=self._parts.files,
            path=f"{self._parts.config.terminal.state_dir}/fleet.json",
            hardware=("sim-pos", 1),
            draw=lambda: 0.5,
            poll_s=10.0,
            distribution=self.distribution,
        )
        api.fleet, conditions.fleet = line.told, line.gate
        return line

    def ddi(self) -> Ddi:
        """How it asks."""
        return Ddi(self.server, BASE, "t")

    def until(self, reached: Callable[[], object], timeout_s: float = LONG_S) -> None:
        """Raises AssertionError with the state."""
        deadline = self.time.monotonic() + timeout_s
        while not reached():
            assert self.time.monotonic() < deadline, f"not reached; {self.state}, {self.ask('status')['fleet']}"
            self.step()

    def for_s(self, seconds: float) -> None:
        deadline = self.time.monotonic() + seconds
        while self.time.monotonic() < deadline:
            self.step()


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def terminal(in_process: Callable[..., Any], server: Server) -> FleetTerminal:
    made: FleetTerminal = in_process(kind=type("Mine", (FleetTerminal,), {"server": server}))
    return made


@pytest.fixture
def bundle(desk: Desk) -> Path:
    return Path(desk.bundles["2.0.0"])


def executions(action: Action) -> list[str]:
    return [str(one.get("execution", one.get("confirmation"))) for one in action.told]


def test_it_says_what_it_is_and_asks_as_often_as_it_is_told(terminal: FleetTerminal, server: Server) -> None:
    terminal.for_s(1000)
    assert server.attributes["version"] == "1.0.0" and server.attributes["hardware"] == "sim-pos"
    assert 90 <= server.requests <= 110
    told = terminal.ask("status")["fleet"]
    assert (told["failures"], told["letters"], told["sleep_s"]) == (0, 0, 10.0)


def test_a_forced_action_is_closed_after_the_commit_and_not_before(
    terminal: FleetTerminal, server: Server, bundle: Path
) -> None:
    action = server.deploy(bundle)
    terminal.until(lambda: terminal.state is State.SELFTEST)
    assert action.status == "running"
    terminal.until(lambda: action.status == "finished")
    assert terminal.ask("status")["slots"]["b"]["state"] == "booted"
    assert executions(action)[-1] == "closed" and "2.0.0 is confirmed" in action.told[-1]["details"][0]
    count = len(action.told)
    terminal.for_s(LONG_S)
    assert len(action.told) == count, "it is not told again"
    assert len(terminal.situation.outcomes) == 1
    assert server.attributes["version"] == "2.0.0"


def test_a_version_that_fails_is_closed_as_failure_with_the_reason(
    terminal: FleetTerminal, server: Server, desk: Desk
) -> None:
    action = server.deploy(Path(desk.bundles["3.0.0"]), version="3.0.0")
    terminal.until(lambda: action.status == "error")
    details = " ".join(action.told[-1]["details"])
    assert "rolled_back" in details and "running: 1.0.0" in details
    terminal.for_s(LONG_S)
    assert len(terminal.situation.outcomes) == 1, "it is not tried again"


@pytest.mark.parametrize("kind", ["soft", "forced"])
def test_soft_and_forced(terminal: FleetTerminal, server: Server, bundle: Path, kind: str) -> None:
    how = "attempt" if kind == "soft" else "forced"
    action = server.deploy(bundle, download=how, update=how)
    terminal.until(lambda: terminal.situation.update is not None)
    update = terminal.situation.update
    assert update is not None and update.at_once is (kind == "forced")
    terminal.until(lambda: action.status == "finished")


def test_soft_that_becomes_forced_hurries(terminal: FleetTerminal, server: Server, bundle: Path) -> None:
    set_power(terminal.layout, battery=5, mains=False)
    action = server.deploy(bundle, download="attempt", update="attempt")
    terminal.until(lambda: terminal.situation.update is not None)
    terminal.for_s(60)
    action.download = action.update = "forced"
    terminal.for_s(60)
    update = terminal.situation.update
    assert update is not None and update.at_once
    set_power(terminal.layout, battery=90, mains=True)
    terminal.until(lambda: action.status == "finished")


def test_low_power_is_told_as_what_it_waits_for(terminal: FleetTerminal, server: Server, bundle: Path) -> None:
    action = server.deploy(bundle)
    terminal.until(lambda: terminal.state is State.DOWNLOAD)
    set_power(terminal.layout, battery=20, mains=False)
    terminal.until(lambda: terminal.state is State.READY)
    terminal.for_s(120)
    assert action.status == "running"
    said = [one for one in action.told if one["execution"] == "scheduled"]
    assert said and "waits" in said[-1]["details"][0]
    set_power(terminal.layout, battery=90, mains=True)
    terminal.until(lambda: action.status == "finished")


def test_a_word_that_is_written_while_the_one_before_is_on_its_way_is_told_as_well(
    terminal: FleetTerminal, server: Server, bundle: Path
) -> None:
    type(terminal).step_s = 20.0
    terminal.start_agent()
    set_power(terminal.layout, battery=16, mains=False)
    action = server.deploy(bundle)
    terminal.until(lambda: action.told and "battery 16 %" in action.told[-1]["details"][0])
    set_power(terminal.layout, battery=23, mains=False)  # the server has answered, the exchange has not ended
    terminal.for_s(300)
    assert "battery 23 %" in action.told[-1]["details"][0], action.told
    assert terminal.ask("status")["fleet"]["letters"] == 0


def test_a_closed_window_lets_it_download_and_not_install(
    terminal: FleetTerminal, server: Server, bundle: Path
) -> None:
    action = server.deploy(bundle, update="skip", window="unavailable")
    terminal.until(lambda: terminal.state is State.READY)
    terminal.for_s(LONG_S)
    assert terminal.state is State.READY and action.status == "running", "a closed window is no success"
    closed = [gate["reason"] for gate in terminal.ask("status")["gates"] if not gate["open"]]
    assert closed == ["the fleet's maintenance window is closed"]
    action.update, action.window = "forced", "available"
    terminal.until(lambda: action.status == "finished")


def test_skip_does_not_even_download(terminal: FleetTerminal, server: Server, bundle: Path) -> None:
    action = server.deploy(bundle, download="skip", update="skip", window="unavailable")
    terminal.for_s(LONG_S)
    assert terminal.situation.update is None and action.status == "running"
    action.download = action.update = "attempt"
    action.window = "available"
    terminal.until(lambda: action.status == "finished")


def test_download_only_ends_with_the_download_and_a_later_action_installs_what_is_there(
    terminal: FleetTerminal, server: Server, bundle: Path
) -> None:
    first = server.deploy(bundle, update="skip")
    terminal.until(lambda: first.status == "downloaded")
    terminal.for_s(600)
    assert terminal.state is State.READY
    second = server.deploy(bundle)
    terminal.until(lambda: second.status == "finished")
    assert [one["outcome"] for one in terminal.situation.outcomes] == ["cancelled", "committed"]
    assert first.status == "downloaded"


def test_the_merchant_agrees(terminal: FleetTerminal, server: Server, bundle: Path) -> None:
    action = server.deploy(bundle, status="wait_for_confirmation")
    terminal.until(lambda: terminal.state is State.READY)
    terminal.for_s(600)
    assert terminal.state is State.READY and action.status == "wait_for_confirmation"
    terminal.ask("confirm")
    terminal.until(lambda: action.status == "finished")
    assert executions(action)[0] == "confirmed"


def test_the_merchant_does_not_agree(terminal: FleetTerminal, server: Server, bundle: Path) -> None:
    action = server.deploy(bundle, status="wait_for_confirmation")
    terminal.until(lambda: terminal.state is State.READY)
    terminal.ask("cancel")
    terminal.until(lambda: bool(action.told))
    terminal.for_s(LONG_S)
    assert executions(action) == ["denied"] and action.status == "wait_for_confirmation"
    assert len(terminal.situation.outcomes) == 1, "it is not begun again"


@pytest.mark.parametrize("state", ["download", "verify", "ready"])
def test_a_cancel_before_the_critical_section(
    terminal: FleetTerminal, server: Server, bundle: Path, state: str
) -> None:
    if state == "ready":
        set_power(terminal.layout, battery=20, mains=False)
    action = server.deploy(bundle)
    terminal.until(lambda: terminal.state is State(state))
    server.cancel(action)
    terminal.until(lambda: action.status in ("canceled", "finished"))
    if action.status == "canceled":
        assert terminal.situation.outcomes[-1]["outcome"] == "cancelled"
        assert executions(action)[-1] == "closed"
    terminal.for_s(LONG_S)
    assert len(terminal.situation.outcomes) == 1


@pytest.mark.parametrize("state", ["install", "activate", "selftest", "commit"])
def test_a_cancel_in_the_critical_section_is_refused_and_the_end_is_told(
    terminal: FleetTerminal, server: Server, bundle: Path, state: str
) -> None:
    action = server.deploy(bundle)
    terminal.until(lambda: terminal.state is State(state))
    server.cancel(action)
    terminal.until(lambda: action.status == "finished")
    assert terminal.situation.outcomes[-1]["outcome"] == "committed"


def test_a_cancel_of_what_was_never_begun(terminal: FleetTerminal, server: Server, bundle: Path) -> None:
    action = server.deploy(bundle)
    server.cancel(action)
    terminal.until(lambda: action.status == "canceled")
    assert not terminal.situation.outcomes


def test_two_bundles_one_after_the_other(terminal: FleetTerminal, server: Server, desk: Desk) -> None:
    action = server.deploy(Path(desk.bundles["2.0.0"]), Path(desk.bundles["3.0.0"]), version="9")
    terminal.until(lambda: action.status == "error")
    assert [one["outcome"] for one in terminal.situation.outcomes] == ["committed", "rolled_back"]


def test_what_runs_already_is_not_installed(terminal: FleetTerminal, server: Server, bundle: Path) -> None:
    action = server.deploy(bundle, version="1.0.0")
    terminal.until(lambda: action.status == "finished")
    assert not terminal.situation.outcomes and "runs already" in action.told[-1]["details"][0]


def test_a_deployment_without_a_bundle_is_a_failure(terminal: FleetTerminal, server: Server, tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("no bundle")
    action = server.deploy(tmp_path / "readme.txt")
    terminal.until(lambda: action.status == "error")


def test_an_update_that_somebody_else_has_begun_comes_first_and_is_reported(
    terminal: FleetTerminal, server: Server, desk: Desk
) -> None:
    set_power(terminal.layout, battery=20, mains=False)
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    action = server.deploy(Path(desk.bundles["3.0.0"]), version="3.0.0")
    terminal.until(lambda: any("another update" in " ".join(one["details"]) for one in action.told))
    set_power(terminal.layout, battery=90, mains=True)
    terminal.until(lambda: action.status == "error")
    assert [one["outcome"] for one in terminal.situation.outcomes] == ["committed", "rolled_back"]
    terminal.for_s(600)


def test_a_version_from_a_stick_is_reported_as_installed(terminal: FleetTerminal, server: Server, desk: Desk) -> None:
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    terminal.until(lambda: bool(server.installed))
    terminal.for_s(LONG_S)
    assert server.installed == [("acme-pos", "2.0.0")]


@pytest.mark.parametrize("at", [1, 2, 3, 4, 6, 8, 10, 12])
@pytest.mark.parametrize("what", ["refused", "lost", "cut"])
def test_whatever_message_is_lost_it_is_installed_once_and_told(
    terminal: FleetTerminal, server: Server, bundle: Path, what: str, at: int
) -> None:
    action, seen = server.deploy(bundle), [0]

    def here(method: str, path: str) -> bool:
        seen[0] += 1
        return seen[0] == at

    cut = [False]
    if what == "refused":
        server.fail = lambda method, path: 0 if here(method, path) else None
    else:

        def lost(method: str, path: str) -> bool:
            found = here(method, path)
            cut[0] = cut[0] or (found and what == "cut")
            return found

        server.lost = lost
    deadline = terminal.time.monotonic() + 2 * LONG_S
    while action.status != "finished":
        assert terminal.time.monotonic() < deadline
        terminal.step()
        if cut[0]:
            cut[0] = False
            terminal.boot()
    terminal.for_s(LONG_S)
    assert [one["outcome"] for one in terminal.situation.outcomes] == ["committed"]
    assert executions(action).count("closed") == 1


@pytest.mark.parametrize("at", range(0, 60, 6))
def test_power_cuts_anywhere_on_the_way(terminal: FleetTerminal, server: Server, bundle: Path, at: int) -> None:
    action = server.deploy(bundle)
    terminal.until(lambda: terminal.situation.update is not None)
    for _ in range(at * 4):
        if action.status == "finished":
            break
        terminal.step()
    terminal.boot()
    terminal.until(lambda: action.status == "finished", 4 * LONG_S)
    terminal.for_s(LONG_S)
    assert [one["outcome"] for one in terminal.situation.outcomes] == ["committed"]


def test_a_mailbox_that_is_lost_does_not_install_again(terminal: FleetTerminal, server: Server, bundle: Path) -> None:
    action = server.deploy(bundle)
    server.fail = lambda method, path: 503 if "feedback" in path else None
    terminal.until(lambda: bool(terminal.situation.outcomes))
    path = Path(terminal._parts.config.terminal.state_dir) / "fleet.json"
    for text in ("", "[]", '{"v":1}'):
        path.write_text(text)
        terminal.boot()
        terminal.for_s(60)
    server.fail = lambda method, path: None
    terminal.until(lambda: action.status == "finished")
    assert len(terminal.situation.outcomes) == 1


def test_weeks_without_a_server_and_the_last_word_is_still_told(
    terminal: FleetTerminal, server: Server, bundle: Path
) -> None:
    action = server.deploy(bundle)
    terminal.until(lambda: terminal.state is State.INSTALL)
    server.fail = lambda method, path: 0
    terminal.until(lambda: bool(terminal.situation.outcomes))
    before = server.requests
    terminal.for_s(14 * 86400)
    assert 14 * 86400 / 60 <= server.requests - before <= 14 * 86400 / 30, "it asks a quarter as often"
    told = terminal.ask("status")["fleet"]
    assert told["code"] == "fetch_network" and told["letters"] >= 1
    server.fail = lambda method, path: None
    terminal.until(lambda: action.status == "finished", 120)


def test_retry_after_is_kept(terminal: FleetTerminal, server: Server) -> None:
    terminal.for_s(30)
    server.fail = lambda method, path: 503
    before = server.requests
    terminal.for_s(300)
    assert server.requests - before <= 300 / 20


@pytest.mark.parametrize("status", [400, 403, 410, 404])
def test_a_letter_that_the_server_will_never_take_does_not_hold_up_the_others(
    terminal: FleetTerminal, server: Server, bundle: Path, status: int
) -> None:
    server.fail = lambda method, path: status if path.endswith("deploymentBase/1/feedback") else None
    server.deploy(bundle)
    terminal.until(lambda: bool(terminal.situation.outcomes))
    terminal.for_s(600)
    assert terminal.ask("status")["fleet"]["letters"] == 0


def test_few_words_are_said_however_long_it_takes(terminal: FleetTerminal, server: Server, bundle: Path) -> None:
    action = server.deploy(bundle)
    terminal.until(lambda: terminal.state is State.DOWNLOAD)
    for number in range(400):
        set_power(terminal.layout, battery=20 + number % 5, mains=False)
        terminal.for_s(30)
    set_power(terminal.layout, battery=90, mains=True)
    terminal.until(lambda: action.status == "finished")
    assert len(action.told) < 300
