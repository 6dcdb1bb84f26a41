"""A bundle with a delta between compressed images: taken where the terminal packs alike, else said and done without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from posagent.core.codec import no_codecs
from posagent.core.model import State
from posagent.installer import service
from posagent.release import bundle
from posagent.sim.inprocess import InProcessTerminal
from posagent.texts import status_lines
from tests.agent.test_deltas import fetched
from tests.conftest import HARDWARE, Desk
from tests.installer.packed import images

pytestmark = pytest.mark.real
Make = Callable[[], InProcessTerminal]


def built(desk: Desk, folder: Path) -> Path:
    for name, image in zip(("old", "new"), images("squashfs"), strict=True):
        (folder / name).write_bytes(image)
    return bundle.build(
        folder / "new",
        version="7.0.0",
        compatible=[HARDWARE],
        keys_dir=desk.keys,
        sources=[folder / "old"],
        out=folder / "7.0.0.bundle",
    )


def running_old(make: Make) -> InProcessTerminal:
    terminal = make()
    old = images("squashfs")[0]
    slot = terminal.layout.slot("a")
    slot.write_bytes(old + bytes(slot.stat().st_size - len(old)))
    return terminal


def test_a_delta_between_compressed_images_is_fetched_and_installed(
    in_process: Make, desk: Desk, tmp_path: Path
) -> None:
    source = built(desk, tmp_path)
    terminal = running_old(in_process)
    terminal.ask("update", source=str(source))
    terminal.run_until(lambda one: one.state is State.READY)
    update = terminal.ask("status")["update"]
    assert (update["kind"], update["refused"]) == ("delta", "")
    assert fetched(terminal) < 80_000 < source.stat().st_size / 3
    terminal.run_until(lambda one: one.state not in (State.READY, State.INSTALL))
    new = images("squashfs")[1]
    assert terminal.layout.slot("b").read_bytes()[: len(new)] == new


def test_a_terminal_that_packs_otherwise_says_so_and_takes_the_full_payload(
    in_process: Make, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "codec", no_codecs)
    source = built(desk, tmp_path)
    terminal = running_old(in_process)
    terminal.ask("update", source=str(source))
    terminal.run_until(lambda one: one.state is State.READY)
    status = terminal.ask("status")
    assert (status["update"]["kind"], status["update"]["refused"]) == ("full", "codec_differs")
    assert any("[codec_differs]" in line for line in status_lines(status, "en"))
    assert 80_000 < fetched(terminal) < source.stat().st_size
