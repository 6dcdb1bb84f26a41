"""What a terminal makes of an offer that nobody looks after, in virtual time: what ends it, what only puts it off, and
what lets it be installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from posagent.core.fleet import REST_S, Artifact, Deployment, Heard
from posagent.core.model import State
from posagent.core.ports import Message
from posagent.fetcher.ddi import Ddi, told
from posagent.release import files
from posagent.sim.layout import set_power
from tests.conftest import Desk
from tests.fleet.server import Server
from tests.fleet.test_terminal import FleetTerminal


class Offering:
    """Says the same each time it is asked, until that is exchanged."""

    def __init__(self) -> None:
        self.deployment: Deployment | None = None
        self.reminded: list[str] = []
        self.sleep_s = 10.0

    def offer(self, bundle: Path, version: str, action: str = "one", **more: Any) -> None:
        one = Artifact(name=version, url=str(bundle), length=bundle.stat().st_size, sha256=files.sha256(bundle))
        self.deployment = Deployment(action=action, version=version, artifacts=(one,), standing=True, **more)

    def exchange(self, args: Mapping[str, Any]) -> Iterator[Message]:
        self.reminded.append(args["seen"])
        for letter in args["letters"]:
            yield {"progress": {"acknowledged": letter["key"]}}
        yield {"result": told(Heard(sleep_s=self.sleep_s, deployment=self.deployment, seen="what was seen"))}


class Following(FleetTerminal):
    offering: Offering

    def ddi(self) -> Ddi:
        return self.offering  # type: ignore[return-value]


@pytest.fixture
def offering() -> Offering:
    return Offering()


@pytest.fixture
def terminal(in_process: Callable[..., Any], offering: Offering) -> Following:
    made: Following = in_process(kind=type("Mine", (Following,), {"server": Server(), "offering": offering}))
    return made


def ends(terminal: Following) -> list[str]:
    return [str(one["outcome"]) for one in terminal.situation.outcomes]


def test_a_version_that_has_failed_is_not_tried_again_and_another_is(
    terminal: Following, offering: Offering, desk: Desk
) -> None:
    offering.offer(Path(desk.bundles["3.0.0"]), "3.0.0")
    terminal.until(lambda: ends(terminal) == ["rolled_back"])
    offering.sleep_s = 3600.0
    terminal.for_s(3 * REST_S)
    offering.sleep_s = 10.0
    assert ends(terminal) == ["rolled_back"]
    offering.offer(Path(desk.bundles["3.0.0"]), "3.0.0", action="again")
    terminal.until(lambda: ends(terminal) == ["rolled_back", "rolled_back"])
    assert offering.reminded[-1] == "what was seen"


def test_what_a_person_has_ended_rests_for_a_day(terminal: Following, offering: Offering, desk: Desk) -> None:
    set_power(terminal.layout, battery=20, mains=False)
    offering.offer(Path(desk.bundles["2.0.0"]), "2.0.0")
    terminal.until(lambda: terminal.state is State.READY)
    terminal.ask("cancel")
    offering.sleep_s = 1800.0
    terminal.for_s(REST_S - 3600)
    assert ends(terminal) == ["cancelled"] and terminal.situation.update is None
    set_power(terminal.layout, battery=90, mains=True)
    terminal.until(lambda: ends(terminal) == ["cancelled", "committed"], 3 * 3600)


def test_an_offer_that_is_taken_back_waits_and_goes_on(terminal: Following, offering: Offering, desk: Desk) -> None:
    set_power(terminal.layout, battery=20, mains=False)
    offering.offer(Path(desk.bundles["2.0.0"]), "2.0.0")
    terminal.until(lambda: terminal.state is State.READY)
    offering.deployment = None
    terminal.for_s(60)
    set_power(terminal.layout, battery=90, mains=True)
    terminal.for_s(120)
    assert terminal.state is State.READY and not ends(terminal)
    offering.offer(Path(desk.bundles["2.0.0"]), "2.0.0")
    terminal.until(lambda: ends(terminal) == ["committed"])


def test_an_offer_that_was_heard_of_too_long_ago_is_not_installed(
    terminal: Following, offering: Offering, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_power(terminal.layout, battery=20, mains=False)
    offering.offer(Path(desk.bundles["2.0.0"]), "2.0.0", lasts_s=120.0)
    terminal.until(lambda: terminal.state is State.READY)
    heard = offering.exchange

    def away(args: Mapping[str, Any]) -> Iterator[Message]:
        yield {"error": {"code": "fetch_network", "detail": "nobody is there"}}

    monkeypatch.setattr(offering, "exchange", away)
    terminal.start_agent()  # whose worker asks the same
    terminal.for_s(200)
    set_power(terminal.layout, battery=90, mains=True)
    terminal.for_s(120)
    assert terminal.state is State.READY, "it may have been stopped meanwhile"
    monkeypatch.setattr(offering, "exchange", heard)
    terminal.start_agent()
    terminal.until(lambda: ends(terminal) == ["committed"])


def test_the_channel_goes_back_to_one_that_has_failed_here(terminal: Following, offering: Offering, desk: Desk) -> None:
    offering.offer(Path(desk.bundles["3.0.0"]), "3.0.0")
    terminal.until(lambda: ends(terminal) == ["rolled_back"])
    set_power(terminal.layout, battery=20, mains=False)
    offering.offer(Path(desk.bundles["4.0.0"]), "4.0.0", action="two")
    terminal.until(lambda: terminal.state is State.READY)
    offering.offer(Path(desk.bundles["3.0.0"]), "3.0.0")
    terminal.for_s(60)
    set_power(terminal.layout, battery=90, mains=True)
    terminal.for_s(120)
    assert ends(terminal) == ["rolled_back"], "the other one was withdrawn"
