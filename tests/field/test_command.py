"""posagent-field at one real simulated terminal: what each command says, in text, in JSON and by its exit code."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

import posagent
from posagent.sim.lab import Lab, SimulatedTerminal
from tests.console.engineers import certify, make_key

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
TROUBLE = "{0}: Could not configure port: (25, 'Inappropriate ioctl for device')"
"""pyserial's words for a file that is no port."""


@pytest.fixture(scope="module")
def terminal(lab: Lab) -> SimulatedTerminal:
    return lab.terminal("pos-1")


@pytest.fixture(scope="module")
def key(lab: Lab) -> str:
    return str(certify(lab.keys / "engineer-ca", make_key(lab.base / "engineer")))


def field(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "posagent.field.cli", "--lang", "en", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


def answer(*words: str) -> Any:
    done = field(*words, "--json")
    return json.loads(done.stdout)


def test_ports_says_who_answers_where(terminal: SimulatedTerminal, tmp_path: Path) -> None:
    port, silent = str(terminal.layout.laptop), tmp_path / "no-port"
    silent.touch()
    assert answer("ports", "--ports", port, str(silent), str(tmp_path / "gone")) == [
        {"port": port, "terminal": "pos-1", "version": "1.0.0", "state": "idle", "trouble": ""},
        {"port": str(silent), "terminal": "", "version": "", "state": "", "trouble": TROUBLE.format(silent)},
    ]
    assert field("ports", "--ports", port).stdout == f"{port}: pos-1 1.0.0, idle\n"


def test_status_is_the_terminals_own(terminal: SimulatedTerminal) -> None:
    shown = answer("status", str(terminal.layout.laptop))
    assert (shown["terminal"], shown["slots"]["a"]["version"]) == ("pos-1", "1.0.0")
    assert "slot a: 1.0.0, running" in field("status", str(terminal.layout.laptop)).stdout


def test_a_port_where_nobody_is_says_what_to_look_at(tmp_path: Path) -> None:
    done = field("status", str(tmp_path / "gone"))
    assert done.returncode == 5 and "[no_terminal]" in done.stderr and "Check the cable" in done.stderr


def test_a_simulated_cable_is_pulled_and_plugged_in_elsewhere(terminal: SimulatedTerminal) -> None:
    port, folder = terminal.layout.laptop, str(terminal.layout.root)
    sim = [sys.executable, "-m", "posagent.sim.cli"]
    subprocess.run([*sim, "unplug", folder], check=True, capture_output=True)
    assert field("status", str(port)).returncode == 5
    subprocess.run([*sim, "plug", folder, "--as", "elsewhere"], check=True, capture_output=True)
    assert answer("status", str(port.with_name("elsewhere")))["terminal"] == "pos-1"
    subprocess.run([*sim, "plug", folder], check=True, capture_output=True)
    assert not port.with_name("elsewhere").exists()
    assert answer("status", str(port))["terminal"] == "pos-1"


def test_watch_tells_every_change_until_it_is_interrupted(lab: Lab, terminal: SimulatedTerminal) -> None:
    command = [sys.executable, "-m", "posagent.field.cli", "watch", str(terminal.layout.laptop), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["state"] == "idle"
        process.send_signal(2)
        assert process.wait(20) == 130


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--role", "rollback"], 4, "not for the role rollback"),
        (["--bundle", "/dev/null"], 4, "[bundle_unreadable]"),
        (["--bundle", "/no/such"], 4, "[laptop_io]"),
    ],
)
def test_what_cannot_work_is_told_before_any_terminal_is_asked(
    key: str, tmp_path: Path, words: list[str], code: int, told: str
) -> None:
    done = field("run", "--key", key, "--ports", str(tmp_path / "x"), "--out", str(tmp_path / "out"), *words)
    assert (done.returncode, told in done.stderr) == (code, True), done.stderr
    assert not list(tmp_path.glob("out/*"))


def test_a_visit_where_nobody_answers_says_so(key: str, tmp_path: Path) -> None:
    done = field("run", "--key", key, "--ports", str(tmp_path / "x"), "--out", str(tmp_path / "out"))
    assert done.returncode == 5 and "[no_terminal]" in done.stderr


def test_terminals_fetch_by_themselves_and_the_second_visit_finds_nothing_to_do(
    lab: Lab, terminal: SimulatedTerminal, key: str, tmp_path: Path
) -> None:
    lab.publish("2.0.0")
    words = [
        "run",
        "--key",
        key,
        "--ports",
        str(terminal.layout.laptop),
        "--out",
        str(tmp_path / "out"),
        "--count",
        "1",
    ]
    first = answer(*words)
    (row,) = first["terminals"]
    assert (row["outcome"], row["before"], row["after"]) == ("committed", "1.0.0", "2.0.0")
    assert first["bundle"] is None and row["bytes_sent"] == 0 and first["summary"] == {"committed": 1}
    done = field(*words)
    assert done.returncode == 0 and "2.0.0 up to date" in done.stdout, done.stdout
    (report,) = (line.split(": ")[1] for line in done.stdout.splitlines() if line.startswith("visit report"))
    shown = field("report", "show", report).stdout
    assert "pos-1: 2.0.0 > 2.0.0, up to date" in shown and "Li Wei" in shown
    assert "--ca" in field("report", "verify", report).stdout, "without an authority only that it is unchanged"
    assert field("report", "verify", report, "--ca", str(lab.keys / "engineer-ca.pub")).returncode == 0
    Path(report).write_text(Path(report).read_text().replace("pos-1", "pos-2"))
    altered = field("report", "verify", report, "--ca", str(lab.keys / "engineer-ca.pub"))
    assert altered.returncode == 4 and "[report_altered]" in altered.stderr


def test_the_live_screen_in_a_real_window(lab: Lab, terminal: SimulatedTerminal, key: str, tmp_path: Path) -> None:
    lab.publish("2.0.0")
    window, inside = pty.openpty()
    termios.tcsetwinsize(window, (24, 80))
    words = ["run", "--key", key, "--ports", str(terminal.layout.laptop), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(
        [sys.executable, "-m", "posagent.field.cli", "--lang", "en", *words],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        env={**os.environ, "TERM": "xterm-256color"},
        start_new_session=True,
    )
    os.close(inside)
    seen = b""
    while b"1 of 1 done" not in seen or b"pos-1" not in seen:  # the sum may be drawn before the table
        seen += os.read(window, 65536)
    assert b"\x1b[?1049h" in seen, "a screen of its own"
    os.write(window, b"q")
    seen = b""
    while b"visit report: " not in seen:
        seen += os.read(window, 65536)
    assert b"\x1b[?1049l" in seen, "the shell is as it was"
    assert process.wait(60) == 0
    os.close(window)
    assert len(list((tmp_path / "out").glob("visit-*.sig"))) == 1


def test_version_and_help_need_no_terminal_and_no_screen() -> None:
    assert answer("version") == {"version": posagent.__version__}
    code = (
        "import sys, posagent.field.cli; print(sorted({'textual', 'rich', 'cryptography', 'tuf'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n", "what is heavy is loaded when it is needed"
