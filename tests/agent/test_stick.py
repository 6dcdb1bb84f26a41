"""An update from whatever stick is plugged in: it is copied first, so the stick may be pulled out then."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from posagent.core.model import State
from posagent.core.ports import Message
from posagent.sim.inprocess import InProcessTerminal
from tests.conftest import Desk


@pytest.fixture
def terminal(in_process: Callable[[], InProcessTerminal]) -> InProcessTerminal:
    made = in_process()
    made.settle()
    return made


@pytest.fixture
def stick(terminal: InProcessTerminal) -> Path:
    path = terminal.layout.media / "sda1"
    path.mkdir(parents=True)
    return path


def asked(terminal: InProcessTerminal, verb: str, **args: object) -> Message:
    told: list[Message] = []
    terminal.api.call(verb, args, told.append, "somebody")
    terminal.run_until(lambda _: told != [])
    return told[-1]


def test_what_a_stick_offers_is_told_like_what_the_repository_does(
    terminal: InProcessTerminal, stick: Path, desk: Desk
) -> None:
    assert asked(terminal, "check", source="usb")["error"]["code"] == "fetch_no_stick"
    shutil.copy(desk.bundles["2.0.0"], stick / "x.bundle")
    answer = asked(terminal, "check", source="usb")["result"]
    assert (answer["verdict"], answer["offer"]["version"]) == ("go", "2.0.0")
    assert 0 < answer["bytes"] <= (stick / "x.bundle").stat().st_size and answer["estimate"]["outage"]
    assert answer["offer"]["staged"] is True


def test_the_stick_may_be_pulled_out_when_its_update_was_copied(
    terminal: InProcessTerminal, stick: Path, desk: Desk
) -> None:
    shutil.copy(desk.bundles["2.0.0"], stick / "x.bundle")
    started = asked(terminal, "update", source="usb")["result"]
    assert started["version"] == "2.0.0"
    terminal.run_until(lambda one: one.state is State.VERIFY)
    shutil.rmtree(stick)
    assert terminal.run_to_idle()["outcome"] == "committed"


def test_a_stick_that_is_pulled_out_too_early_and_put_back_is_gone_on_with(
    terminal: InProcessTerminal, stick: Path, desk: Desk
) -> None:
    path = Path(shutil.copy(desk.bundles["2.0.0"], stick / "x.bundle"))
    asked(terminal, "update", source="usb")
    terminal.run_until(lambda one: any(path.stat().st_size for path in one.layout.spool.glob("*.bundle")))
    path.rename(stick / "away")
    terminal.run_until(lambda one: one.situation.failure is not None or one.state is State.IDLE)
    assert terminal.state is State.DOWNLOAD, terminal.situation.last_outcome
    (stick / "away").rename(path)
    assert terminal.run_to_idle()["outcome"] == "committed"


@pytest.mark.parametrize("asked_again", [False, True], ids=["by itself", "asked for again"])
def test_a_stick_that_comes_back_under_another_name_is_gone_on_with(
    terminal: InProcessTerminal, stick: Path, desk: Desk, asked_again: bool
) -> None:
    shutil.copy(desk.bundles["2.0.0"], stick / "x.bundle")
    asked(terminal, "update", source="usb")
    terminal.run_until(lambda one: any(path.stat().st_size for path in one.layout.spool.glob("*.bundle")))
    stick.rename(terminal.layout.root / "away")
    terminal.run_until(lambda one: one.situation.failure is not None)
    assert terminal.state is State.DOWNLOAD
    there = next(terminal.layout.spool.glob("*.bundle")).stat().st_size
    if asked_again:
        terminal.ask("cancel")
        terminal.run_to_idle()
    (terminal.layout.root / "away").rename(stick.with_name("sdb1"))
    (stick.with_name("sdb1") / "x.bundle").rename(stick.with_name("sdb1") / "renamed.bundle")
    if asked_again:
        asked(terminal, "update", source="usb")
    terminal.run_until(lambda one: one.state is State.VERIFY)
    update = terminal.situation.update
    assert update is not None and update.bytes_refetched == 0 < there
    assert len(list(terminal.layout.spool.glob("*.bundle"))) == 1
    assert terminal.run_to_idle()["outcome"] == "committed"


def test_what_runs_already_is_nothing_new(terminal: InProcessTerminal, stick: Path, desk: Desk) -> None:
    shutil.copy(desk.bundles["1.0.0"], stick / "x.bundle")
    assert asked(terminal, "update", source="usb")["error"]["code"] == "no_update"
    assert asked(terminal, "check", source="usb")["result"]["verdict"] == "no"


def test_a_spoiled_stick_is_found_out_by_the_installer(terminal: InProcessTerminal, stick: Path, desk: Desk) -> None:
    path = Path(shutil.copy(desk.bundles["2.0.0"], stick / "x.bundle"))
    content = bytearray(path.read_bytes())
    place = content.index(b'"sig"', content.index(b"metadata/timestamp.json")) + 12  # the offer does not look at it
    content[place] = ord("1") if content[place] != ord("1") else ord("2")
    path.write_bytes(content)
    assert asked(terminal, "update", source="usb")["result"]["version"] == "2.0.0"
    outcome = terminal.run_to_idle()
    assert (outcome["outcome"], outcome["code"]) == ("failed", "signature_invalid")


@pytest.mark.parametrize("source", ["usb:", "USB", "stick", "/media/x", 7])
def test_a_check_knows_no_other_source(terminal: InProcessTerminal, source: object) -> None:
    assert asked(terminal, "check", source=source)["error"]["code"] == "bad_request"
