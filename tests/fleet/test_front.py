"""Faults of a real nginx in front of the fleet server: what the terminal says of each, and that it ends well after it.

The terminal lives in virtual time; what it asks and downloads goes through nginx and TLS. docs/fleet.md has the table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from posagent.config import FetchConfig
from posagent.core.model import State
from posagent.fetcher.ddi import Ddi
from posagent.fetcher.http import Credentials, HttpClient
from tests.conftest import Desk
from tests.fleet.front import Front
from tests.fleet.server import Server
from tests.fleet.test_terminal import FleetTerminal

pytestmark = pytest.mark.real
DOCS = Path(__file__).parents[2] / "docs/fleet.md"
SERVER = {
    "reset": "fetch_network",
    "slow": "fetch_stalled",
    "truncated": "fetch_length",
    "too short": "fleet_answer",
    "too long": "fetch_length",
    "500": "fetch_status",
    "503": "fetch_status",
    "bad gateway": "fetch_status",
    "portal": "fetch_portal",
    "expired": "fetch_tls",
}
"""What is said of each fault of what terminals ask."""
BUNDLES = SERVER | {"too short": "fetch_length"}
"""And of what they download."""


class Behind(FleetTerminal):
    """One that reaches its server through nginx."""

    front: Front

    def ddi(self) -> Ddi:
        return Ddi(client(self.front), f"{self.front.url}/DEFAULT", "t")


def client(front: Front, certificate: bool = True) -> HttpClient:
    config = FetchConfig(ca_file=str(front.ca), stall_timeout_s=1, connect_timeout_s=5)
    own = Credentials(
        url=front.url,
        certificate_file=f"{front.client}.pem" if certificate else "",
        certificate_key_file=f"{front.client}.key" if certificate else "",
    )
    return HttpClient(config, own)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def front(tmp_path: Path, server: Server, request: pytest.FixtureRequest) -> Iterator[Front]:
    made = Front(tmp_path / "front", server, mutual="by_its_certificate" in request.node.name)
    yield made
    made.close()


@pytest.fixture
def terminal(in_process: Callable[..., Any], server: Server, front: Front) -> Behind:
    kind = type("Mine", (Behind,), {"server": server, "front": front})
    made: Behind = in_process(kind=kind, server=lambda _: client(front))
    return made


@pytest.fixture
def bundle(desk: Desk) -> Path:
    return Path(desk.bundles["2.0.0"])


def fleet(terminal: Behind) -> Any:
    return terminal.ask("status")["fleet"]


@pytest.mark.parametrize("fault", SERVER)
def test_a_fault_of_what_it_asks_is_told_and_then_all_goes_on(
    terminal: Behind, front: Front, server: Server, bundle: Path, fault: str
) -> None:
    front.fault("server", fault)
    action = server.deploy(bundle)
    terminal.until(lambda: fleet(terminal)["failures"] >= 2)
    assert fleet(terminal)["code"] == SERVER[fault]
    assert not terminal.situation.outcomes and terminal.situation.update is None
    front.fault("server")
    terminal.until(lambda: action.status == "finished")
    assert [one["outcome"] for one in terminal.situation.outcomes] == ["committed"]
    assert fleet(terminal)["failures"] == 0


@pytest.mark.parametrize("fault", SERVER)
def test_a_fault_while_the_last_word_is_told_repeats_it_and_installs_nothing_again(
    terminal: Behind, front: Front, server: Server, bundle: Path, fault: str
) -> None:
    action = server.deploy(bundle)
    terminal.until(lambda: terminal.state is State.INSTALL)
    front.fault("server", fault)
    terminal.until(lambda: bool(terminal.situation.outcomes))
    terminal.until(lambda: fleet(terminal)["failures"] >= 2)
    front.fault("server")
    terminal.until(lambda: action.status == "finished")
    terminal.until(lambda: not fleet(terminal)["letters"])
    assert [one["outcome"] for one in terminal.situation.outcomes] == ["committed"]


@pytest.mark.parametrize("fault", BUNDLES)
def test_a_fault_of_what_it_downloads_is_told_and_the_download_goes_on_after_it(
    terminal: Behind, front: Front, server: Server, bundle: Path, fault: str
) -> None:
    front.fault("bundles", fault)
    action = server.deploy(bundle)
    if fault == "expired":  # the same certificate is for both: it has to hear of the action first
        front.fault("bundles")
        terminal.until(lambda: terminal.situation.update is not None)
        front.fault("bundles", fault)
    terminal.until(lambda: terminal.situation.failure is not None)
    assert terminal.situation.failure is not None and terminal.situation.failure["code"] == BUNDLES[fault]
    front.fault("bundles")
    terminal.until(lambda: action.status == "finished")
    assert [one["outcome"] for one in terminal.situation.outcomes] == ["committed"]


def test_a_terminal_says_who_it_is_by_its_certificate(
    terminal: Behind, front: Front, server: Server, bundle: Path
) -> None:
    action = server.deploy(bundle)
    terminal.until(lambda: action.status == "finished")
    assert set(front.names) == {"t"}
    answer = client(front, certificate=False).call("GET", f"{front.url}/DEFAULT/controller/v1/t")
    assert answer.status == 400, "without one nginx lets nobody through"


def test_the_page_has_each_fault_and_what_is_said_of_it() -> None:
    page = DOCS.read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([a-z0-9 ]+) \|[^|]*\| `(\w+)` \| `(\w+)` \|", page, re.MULTILINE)
    assert {fault: (asked, fetched) for fault, asked, fetched in rows} == {
        fault: (SERVER[fault], BUNDLES[fault]) for fault in SERVER
    }
