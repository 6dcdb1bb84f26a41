"""Whole simulated terminals and the real hawkBit server: `make test-fleet`. Skipped, and said so, where it is not to be
had."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from posagent.sim.lab import Lab, SimulatedTerminal
from posagent.sim.layout import set_power
from tests.fleet.between import Between
from tests.fleet.hawkbit import HawkBit, lacks
from tests.integration.conftest import noisy

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(900)]
TOKEN = "0123456789abcdef0123456789abcdef"
OUT = Path("build/fleet.json")
END_S = 180.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HawkBit]:
    if why := lacks():
        pytest.skip(why)
    made = HawkBit(tmp_path_factory.mktemp("hawkbit"), remembers=True)
    try:
        made.start()
        made.setting("authentication.targettoken.enabled", True)
        yield made
    finally:
        made.kill()


@pytest.fixture
def terminal(lab: Lab, server: HawkBit, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SimulatedTerminal]:
    name = f"f{zlib.crc32(request.node.name.encode())}"
    token = tmp_path / "token"
    token.write_text(TOKEN)
    server.target(name, TOKEN)
    made = lab.terminal(name, fleet_url=server.url, fleet_token_file=str(token))
    yield made
    made.down()


@pytest.fixture
def bundles(lab: Lab) -> dict[str, Path]:
    """Signed once, in the order of their versions."""
    made = getattr(lab, "fleet_bundles", None)
    if made is None:
        made = {
            "good": lab.bundle("2.9.0", noisy(lab, "2.9.0")),
            "bad": lab.bundle("2.9.1", noisy(lab, "2.9.1", broken="a fault")),
            "next": lab.bundle("2.9.2", noisy(lab, "2.9.2")),
        }
        lab.fleet_bundles = made  # type: ignore[attr-defined]
    return made


def name_of(terminal: SimulatedTerminal) -> str:
    return terminal.layout.settings.terminal


def told(server: HawkBit, terminal: SimulatedTerminal, action: str) -> list[str]:
    return [str(one["type"]) for one in server.statuses(name_of(terminal), action)]


def outcomes(terminal: SimulatedTerminal) -> list[str]:
    return [one["outcome"] for one in terminal.ask("history")["history"]]


def keep(name: str, outcome: str) -> None:
    """For build/fleet.json."""
    found: dict[str, Any] = json.loads(OUT.read_text()) if OUT.exists() else {}
    found.setdefault("scenarios", {})[name] = {"outcome": outcome}
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(found, indent=1, sort_keys=True))


@pytest.mark.parametrize("kind", ["forced", "soft"])
def test_an_action_ends_well_after_the_commit(
    server: HawkBit, terminal: SimulatedTerminal, bundles: dict[str, Path], kind: str
) -> None:
    action = server.assign(server.distribution("2.9.0", bundles["good"]), name_of(terminal), kind)
    found = server.ended(name_of(terminal), action, END_S)
    assert found == "finished"
    assert server.installed(name_of(terminal)) == "2.9.0"
    assert outcomes(terminal) == ["committed"]
    server.wait(lambda: server.attributes(name_of(terminal)).get("version") == "2.9.0", 30, "new version")
    keep(kind, "committed")


def test_a_rollback_is_reported_as_a_failure_with_the_reason(
    server: HawkBit, terminal: SimulatedTerminal, bundles: dict[str, Path]
) -> None:
    action = server.assign(server.distribution("2.9.1", bundles["bad"]), name_of(terminal))
    found = server.ended(name_of(terminal), action, END_S)
    assert found == "error"
    words = json.dumps(server.statuses(name_of(terminal), action)[-1])
    assert "selftest_failed" in words and "running: 1.0.0" in words
    assert outcomes(terminal) == ["rolled_back"]
    keep("rollback", "rolled_back")


def test_download_only_and_then_installed(
    server: HawkBit, terminal: SimulatedTerminal, bundles: dict[str, Path]
) -> None:
    distribution = server.distribution("2.9.0", bundles["good"])
    first = server.assign(distribution, name_of(terminal), "downloadonly")
    server.wait(lambda: server.how(name_of(terminal), first) == "downloaded", END_S, "download")
    assert outcomes(terminal) == []
    second = server.assign(server.distribution("2.9.0", bundles["good"]), name_of(terminal))
    assert server.ended(name_of(terminal), second, END_S) == "finished"
    keep("download-only", "downloaded, then committed")


def test_a_window_that_is_closed_and_then_open(
    server: HawkBit, terminal: SimulatedTerminal, bundles: dict[str, Path]
) -> None:
    window = {"schedule": "0 0 3 1 1 ? 2099", "duration": "02:00:00", "timezone": "+00:00"}
    distribution = server.distribution("2.9.0", bundles["good"])
    action = server.assign(distribution, name_of(terminal), maintenanceWindow=window)
    terminal.wait(lambda status: status["state"] == "ready", END_S)
    closed = terminal.wait(lambda status: any("window is closed" in one["reason"] for one in status["gates"]), 30)
    assert closed["state"] == "ready" and server.action(name_of(terminal), action)["active"]
    opened = server.assign(server.distribution("2.9.0", bundles["good"]), name_of(terminal))
    assert server.ended(name_of(terminal), opened, END_S) == "finished"
    assert outcomes(terminal) == ["cancelled", "committed"]
    keep("window", "closed: waits; open: committed")


@pytest.mark.parametrize("agreed", [True, False])
def test_the_merchant_is_asked(
    server: HawkBit, terminal: SimulatedTerminal, bundles: dict[str, Path], agreed: bool
) -> None:
    server.setting("user.confirmation.flow.enabled", True)
    try:
        distribution = server.distribution("2.9.0", bundles["good"])
        action = server.assign(distribution, name_of(terminal), confirmationRequired=True)
        terminal.wait(lambda status: status["update"] is not None, END_S)
        if agreed:
            terminal.wait(lambda status: status["state"] == "ready", END_S)
            terminal.ask("confirm")
            assert server.ended(name_of(terminal), action, END_S) == "finished"
        else:
            terminal.ask("cancel")
            server.wait(
                lambda: "rejected action" in json.dumps(server.statuses(name_of(terminal), action)), 60, "denial"
            )
            assert outcomes(terminal) == ["cancelled"]
    finally:
        server.setting("user.confirmation.flow.enabled", False)
    keep(f"confirmation {'granted' if agreed else 'denied'}", "committed" if agreed else "not begun")


ORDER = ("download", "verify", "ready", "install", "activate", "selftest", "commit")


@pytest.mark.parametrize("state", ORDER[:-1])  # a commit is over before anybody could ask
def test_a_cancel_in_each_phase(
    server: HawkBit, terminal: SimulatedTerminal, bundles: dict[str, Path], state: str
) -> None:
    if state == "ready":
        set_power(terminal.layout, battery=20, mains=False)
    action = server.assign(server.distribution("2.9.0", bundles["good"]), name_of(terminal))
    terminal.wait(lambda status: status["state"] in ORDER[ORDER.index(state) :], END_S)
    server.cancel(name_of(terminal), action)
    found = server.ended(name_of(terminal), action, END_S)
    ends = {"canceled": ["cancelled"], "finished": ["committed"]}[found]
    assert outcomes(terminal) == ends
    keep(f"cancel in {state}", ends[0])


@pytest.mark.parametrize("moment", ["download", "install", "selftest"])
def test_the_server_is_killed_and_comes_back(
    server: HawkBit, terminal: SimulatedTerminal, bundles: dict[str, Path], moment: str
) -> None:
    action = server.assign(server.distribution("2.9.0", bundles["good"]), name_of(terminal))
    terminal.wait(lambda status: status["state"] in (moment, "commit") or status["last_outcome"], END_S)
    server.kill()
    if moment != "download":
        terminal.wait(lambda status: (status["last_outcome"] or {}).get("outcome") == "committed", END_S)
    server.start()
    assert server.ended(name_of(terminal), action, END_S) == "finished"
    assert outcomes(terminal)[-1] == "committed" and outcomes(terminal).count("committed") == 1
    keep(f"server killed in {moment}", "committed")


@pytest.mark.parametrize("moment", ["download", "install", "selftest"])
def test_the_terminal_loses_its_power(
    server: HawkBit, terminal: SimulatedTerminal, bundles: dict[str, Path], moment: str
) -> None:
    action = server.assign(server.distribution("2.9.0", bundles["good"]), name_of(terminal))
    terminal.wait(lambda status: status["state"] == moment or status["last_outcome"], END_S)
    terminal.control("cut", off_s=0.2)
    assert server.ended(name_of(terminal), action, END_S) == "finished"
    assert outcomes(terminal) == ["committed"], "never twice"
    keep(f"power cut in {moment}", "committed")


MESSAGES = (
    *("GET base", "GET deploymentBase", "PUT configData"),
    *("POST download", "POST scheduled", "POST proceeding", "POST closed"),
)
"""Of an update that waits for the charger once, from the first to the last."""


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("what", ["server killed", "answer lost", "power cut"])
def test_at_each_message(
    server: HawkBit, lab: Lab, bundles: dict[str, Path], tmp_path: Path, what: str, message: str
) -> None:
    between = Between(server)
    name = f"m{zlib.crc32(f'{what} {message}'.encode())}"
    (tmp_path / "token").write_text(TOKEN)
    server.target(name, TOKEN)
    terminal = lab.terminal(name, fleet_url=between.url, fleet_token_file=str(tmp_path / "token"))
    try:
        server.wait(lambda: (server.attributes(name) or {}).get("version") == "1.0.0", 60, "attributes")
        set_power(terminal.layout, battery=20, mains=False)
        between.act = {
            "server killed": server.kill,
            "answer lost": lambda: None,
            "power cut": lambda: terminal.control("cut", off_s=0.2),
        }[what]
        between.forwarded = what != "server killed"
        action = server.assign(server.distribution("2.9.0", bundles["good"]), name)
        between.at = message
        if message not in ("POST proceeding", "POST closed", "PUT configData"):
            assert between.acted.wait(END_S), so_far(between, terminal)
            revive(server)
            server.wait(lambda: "POST scheduled" in between.seen, END_S, "news of the battery")
        set_power(terminal.layout, battery=90, mains=True)
        assert between.acted.wait(END_S), so_far(between, terminal)
        revive(server)
        assert server.ended(name, action, END_S) == "finished"
        terminal.wait(lambda status: status["fleet"]["letters"] == 0, 60)
        assert outcomes(terminal) == ["committed"], "never twice"
    finally:
        revive(server)
        terminal.down()
        between.close()
    keep(f"{what} at {message}", "committed")


def so_far(between: Between, terminal: SimulatedTerminal) -> str:
    """For a failure's message."""
    told = terminal.ask("status")
    shown = {name: told[name] for name in ("state", "update", "failure", "fleet", "last_outcome", "problems")}
    return f"{between.seen[-40:]}\n{json.dumps(shown)}"


