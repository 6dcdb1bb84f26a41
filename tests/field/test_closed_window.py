"""The window of a live screen is closed: the visit ends as if the engineer had left it, and nothing is left running."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import termios
from pathlib import Path
from typing import TextIO, cast

import pytest
from textual.drivers._writer_thread import MAX_QUEUED_WRITES, WriterThread

from posagent.field.window import Pane
from posagent.sim import layout
from posagent.sim.lab import Lab, SimulatedTerminal
from tests.console.engineers import certify, make_key

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]
ENDS_S = 120.0
"""On a busy machine; at a desk it is one or two."""


@pytest.fixture(scope="module")
def terminal(lab: Lab) -> SimulatedTerminal:
    """It has an empty battery and no charger: an update waits."""
    made = lab.terminal("pos-1")
    lab.publish("2.0.0")
    layout.set_power(made.layout, battery=20, mains=False)
    return made


def test_what_is_drawn_on_a_window_that_has_gone_is_drawn_nowhere_and_holds_up_nobody() -> None:
    window, inside = pty.openpty()
    writer = WriterThread(cast(TextIO, Pane(os.fdopen(inside, "w"))))
    writer.start()
    os.close(window)
    for _ in range(4 * MAX_QUEUED_WRITES):
        writer.write("x" * 5000)
    writer.stop()
    assert not writer.is_alive()


class Watched:
    """`posagent-field run` in a window; `controlling` says whether the system tells it when that is closed."""

    def __init__(self, lab: Lab, terminal: SimulatedTerminal, out: Path, *more: str, controlling: bool) -> None:
        key = out.with_name("engineer")
        certificate = certify(lab.keys / "engineer-ca", make_key(key))
        self._window, inside = pty.openpty()
        termios.tcsetwinsize(self._window, (24, 80))
        words = [
            "--lang",
            "en",
            "run",
            "--key",
            str(certificate),
            "--ports",
            str(terminal.layout.laptop),
            "--out",
            str(out),
            *more,
        ]
        self.process = subprocess.Popen(
            [*(["setsid", "--ctty"] if controlling else []), sys.executable, "-m", "posagent.field.cli", *words],
            stdin=inside,
            stdout=inside,
            stderr=inside,
            env={**os.environ, "TERM": "xterm-256color"},
            start_new_session=not controlling,
        )
        os.close(inside)

    def read_until(self, text: bytes) -> None:
        seen = b""
        while text not in seen:
            seen += os.read(self._window, 65536)

    def close(self) -> None:
        os.close(self._window)


def outcome(out: Path) -> str:
    """Of the only terminal in the only report, which is signed."""
    (path,) = out.glob("visit-*.json")
    assert path.with_name(path.name + ".sig").exists()
    return str(json.loads(path.read_text())["terminals"][0]["outcome"])


@pytest.mark.parametrize("controlling", [True, False], ids=["told", "not told"])
@pytest.mark.parametrize("plain", [False, True], ids=["screen", "lines"])
def test_a_closed_window_ends_the_visit_with_a_report(
    lab: Lab, terminal: SimulatedTerminal, tmp_path: Path, controlling: bool, plain: bool
) -> None:
    visit = Watched(lab, terminal, tmp_path / "out", *(["--plain"] if plain else []), controlling=controlling)
    visit.read_until(b"battery")
    visit.close()
    assert visit.process.wait(ENDS_S) == 130
    assert outcome(tmp_path / "out") == "left"
    assert terminal.ask("status")["update"] is not None, "the update goes on without the laptop"


def test_a_process_that_is_asked_to_end_leaves_the_window_as_it_was(
    lab: Lab, terminal: SimulatedTerminal, tmp_path: Path
) -> None:
    visit = Watched(lab, terminal, tmp_path / "out", controlling=False)
    visit.read_until(b"battery")
    visit.process.send_signal(signal.SIGTERM)
    visit.read_until(b"\x1b[?1049l")
    visit.read_until(b"visit report: ")
    assert visit.process.wait(ENDS_S) == 130
    visit.close()
    assert outcome(tmp_path / "out") == "left"
