"""Ten simulated terminals of real processes, updated by one engineer with one command; three cables are pulled on the
way and come back under other names. The report is right."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from posagent.sim import layout
from posagent.sim.lab import Lab, SimulatedTerminal
from posagent.sim.layout import Settings
from tests.console.engineers import certify, make_key

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]

NAMES = [f"pos-{number}" for number in range(10)]
CURRENT, POOR, BROKEN = "pos-0", "pos-1", "pos-7"
"""Runs the version already; has an empty battery and no charger; fails its self-test with any new version."""
BEFORE_THE_END = "unlocking sending assessing download verify ready install activate self-test commit"
PULLED = {
    "pos-2": BEFORE_THE_END.split(),
    "pos-5": "download verify ready install activate self-test commit".split(),
    "pos-8": "install activate self-test commit".split(),
}
"""The cable is pulled as soon as one of these is seen: on the way there, in the midst of it, before or after the
restart: on a fast machine what comes after it is over before anybody has looked."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    base = Path(tempfile.mkdtemp(prefix="ten-"))
    made = Lab(base)
    yield made
    made.close()
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="module")
def images(lab: Lab) -> Mapping[str, Path]:
    made = {}
    for version in ("1.0.0", "2.0.0"):
        tree = lab.base / f"tree-{version}"
        tree.mkdir()
        (tree / "noise").write_bytes(os.urandom(300_000))
        made[version] = lab.image(version, tree=tree)
    return made


@pytest.fixture(scope="module")
def terminals(lab: Lab, images: Mapping[str, Path]) -> Iterator[dict[str, SimulatedTerminal]]:
    made = {}
    for name in NAMES:
        root = layout.create(
            lab.base / name,
            image=images["2.0.0" if name == CURRENT else "1.0.0"],
            keys_dir=lab.keys,
            settings=Settings(terminal=name, hardware=lab.hardware),
        )
        if name == POOR:
            layout.set_power(root, battery=20, mains=False)
        if name == BROKEN:
            config = re.sub(r"free_bytes_min = \d+", f"free_bytes_min = {1 << 40}", root.config.read_text())
            root.config.write_text(config)
        made[name] = SimulatedTerminal(root)
        made[name].switch_on()  # the engineer may well be there before it is up
    yield made
    for terminal in made.values():
        terminal.down()


class Visit:
    """`posagent-field run`, watched line by line; whoever watches pulls cables and brings a charger."""

    def __init__(self, terminals: Mapping[str, SimulatedTerminal]) -> None:
        self._terminals = terminals
        self.pulled: dict[str, str] = {}
        """In which stage each cable was pulled."""
        self.lines: list[str] = []

    def line(self, line: str) -> None:
        self.lines.append(line)
        name, *words = line.split()
        if name in PULLED and name not in self.pulled and (seen := set(words) & set(PULLED[name])):
            self.pulled[name] = min(seen)
            self._terminals[name].control("unplug")
        elif name in PULLED and "cable out" in line:
            self._terminals[name].control("plug", **{"as": "laptop-elsewhere"})
        elif name == POOR and "battery 20 %" in line:
            layout.set_power(self._terminals[name].layout, battery=60, mains=True)


@pytest.fixture(scope="module")
def certificate(lab: Lab) -> Path:
    return certify(lab.keys / "engineer-ca", make_key(lab.base / "engineer"), name="Li Wei")


@pytest.fixture(scope="module")
def visit(
    lab: Lab, images: Mapping[str, Path], terminals: dict[str, SimulatedTerminal], certificate: Path
) -> tuple[Visit, int]:
    watched = Visit(terminals)
    words = ["run", "--bundle", str(lab.bundle("2.0.0", images["2.0.0"])), "--key", str(certificate), "--plain"]
    words += ["--ports", f"{lab.base}/pos-*/dev/laptop*", "--count", "10", "--minutes", "6", "--out", f"{lab.base}/out"]
    command = [sys.executable, "-m", "posagent.field.cli", "--lang", "en", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            watched.line(line.rstrip())
    return watched, process.returncode


@pytest.fixture
def report(lab: Lab, visit: tuple[Visit, int]) -> dict[str, Any]:
    (path,) = (lab.base / "out").glob("visit-*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def rows(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["terminal"]: one for one in report["terminals"]}


def test_every_terminal_is_reported_as_it_fared(visit: tuple[Visit, int], report: Mapping[str, Any]) -> None:
    found = rows(report)
    assert sorted(found) == NAMES, visit[0].lines
    for name, row in found.items():
        ending = {CURRENT: "current", BROKEN: "rolled_back"}.get(name, "committed")
        assert (row["outcome"], row["wanted"]) == (ending, "2.0.0"), row
        assert row["before"] == ("2.0.0" if name == CURRENT else "1.0.0")
        assert row["after"] == ("1.0.0" if name == BROKEN else "2.0.0")
        assert row["code"] == ("selftest_failed" if name == BROKEN else "ok")
        assert row["ended_at"] >= row["started_at"] and row["problems"] == []
        assert row["bytes_sent"] == (0 if name == CURRENT else report["bundle"]["bytes"])
        assert [gate["gate"] for gate in row["gates"]] == (["power_install"] if name == POOR else [])
        known = {phase["phase"] for phase in row["phases"]}
        assert ({"unlocking", "sending"} <= known) is (name != CURRENT), known
    assert report["summary"] == {"committed": 8, "current": 1, "rolled_back": 1}


def test_the_pulled_cables_are_in_the_report_and_no_others(visit: tuple[Visit, int], report: Mapping[str, Any]) -> None:
    assert visit[0].pulled.keys() == PULLED.keys()
    for name, row in rows(report).items():
        assert row["pulled"]["times"] >= (name in PULLED), row["pulled"]  # a busy machine is silent now and then, too
        elsewhere = [Path(port).name for port in row["ports"]] == ["laptop", "laptop-elsewhere"]
        assert elsewhere is (name in PULLED), row["ports"]


def test_the_terminals_say_the_same(
    visit: tuple[Visit, int], report: Mapping[str, Any], terminals: Mapping[str, SimulatedTerminal]
) -> None:
    for name, row in rows(report).items():
        status = terminals[name].ask("status")
        assert status["slots"][status["booted"]]["version"] == row["after"]
        assert len(terminals[name].ask("history")["history"]) == (0 if name == CURRENT else 1), "updated once"


def test_the_report_is_signed_printable_and_the_exit_code_tells_that_one_failed(
    lab: Lab, visit: tuple[Visit, int], report: Mapping[str, Any]
) -> None:
    assert visit[1] == 4, visit[0].lines
    (path,) = (lab.base / "out").glob("visit-*.json")
    words = ["report", "verify", str(path), "--ca", str(lab.keys / "engineer-ca.pub"), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "posagent.field.cli", *words], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["engineer"] == report["engineer"]["name"] == "Li Wei"
    page = path.with_suffix(".html").read_text("utf-8")
    assert all(name in page for name in NAMES)
