"""The laptop as a plain terminal program: a real keyboard (a pty) at the prompt of a terminal's real port."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from posagent.field.passage import LEAVE, pass_through


@dataclass
class Ends:
    """Of a line and of a keyboard: what a test holds of each, and what the program opens."""

    line: int
    port: str
    keys: int
    process: subprocess.Popen[bytes]

    def until(self, descriptor: int, told: bytes) -> bytes:
        """What comes, up to and with that. EIO is the end of a pty whose other side was closed."""
        seen = b""
        while told not in seen:
            seen += os.read(descriptor, 1)
        return seen


@pytest.fixture
def ends() -> Iterator[Ends]:
    line, port = pty.openpty()
    keys, screen = pty.openpty()
    name = os.ttyname(port)
    os.close(port)
    command = [sys.executable, "-m", "posagent.field.cli", "--lang", "en", "console", name]
    process = subprocess.Popen(command, stdin=screen, stdout=screen, stderr=screen, start_new_session=True)
    os.close(screen)
    yield Ends(line, name, keys, process)
    process.kill()
    process.wait()
    for descriptor in (line, keys):
        try:
            os.close(descriptor)
        except OSError:
            pass  # a test has pulled it


def test_keys_go_there_and_what_is_said_comes_here_until_it_is_left(ends: Ends) -> None:
    ends.until(ends.keys, b"Ctrl-] leaves")
    os.write(ends.line, b"posagent> ")
    ends.until(ends.keys, b"posagent> ")
    os.write(ends.keys, b"status\n")
    assert ends.until(ends.line, b"\r") == b"status\r"
    os.write(ends.keys, b"\x03")
    assert ends.until(ends.line, b"\x03") == b"\x03", "^C is the terminal's"
    os.write(ends.keys, LEAVE.encode())
    assert ends.process.wait(20) == 0


def test_a_pulled_cable_is_told_at_once_and_any_key_leaves(ends: Ends) -> None:
    ends.until(ends.keys, b"Ctrl-] leaves")
    os.write(ends.line, b"posagent> ")
    ends.until(ends.keys, b"posagent> ")
    os.close(ends.line)
    ends.until(ends.keys, b"the line is gone")
    os.write(ends.keys, b"x")
    assert ends.process.wait(20) == 5


def test_without_a_keyboard_it_is_refused() -> None:
    command = [sys.executable, "-m", "posagent.field.cli", "console", "/dev/null"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "[bad_request]" in done.stderr


class Keyboard:
    """Types `keys`, waiting for the screen to have been told before the last one."""

    def __init__(self, keys: str) -> None:
        self.keys = list(keys)
        self.screen = b""
        self.told = threading.Event()
        self.open = False

    def setup(self) -> None:
        self.open = True

    def cleanup(self) -> None:
        self.open = False

    def getkey(self) -> str:
        if len(self.keys) == 1:
            self.told.wait(20)
        return self.keys.pop(0) if self.keys else ""

    def write_bytes(self, byte_string: bytes) -> None:
        self.screen += byte_string
        self.told.set()


class Echo:
    """A port that says what it hears."""

    def __init__(self) -> None:
        self.heard = b""

    def read(self, timeout_s: float) -> bytes:
        data, self.heard = self.heard, b""
        return data

    def write(self, data: bytes) -> None:
        self.heard += data

    def close(self) -> None:
        return None


def test_other_systems_keyboards_give_keys_as_text() -> None:
    keyboard = Keyboard("ü" + LEAVE)
    assert pass_through(Echo(), keyboard, lambda: None)
    assert keyboard.screen.decode() == "ü" and not keyboard.open
