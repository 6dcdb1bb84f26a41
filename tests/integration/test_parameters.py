"""Parameters on a whole terminal: alone, without a restart, and together with an image; real processes throughout."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from posagent.release import bundle, repository
from posagent.sim.lab import Lab, SimulatedTerminal
from tests.integration.conftest import noisy

pytestmark = pytest.mark.real
GOOD = {"currencies": ["EUR", "CHF"], "limit": 5000}


@pytest.fixture
def terminal(lab: Lab, request: pytest.FixtureRequest) -> Iterator[SimulatedTerminal]:
    made = lab.terminal(f"p{zlib.crc32(request.node.name.encode())}", shop="petrol_24h", shop_speed=300.0)
    yield made
    made.down()


def build(lab: Lab, path: Path, version: str, values: Any, image: Path | None = None, image_version: str = "") -> Path:
    path.write_text(json.dumps(values))
    return bundle.build(
        image,
        version=image_version or version,
        parameters=(path, version),
        compatible=[lab.hardware],
        keys_dir=lab.keys,
        out=path.with_suffix(".bundle"),
    )


def shown(terminal: SimulatedTerminal) -> Any:
    path = terminal.layout.parameters
    return json.loads(path.read_text()) if path.exists() else None


def update(lab: Lab, terminal: SimulatedTerminal, made: Path) -> dict[str, Any]:
    url = f"{lab.web.url}/{repository.publish(made, lab.repository)['bundle']}"
    return terminal.wait_outcome(terminal.ask("update", source=url)["id"])


def posagent(terminal: SimulatedTerminal, *words: str) -> str:
    command = [sys.executable, "-m", "posagent.cli", "--socket", str(terminal.layout.api), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout


def test_alone_they_take_no_restart_and_what_fails_its_test_is_withdrawn(
    lab: Lab, terminal: SimulatedTerminal, tmp_path: Path
) -> None:
    boots = terminal.control("state")["boots"]
    outcome = update(lab, terminal, build(lab, tmp_path / "one", "emv-7", GOOD))
    assert (outcome["outcome"], outcome["kind"], outcome["version"]) == ("committed", "parameters", "emv-7")
    assert shown(terminal) == GOOD
    outcome = update(lab, terminal, build(lab, tmp_path / "two", "emv-8", {"currencies": ["USD"]}))
    assert (outcome["outcome"], outcome["code"], outcome["from_version"]) == ("rolled_back", "selftest_failed", "emv-7")
    assert "no currency is left" in outcome["detail"]
    assert shown(terminal) == GOOD
    outcome = update(lab, terminal, build(lab, tmp_path / "three", "emv-9", {"currencies": []}))
    assert (outcome["outcome"], outcome["code"]) == ("failed", "parameters_invalid")
    assert shown(terminal) == GOOD
    assert terminal.control("state")["boots"] == boots, "nothing was restarted"
    assert "parameters: emv-7" in posagent(terminal, "data")
    evidence = json.loads(posagent(terminal, "evidence", "--json"))
    assert "emv-9" in json.dumps(evidence)
    terminal.control("cut", off_s=0.1)
    terminal.wait(lambda status: status["booted"] is not None and shown(terminal) == GOOD, 60)


def test_an_application_that_cannot_reload_does_not_keep_the_terminal_from_selling(
    lab: Lab, terminal: SimulatedTerminal, tmp_path: Path
) -> None:
    assert update(lab, terminal, build(lab, tmp_path / "one", "emv-20", GOOD))["outcome"] == "committed"
    terminal.wait(lambda _: "data" not in terminal.control("state")["pids"], 60)  # it reads its configuration anew
    config = terminal.layout.config
    config.write_text(config.read_text().replace('"posagent.sim.cli", "reload"', '"posagent.sim.cli", "no-such-verb"'))
    boots = terminal.control("state")["boots"]
    outcome = update(lab, terminal, build(lab, tmp_path / "two", "emv-21", {"currencies": ["EUR"]}))
    assert (outcome["outcome"], outcome["code"]) == ("failed", "parameters_reload")
    terminal.wait(lambda _: terminal.control("state")["boots"] > boots, 60)
    status = terminal.wait(lambda status: status["booted"] is not None and shown(terminal) == GOOD, 60)
    assert status["state"] == "idle", "the application was started, with the set that it had"


def test_with_an_image_they_stay_with_it_and_go_with_it(lab: Lab, terminal: SimulatedTerminal, tmp_path: Path) -> None:
    assert update(lab, terminal, build(lab, tmp_path / "one", "emv-10", GOOD))["outcome"] == "committed"
    new = {"currencies": ["EUR"], "limit": 1}
    broken = noisy(lab, "2.8.0", data_format=2, broken="a fault")
    outcome = update(lab, terminal, build(lab, tmp_path / "two", "emv-11", new, broken, "2.8.0"))
    assert (outcome["outcome"], outcome["version"]) == ("rolled_back", "2.8.0")
    assert shown(terminal) == GOOD
    image = noisy(lab, "2.8.1", data_format=2)
    outcome = update(lab, terminal, build(lab, tmp_path / "three", "emv-12", new, image, "2.8.1"))
    assert (outcome["outcome"], outcome["record"]["parameters"]) == ("committed", "emv-12")
    assert shown(terminal) == new