def revive(server: HawkBit) -> None:
    if not server.running:
        server.start()


def test_two_bundles_in_one_distribution(
    server: HawkBit, terminal: SimulatedTerminal, bundles: dict[str, Path]
) -> None:
    distribution = server.distribution("2.9.2", bundles["good"], bundles["next"])
    action = server.assign(distribution, name_of(terminal))
    assert server.ended(name_of(terminal), action, 2 * END_S) == "finished"
    assert outcomes(terminal) == ["committed", "committed"]
    keep("two bundles", "committed, committed")


def test_a_roll_out_whose_canary_fails_stops(
    server: HawkBit, lab: Lab, bundles: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    names = [f"canary{number}" for number in range(3)]
    made = []
    for name in names:
        server.target(name, TOKEN)
        made.append(lab.terminal(name, fleet_url=server.url, fleet_token_file=str(tmp_path / "token")))
    try:
        distribution = server.distribution("2.9.1", bundles["bad"])
        server.ask(
            "POST",
            "rollouts",
            {
                "name": "canary",
                "distributionSetId": distribution,
                "targetFilterQuery": "name==canary*",
                "type": "forced",
                "groups": [
                    {
                        "name": "one",
                        "targetFilterQuery": "name==canary0",
                        "targetPercentage": 100,
                        "successCondition": {"condition": "THRESHOLD", "expression": "100"},
                        "errorCondition": {"condition": "THRESHOLD", "expression": "1"},
                        "errorAction": {"action": "PAUSE", "expression": ""},
                    },
                    {"name": "rest", "targetPercentage": 100},
                ],
            },
        )
        rollout = server.ask("GET", "rollouts?q=name==canary")["content"][0]["id"]
        server.wait(lambda: server.ask("GET", f"rollouts/{rollout}")["status"] == "ready", 60, "a ready roll-out")
        server.ask("POST", f"rollouts/{rollout}/start")
        server.wait(lambda: server.ask("GET", f"rollouts/{rollout}")["status"] == "paused", END_S, "the stop")
        assert [outcomes(one) for one in made] == [["rolled_back"], [], []]
    finally:
        for one in made:
            one.down()
    keep("roll-out whose canary fails", "paused")
